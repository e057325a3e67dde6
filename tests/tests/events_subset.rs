//! `--events`: only the listed events, and only the probes they need.

use serde_json::Value;
use tests::fixture::Fixture;
use tests::observer::Observer;
use tests::stream::{Stream, number, word};

/// Observes the zoo with these options; gives the stream and the program's truth.
fn observed(more: &[&str]) -> (Stream, Value) {
    let mut fixture = Fixture::start("newest-release", "matrix-glibc", &[]);
    let observer = Observer::attach(fixture.pid(), more);
    fixture.release();
    let truth = fixture.truth();
    (observer.stream(), truth)
}

/// The kinds of events a stream has, without the frame that every stream has.
fn kinds(stream: &Stream) -> Vec<&str> {
    let mut kinds: Vec<&str> = stream.lines.iter().map(|line| word(line, "event")).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.retain(|kind| !matches!(*kind, "start" | "end" | "lost" | "gone" | "overhead"));
    kinds
}

fn points(stream: &Stream) -> u64 {
    stream.images().iter().map(|image| number(image, "points")).sum()
}

#[test]
fn births_and_deaths_alone_are_exact() {
    let (stream, truth) = observed(&["--events", "init,destroy"]);
    assert_eq!(kinds(&stream), ["destroy", "init"]);
    let told =
        |path: &str| truth.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {truth}"));
    let own = told("/workers");
    let count = |event: &str| stream.of(event).count() as u64;
    assert_eq!(count("init"), told("/task/spawned") + told("/blocking/spawned") + own, "inits");
    assert_eq!(count("destroy"), told("/task/freed") + told("/blocking/freed") + own, "destroys");
}

#[test]
fn of_births_alone_nobody_knows_who_lives() {
    let (stream, truth) = observed(&["--events", "init"]);
    let told = truth.pointer("/task/freed").and_then(Value::as_u64).expect("the program counts");
    assert!(told > 0, "some have ended");
    assert_eq!(stream.total("live"), stream.total("init"));
    assert_eq!(stream.total("unsure"), stream.total("live"), "each of them may have");
    let missing = stream.start()["targets"][0]["missing"].as_array().expect("what is missing is a list");
    for event in ["trigger", "resolve", "destroy"] {
        assert!(missing.iter().any(|one| word(one, "event") == event), "{event}: {missing:?}");
    }
}

#[test]
fn polls_alone_come_in_pairs() {
    let (stream, _) = observed(&["--events", "before,after"]);
    assert_eq!(kinds(&stream), ["after", "before"]);
    let count = |event: &str| stream.of(event).count();
    assert!(count("before") > 1000, "the zoo polls more often than {} times", count("before"));
    assert_eq!(count("before"), count("after"));
}

#[test]
fn fewer_events_need_fewer_probes() {
    let (all, _) = observed(&[]);
    for list in ["before,after", "init"] {
        let (some, _) = observed(&["--events", list]);
        assert!(points(&some) < points(&all), "{list}: {} points, all events: {}", points(&some), points(&all));
    }
}

#[test]
fn a_word_that_is_no_event_is_a_usage_error() {
    let mut observer = Observer::run(["--pid", "1", "--events", "init,birth"]);
    let ended = observer.ended();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.iter().any(|line| line.contains("birth")), "{:?}", ended.stderr);
}
