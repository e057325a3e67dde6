//! `--attach-with tracefs`, the way for kernels without uprobe_multi: the same truth, from records that say addresses.

use std::process::Command;

use serde_json::Value;
use tests::fixture::{Fixture, Scratch, path};
use tests::life::{Lives, summary};
use tests::observer::{Observer, program};
use tests::oracle::Log;
use tests::stream::Stream;
use tests::truth::differences;

const TRACEFS: [&str; 2] = ["--attach-with", "tracefs"];

fn assert_by_tracefs(stream: &Stream) {
    assert_eq!(stream.start()["mechanism"], "tracefs");
    let refused = |missing: &String| missing.contains("the kernel took no probe");
    assert!(!stream.missing().iter().any(refused), "{:?}", stream.missing());
    eprintln!("{} points, attached in {} ms, detached in {} ms", points(stream), attach(stream), detach(stream));
}

fn points(stream: &Stream) -> u64 {
    stream.images().iter().filter_map(|image| image["points"].as_u64()).sum()
}

fn attach(stream: &Stream) -> &Value {
    &stream.start()["attachMs"]
}

fn detach(stream: &Stream) -> &Value {
    &stream.end()["detachMs"]
}

/// Observes the zoo; gives the stream and the program's truth.
fn observed(cell: &str, program: &str, more: &[&str]) -> (Stream, Value) {
    let mut fixture = Fixture::start(cell, program, &[]);
    let observer = Observer::attach(fixture.pid(), &[&TRACEFS, more].concat());
    fixture.release();
    let truth = fixture.truth();
    (observer.stream(), truth)
}

#[test]
fn cells_are_exact() {
    for (cell, program) in [
        ("newest-release", "matrix-glibc"),
        ("newest-fat", "matrix-glibc"),
        ("newest-nopie", "matrix-glibc"),
        ("newest-static", "matrix-mimalloc"),
        ("1.23-fat", "matrix-jemalloc"),
    ] {
        let (stream, truth) = observed(cell, program, &[]);
        assert_by_tracefs(&stream);
        let lives = Lives::of(&stream);
        lives.assert_sane(cell);
        assert_eq!(differences(&stream, &lives, &truth), Vec::<String>::new(), "{cell}");
    }
}

#[test]
fn events_equal_the_runtime_s_own_hooks_task_by_task() {
    let place = Scratch::new("tracefs-oracle");
    let log = place.path().join("log.jsonl");
    let mut fixture = Fixture::start("newest-unstable", "oracle", &[log.to_str().expect("a temporary path is text")]);
    let observer = Observer::attach(fixture.pid(), &TRACEFS);
    fixture.release();
    let truth = fixture.truth();
    let stream = observer.stream();
    assert_by_tracefs(&stream);
    let log = Log::parse(&std::fs::read_to_string(&log).expect("the oracle wrote its log"));
    assert_eq!((stream.total("lost"), stream.total("malformed")), (0, 0));
    let lives = Lives::of(&stream);
    lives.assert_sane("the stream");
    let differences = log.differences(&lives);
    assert!(differences.is_empty(), "the stream differs from the oracle: {}", summary(&differences));
    // Where the end of the process was told before the stream's, they ended with it.
    let live = stream.total("live") + stream.total("endedWithProcess");
    assert_eq!(Some(live), truth["leaked"].as_u64(), "what is live at the end is what was leaked");
}

#[test]
fn births_alone_are_exact() {
    let (stream, truth) = observed("newest-release", "matrix-glibc", &["--events", "init"]);
    assert_by_tracefs(&stream);
    let told = |path: &str| truth.pointer(path).and_then(Value::as_u64).expect("the zoo counts");
    let born = told("/workers") + told("/task/spawned") + told("/blocking/spawned");
    assert_eq!(stream.of("init").count() as u64, born);
    assert!(stream.of("init").all(|init| init["resource"]["taskId"].is_string()));
}

#[test]
fn a_launched_program_in_a_folder_with_blanks_is_seen_whole() {
    let place = Scratch::new("tracefs launch");
    let copy = place.copy(&path("newest-fat", "matrix-glibc"));
    let file = place.path().join("events.jsonl");
    let mut command = Command::new(program());
    let mut observer =
        Observer::run_as(command.args(TRACEFS).args(["--json", "--output"]).arg(&file).arg("--").arg(&copy));
    let ended = observer.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr.join("\n"));
    let truth =
        ended.stdout.iter().find(|line| line.contains("\"truth\":true")).expect("the program's output is passed on");
    let truth = serde_json::from_str(truth).expect("the truth is JSON");
    let text = std::fs::read_to_string(&file).expect("the observer wrote its output");
    let lines: Vec<String> = text.lines().map(String::from).collect();
    let stream = Stream::parse(&lines).unwrap_or_else(|wrong| panic!("the observer's output: {wrong}"));
    assert_by_tracefs(&stream);
    let lives = Lives::of(&stream);
    lives.assert_sane("launched");
    assert_eq!(differences(&stream, &lives, &truth), Vec::<String>::new());
}

#[test]
fn a_killed_observer_leaves_its_target_well_and_another_can_follow() {
    let mut fixture = Fixture::start("newest-release", "matrix-glibc", &[]);
    let mut killed = Observer::attach(fixture.pid(), &TRACEFS);
    killed.signal(libc::SIGKILL);
    assert_eq!(killed.ended().code, None);
    let observer = Observer::attach(fixture.pid(), &TRACEFS);
    fixture.release();
    let truth = fixture.truth();
    let stream = observer.stream();
    let lives = Lives::of(&stream);
    lives.assert_sane("after the kill");
    assert_eq!(differences(&stream, &lives, &truth), Vec::<String>::new());
}
