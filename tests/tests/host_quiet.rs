//! Where nothing happens nothing is told, whoever else looks; and two thousand processes that are of no interest are passed over.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::fixture::{Fixture, Scratch};
use tests::observer::Observer;
use tests::wait::{fewer, long, until};

/// Processes that only sleep.
const SLEEPERS: usize = 2_000;
/// So long nothing may be told before it counts as quiet.
const QUIET: Duration = Duration::from_secs(2);

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last line may be on its way.
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).expect("is JSON"))
        .collect()
}

fn about(lines: &[Value], pids: &[u32]) -> usize {
    let is_about = |of: &Value| pids.iter().any(|pid| of["pid"] == *pid);
    let in_start = |line: &Value| line["targets"].as_array().is_some_and(|targets| targets.iter().any(is_about));
    lines.iter().filter(|line| is_about(line) || in_start(line)).count()
}

fn observe(file: &Path) -> Observer {
    let observer = Observer::run(["trace", "--all", "--json", "-o", file.to_str().expect("is text")]);
    until("the observer is attached", || lines(file).first().map(drop));
    observer
}

#[test]
fn two_observers_of_all_fall_silent_and_tell_nothing_of_each_other() {
    let scratch = Scratch::new("quiet");
    let files = ["one.jsonl", "two.jsonl"].map(|name| scratch.path().join(name));
    let observers = files.each_ref().map(|file| observe(file));
    let observing = observers.each_ref().map(Observer::pid);
    let mut fixture = Fixture::start("newest-release", "idle", &[]);
    let existing = fixture.wait_for("it says what is there", |line| line.contains("\"existing\""));
    let pid = fixture.pid();
    for file in &files {
        until("the fixture is a target", || {
            lines(file).iter().any(|line| line["event"] == "target" && line["pid"] == pid).then_some(())
        });
    }
    fixture.release();
    let used = fixture.wait_for("it has done its work", |line| line.contains("\"used\":true"));
    // Both write what they saw; that writing, and all else they do, is told by none of them. On a machine where others work as
    // well, theirs is told and not counted.
    let ours = [observing[0], observing[1], pid];
    let count = |file: &std::path::PathBuf| about(&lines(file), &ours);
    let began = Instant::now();
    let (mut latest, mut since) = ([0, 0], Instant::now());
    until("both are silent", || {
        let now = files.each_ref().map(count);
        if now != latest {
            (latest, since) = (now, Instant::now());
        }
        (since.elapsed() > long(QUIET)).then_some(())
    });
    println!("silent after {:.1} s with {latest:?} lines", began.elapsed().as_secs_f32() - long(QUIET).as_secs_f32());
    fixture.release();
    let truth = fixture.truth();
    // Some were born and gone before its program was known.
    let all = truth["task"]["spawned"].as_u64().expect("the fixture counts");
    let found = existing["existing"]["task"].as_u64().expect("a count") + used["born"].as_u64().expect("a count");
    for (file, observer) in files.iter().zip(observers) {
        until("its end is told", || {
            lines(file).iter().any(|line| line["event"] == "gone" && line["pid"] == pid).then_some(())
        });
        observer.ended_well();
        let lines = lines(file);
        assert_eq!(about(&lines, &observing), 0, "an observer is told of");
        let told =
            lines.iter().filter(|line| line["pid"] == pid && line["event"] == "init" && line["type"] == "TOKIO_TASK");
        let told = told.count() as u64;
        assert!((found..=all).contains(&told), "{told} tasks of the fixture are told of, not {found} to {all}");
    }
}

/// Processes that sleep, until this is dropped.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn start(count: usize) -> Self {
        let start = |_| Command::new("sleep").arg("600").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self((0..count).map(start).collect::<Result<_, _>>().expect("this many processes can be started"))
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|child| drop(child.kill()));
        self.0.iter_mut().for_each(|child| drop(child.wait()));
    }
}

#[test]
fn a_look_at_all_finds_the_one_program_among_two_thousand_that_sleep() {
    let fixture = Fixture::start("newest-release", "idle", &[]);
    let said = fixture.said();
    let existing = said.iter().find(|line| line.contains("\"existing\"")).expect("the fixture says what is there");
    let existing: Value = serde_json::from_str(existing).expect("is JSON");
    let live: u64 =
        ["task", "blocking", "workers"].iter().map(|kind| existing["existing"][kind].as_u64().expect("a count")).sum();
    let sleepers = Sleepers::start(fewer(SLEEPERS));
    let sleeping: BTreeSet<u64> = sleepers.0.iter().map(|child| u64::from(child.id())).collect();
    let began = Instant::now();
    let look = Observer::run(["ps", "--all", "--json", "--no-waits"]).look();
    println!("ps --all among {} processes that sleep: {:.2} s", sleepers.0.len(), began.elapsed().as_secs_f32());
    assert_eq!(look.live(fixture.pid()), live, "its tasks and closures");
    let wrong: Vec<&Value> =
        look.lines.iter().filter(|line| line["pid"].as_u64().is_some_and(|pid| sleeping.contains(&pid))).collect();
    assert!(wrong.is_empty(), "of processes without a runtime nothing is told: {wrong:?}");
}
