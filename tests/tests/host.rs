//! The host in miniature: what every process's own book says is what the stream says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::fixture::path;
use tests::host::agreement::{differences, differences_of_ended};
use tests::host::book::Book;
use tests::host::director::{Director, Life};
use tests::host::observed::{Observed, Seen, pid_of};
use tests::host::program::{BINARIES, CELLS, Place, Program};
use tests::kernel::Objects;
use tests::life::summary;
use tests::observer::Observer;
use tests::stream::word;
use tests::wait::{fewer, long, room, until};

/// Processes of the first wave, which all run at once, or of several waves where the machine is slow: some work for as long as
/// others do, so that a crowd does the more the longer it takes. Then as many rounds of so many more.
const CROWD: usize = 200;
const ROUNDS: usize = 3;
const MORE: usize = 24;
/// A process is killed when it has spawned so many tasks.
const AMID: u64 = 30;
/// Of each ring: so much waits in it at most, however busy the machine is.
const RING_PAGES: usize = 4096;

/// Probes stay so long in a binary that nobody runs: what the observer does by itself.
const KEPT: Duration = Duration::from_secs(10);
/// After so long without a word nothing more is said.
const SILENCE: Duration = Duration::from_secs(10);

fn steps(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

#[test]
fn each_binary_agrees_with_its_own_book_where_it_is_observed_alone() {
    let mut director = Director::new("alone");
    director.hold(true);
    let mut observers = Vec::new();
    for number in 0..BINARIES {
        let (token, program) = (number.to_string(), Program::number(number));
        director.start(&token, program, Place::Here, &steps("run=3 leave=2"));
        let pid = director.announced(&program.root(&token));
        observers.push(Observer::attach(pid, &[]));
    }
    director.hold(false);
    assert_all_ended(&director.finish(), &BTreeSet::new());
    let lives = director.lives();
    assert_eq!(lives.len(), BINARIES);
    let mut wrong = Vec::new();
    for (life, observer) in lives.iter().zip(observers) {
        let stream = observer.stream();
        let observed = Observed::of(&stream.lines);
        wrong.extend(observed.faults.iter().cloned());
        let [seen] = observed.by_pid[&life.pid].as_slice() else { panic!("one life: {observed:?}") };
        wrong.extend(differences(life, seen, stream.total("unsure")));
    }
    assert!(wrong.is_empty(), "{}", summary(&wrong));
}

/// What a process of the crowd does, by its number.
fn part(number: usize) -> (Program, Place, Vec<String>) {
    let program = Program::number(number % BINARIES);
    let module = path("newest-release", "hosted_python.so");
    let other = path(CELLS[(number + 3) % CELLS.len()], "host");
    let text = match (program, number / BINARIES % 11) {
        (Program::Host(_), 1) => "fork=run=1,leave=2 run=1".into(),
        (Program::Host(_), 2) => "fork-within=run=1,leave=1 run=1".into(),
        (Program::Host(_), 3) => format!("run=1 leave=3 exec={} run=1 leave=2", other.display()),
        (Program::Host(_), 5) if program.is_dynamic_host() => format!("load={},run=1,leave=1 run=1", module.display()),
        (Program::Host(_), 6) => "run=1 fork=run=1 leave=3".into(),
        (Program::Host(_), 8) => format!("exec={} kill-me", other.display()),
        (_, 4 | 9) => "kill-me".into(),
        _ => "run=2 leave=2".into(),
    };
    let place = match (program, number / BINARIES % 11) {
        (Program::Host(_), 6 | 9) => Place::Bound,
        (Program::Host(_), 7 | 10) => Place::Overlaid,
        _ => Place::Here,
    };
    (program, place, steps(&text))
}

/// The lives of a crowd that are to be killed.
fn to_be_killed(token: &str, program: Program, steps: &[String]) -> Option<String> {
    steps.iter().any(|step| step == "kill-me").then(|| {
        let became = steps.iter().any(|step| step.starts_with("exec="));
        if became { format!("{token}.e") } else { program.root(token) }
    })
}

#[test]
fn two_hundred_processes_that_come_and_go_are_told_life_by_life() {
    let mut director = Director::new("crowd");
    let ring_pages = room(RING_PAGES).to_string();
    // Between two processes of one binary as much more time passes as the machine is slower.
    let keep = format!("{}s", long(KEPT).as_secs());
    let options = ["trace", "--all", "--json", "--allow-slow", "--ring-pages", &ring_pages, "--keep-probes", &keep];
    let observer = Observer::run(options).wait_until_attached();

    // One process of each binary, and one copy in memory: from then on the observer knows them all.
    director.hold(true);
    for number in 0..=BINARIES {
        let place = if number == BINARIES { Place::Copied } else { Place::Here };
        let (token, program) = (format!("first{number}"), Program::number(number % BINARIES));
        director.start(&token, program, place, &steps("run=2 leave=2"));
        wait_for_target(&observer, director.announced(&program.root(&token)));
    }
    director.hold(false);
    let ended = director.finish();
    assert_all_ended(&ended, &BTreeSet::new());
    let known = Objects::held_by(observer.pid());

    let mut killed = BTreeSet::new();
    let wave = fewer(CROWD);
    let mut waves: Vec<_> = (0..CROWD).step_by(wave).map(|from| (from..CROWD.min(from + wave), true)).collect();
    waves.extend((0..ROUNDS).map(|round| (CROWD + round * MORE..CROWD + (round + 1) * MORE, false)));
    for (numbers, at_once) in waves {
        director.hold(at_once);
        let mut victims = Vec::new();
        for number in numbers.clone() {
            let (token, (program, place, steps)) = (number.to_string(), part(number));
            director.start(&token, program, place, &steps);
            if let Some(victim) = to_be_killed(&token, program, &steps) {
                victims.push(victim);
                killed.insert(token);
            }
        }
        for number in numbers {
            let pid = director.announced(&part(number).0.root(&number.to_string()));
            if at_once {
                // However slow the machine is: what is to be known of it is read while it is held.
                wait_for_target(&observer, pid);
            }
        }
        director.hold(false);
        victims.iter().for_each(|victim| director.kill_amid_work(victim, AMID));
        assert_all_ended(&director.finish(), &killed);
    }

    let lives = director.lives();
    let mut by_pid: BTreeMap<u32, Vec<&Life>> = BTreeMap::new();
    lives.iter().for_each(|life| by_pid.entry(life.pid).or_default().push(life));
    wait_for_ends(&observer, &by_pid);
    let held = Objects::held_by(observer.pid());

    let stream = observer.stop();
    let observed = Observed::of(&stream.lines);
    let mut wrong: Vec<String> = observed.faults.iter().filter(|fault| is_ours(fault, &by_pid)).cloned().collect();
    wrong.extend(
        ["lost", "malformed"].into_iter().filter(|of| stream.total(of) > 0).map(|of| format!("{of}: {}", stream.end())),
    );
    let (mut points, mut born) = (BTreeMap::new(), 0);
    for (pid, lives) in &by_pid {
        let seen: Vec<&Seen> =
            observed.by_pid.get(pid).into_iter().flatten().filter(|seen| !is_the_test(seen)).collect();
        if seen.len() != lives.len() {
            wrong.push(format!("{pid}: {} lives were told of {}: {lives:?}", seen.len(), lives.len()));
            continue;
        }
        for (index, (life, seen)) in lives.iter().zip(&seen).enumerate() {
            wrong.extend(differences_of_ended(life, seen));
            let reason = if index + 1 < lives.len() { "exec" } else { "exit" };
            let said = seen.gone.as_ref().map_or("nothing", |gone| word(gone, "reason"));
            if said != reason {
                wrong.push(format!("{} ({pid}): gone by {said}, not {reason}", life.token));
            }
            let within = seen.said.iter().find_map(|said| said["nsPid"].as_u64());
            // Only of one that ended within the blink of an eye it may not be known: those of the first wave were held.
            let was_held = index == 0 && life.token.parse::<usize>().is_ok_and(|number| number < CROWD);
            let unknown_or_told = |book: &Book| within.map_or(!was_held, |within| within == book.pid_within);
            if !life.books.iter().all(unknown_or_told) {
                wrong.push(format!(
                    "{} ({pid}): is said to be {within:?} in its namespace, and is {}",
                    life.token, life.books[0].pid_within
                ));
            }
            for image in seen.images() {
                let said: &mut BTreeSet<u64> = points.entry(word(image, "buildId").to_owned()).or_default();
                said.extend(image["points"].as_u64());
            }
            born += seen.lives.by_id.len();
        }
    }
    println!("{} lives of {} processes, {born} tasks, {} lines", lives.len(), by_pid.len(), stream.lines.len());
    println!("links, programs, maps: {:?}; points by image: {points:?}", held.counts());
    assert!(wrong.is_empty(), "{}", summary(&wrong));
    assert!(held.without(&known).is_empty(), "points belong to files, not to processes: {held:?} after {known:?}");
    assert_eq!(points.len(), BINARIES, "images: {points:?}");
    assert!(points.values().all(|points| points.len() == 1), "an image's points are always the same: {points:?}");
}

fn wait_for_target(observer: &Observer, pid: u32) {
    let said = observer.wait_for(&format!("{pid} is a target"), |line| {
        line.contains("\"event\":\"target\"") && line.contains("\"buildId\"") && pid_of(&parsed(line)) == pid
    });
    assert!(said.is_some(), "the observer ended before {pid} was a target");
}

/// Waits until as many lives of each process are said to be gone as it had. Where nothing more is said, there is nothing more
/// to wait for: what is missing is told by the comparison.
fn wait_for_ends(observer: &Observer, by_pid: &BTreeMap<u32, Vec<&Life>>) {
    let (mut told, mut since) = (0, Instant::now());
    until("the ends of all lives, or silence", || {
        let mut said = observer.said();
        // What observing costs is said however quiet it is.
        said.retain(|line| !line.contains("\"event\":\"overhead\""));
        if said.len() != told {
            (told, since) = (said.len(), Instant::now());
        }
        let mut gone: BTreeMap<u32, usize> = BTreeMap::new();
        for line in said.iter().filter(|line| line.contains("\"event\":\"gone\"")) {
            *gone.entry(pid_of(&parsed(line))).or_default() += 1;
        }
        let all = by_pid.iter().all(|(pid, lives)| gone.get(pid).is_some_and(|gone| *gone >= lives.len()));
        (all || since.elapsed() > long(SILENCE)).then_some(())
    });
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("the observer printed no JSON ({error}): {line}"))
}

/// A fault of a process that we started: on a machine where others work, their processes are in the stream as well.
fn is_ours(fault: &str, by_pid: &BTreeMap<u32, Vec<&Life>>) -> bool {
    let pid = fault.split(':').next().and_then(|pid| pid.parse::<u32>().ok());
    pid.is_none_or(|pid| by_pid.contains_key(&pid))
}

/// What a child is before it becomes a fixture.
fn is_the_test(seen: &Seen) -> bool {
    let own = std::env::current_exe().expect("a test knows its own path");
    own.to_str() == Some(seen.exe())
}

fn assert_all_ended(ended: &BTreeMap<String, ExitStatus>, killed: &BTreeSet<String>) {
    for (token, status) in ended {
        assert_ne!(status.success(), killed.contains(token), "{token} ended with {status}");
    }
}
