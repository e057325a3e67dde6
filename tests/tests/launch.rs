//! `-- CMD`: launched under observation, seen from the first instruction to the last.

use std::process::Command;

use tests::fixture::{Scratch, path};
use tests::life::Lives;
use tests::observer::{Observer, program};
use tests::stream::Stream;
use tests::truth::differences;

/// Runs a command under observation; gives the stream, and what the command wrote.
fn launched(cell: &str, name: &str) -> (Stream, Vec<String>) {
    let place = Scratch::new(&format!("launch-{cell}"));
    let file = place.path().join("events.jsonl");
    let mut observer = Observer::run_as(
        Command::new(program()).args(["--json", "--output"]).arg(&file).arg("--").arg(path(cell, name)),
    );
    let ended = observer.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr.join("\n"));
    let text = std::fs::read_to_string(&file).expect("the observer wrote its output");
    let lines: Vec<String> = text.lines().map(String::from).collect();
    let stream = Stream::parse(&lines).unwrap_or_else(|wrong| panic!("the observer's output: {wrong}"));
    (stream, ended.stdout)
}

#[test]
fn a_launched_program_is_seen_whole() {
    for cell in ["newest-release", "newest-fat", "newest-nopie", "newest-static"] {
        let (stream, output) = launched(cell, "matrix-glibc");
        let truth = output.iter().find(|line| line.contains("\"truth\":true"));
        let truth = truth.unwrap_or_else(|| panic!("{cell}: the program's own output is passed on: {output:?}"));
        let truth = serde_json::from_str(truth).expect("the truth is JSON");
        assert_eq!(stream.end()["reason"], "exited");
        let lives = Lives::of(&stream);
        lives.assert_sane(cell);
        assert_eq!(differences(&stream, &lives, &truth), Vec::<String>::new(), "{cell}");
    }
}

#[test]
fn a_command_that_does_not_exist_is_refused_with_its_name() {
    let mut observer = Observer::run(["--json", "--", "/no/such/program"]);
    let ended = observer.ended();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.is_empty(), "nothing is said on stdout: {:?}", ended.stdout);
    assert!(ended.stderr.iter().any(|line| line.contains("/no/such/program")), "{:?}", ended.stderr);
    assert!(ended.stderr.iter().any(|line| line.starts_with("next step: ")), "{:?}", ended.stderr);
}
