//! The host in miniature: what every process's own book says is what the stream says of it.

use tests::host::agreement::differences;
use tests::host::director::Director;
use tests::host::observed::Observed;
use tests::host::program::{BINARIES, Place, Program};
use tests::life::summary;
use tests::observer::Observer;

fn steps(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

#[test]
fn each_binary_agrees_with_its_own_book_where_it_is_observed_alone() {
    let mut director = Director::new("alone");
    director.hold(true);
    let programs: Vec<Program> = (0..BINARIES).map(Program::number).collect();
    let mut observers = Vec::new();
    for (number, program) in programs.iter().enumerate() {
        let token = format!("{number}");
        director.start(&token, *program, Place::Here, &steps("run=3 leave=2"));
        let pid = director.announced(&program.root(&token));
        observers.push(Observer::attach(pid, &[]));
    }
    director.hold(false);
    let ended = director.finish();
    assert!(ended.values().all(std::process::ExitStatus::success), "{ended:?}");
    let lives = director.lives();
    assert_eq!(lives.len(), BINARIES);
    let mut wrong = Vec::new();
    for (life, observer) in lives.iter().zip(observers) {
        let stream = observer.stream();
        let observed = Observed::of(&stream.lines);
        wrong.extend(observed.faults.iter().cloned());
        let [seen] = observed.by_pid[&life.pid].as_slice() else { panic!("one life: {observed:?}") };
        let found = differences(life, seen);
        println!("{:?}: {} born, {} differences", programs[life.token.parse::<usize>().unwrap()], seen.lives.by_id.len(), found.len());
        wrong.extend(found);
    }
    assert!(wrong.is_empty(), "{}", summary(&wrong));
}
