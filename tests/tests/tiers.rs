//! `--tier`: less is told, and what is told stays exact.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::fixture::{Fixture, Scratch, cells};
use tests::life::{Life, Lives, summary};
use tests::observer::Observer;
use tests::oracle::{Log, Told};
use tests::stream::{Stream, number};
use tests::truth::differences;
use tests::wait::until;

/// Observes the oracle in this tier; gives the stream and the log.
fn observed(tier: &[&str]) -> (Stream, Log) {
    let place = Scratch::new("tiers");
    let log = place.path().join("log.jsonl");
    let mut fixture = Fixture::start("newest-unstable", "oracle", &[log.to_str().expect("a temporary path is text")]);
    let observer = Observer::attach(fixture.pid(), &[&["--tier"], tier].concat());
    fixture.release();
    fixture.truth();
    let stream = observer.stream();
    assert_eq!((stream.total("lost"), stream.total("malformed")), (0, 0));
    let text = std::fs::read_to_string(&log).expect("the oracle wrote its log");
    (stream, Log::parse(&text))
}

/// Lives, ends and triggers are as the log has them, and no poll is said.
fn assert_lives_are_exact(stream: &Stream, log: &Log) -> Lives {
    for event in ["before", "after"] {
        assert_eq!((stream.of(event).count(), stream.total(event)), (0, 0), "{event}");
    }
    let lives = Lives::of(stream);
    lives.assert_sane("the stream");
    let differences = log.differences_but_for_polls(&lives);
    assert!(differences.is_empty(), "the stream differs from the oracle: {}", summary(&differences));
    lives
}

#[test]
fn lifecycle_tells_lives_ends_and_triggers_exactly_with_a_fraction_of_the_records() {
    let (stream, log) = observed(&["lifecycle"]);
    assert_lives_are_exact(&stream, &log);
    assert_eq!(stream.of("polls").count(), 0);
}

/// All that was reported of each task's polls.
fn sums(stream: &Stream) -> BTreeMap<u64, Vec<&Value>> {
    let mut sums: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
    for polls in stream.of("polls") {
        sums.entry(number(polls, "asyncId")).or_default().push(polls);
    }
    sums
}

/// What the reports say of one task, against what the runtime's hooks and its future itself saw of its polls.
fn compare_sum(reports: &[&Value], life: &Life, told: &Told) -> Vec<String> {
    let mut faults = Vec::new();
    let all = |member: &str| reports.iter().map(|report| number(report, member)).sum::<u64>();
    let (polls, busy) = (all("polls"), all("busyNs"));
    let counted = reports.iter().flat_map(|report| report["histogram"].as_array().expect("pairs"));
    let counted: u64 = counted.map(|pair| pair[1].as_u64().expect("a count")).sum();
    if counted != polls {
        faults.push(format!("{polls} polls, {counted} in the histograms"));
    }
    let (seen, more) = match told.hooked {
        true => (&told.polls, 0),
        // A poll that only cancels polls no future.
        false => (&told.own_polls, u64::from(life.outcome() == Some("cancelled"))),
    };
    let least = seen.len() as u64;
    if polls < least || polls > least + more {
        faults.push(format!("{polls} polls, {least} were seen"));
    }
    let (busy_seen, longest_seen) = {
        let took = seen.iter().filter_map(|poll| Some(poll.to? - poll.from));
        (took.clone().sum::<u64>(), took.max().unwrap_or(0))
    };
    let longest = reports.iter().map(|report| number(report, "longestNs")).max().unwrap_or(0);
    // Each poll lies between its two hooks, and around what its future saw of it.
    let wrong = match told.hooked {
        true => busy > busy_seen || longest > longest_seen,
        false => busy < busy_seen || longest < longest_seen,
    };
    if wrong || longest > busy {
        faults.push(format!("busy {busy} ns, longest {longest} ns; seen {busy_seen} ns and {longest_seen} ns"));
    }
    faults
}

#[test]
fn polls_are_summed_up_task_by_task_as_the_hooks_saw_them() {
    let (stream, log) = observed(&["polls", "--interval", "50ms"]);
    let lives = assert_lives_are_exact(&stream, &log);
    let sums = sums(&stream);
    let mut differences = Vec::new();
    let mut all = 0;
    for (id, life) in &lives.by_id {
        let reports = sums.get(id).map_or(&[][..], |reports| reports);
        all += reports.iter().map(|report| number(report, "polls")).sum::<u64>();
        let told = life.task_id().and_then(|task| log.tasks.get(&task)).expect("it was compared before");
        // The runtime's own workers have neither hooks nor a future that writes a log.
        if told.spawned.is_some() {
            let faults = compare_sum(reports, life, told);
            differences.extend(faults.into_iter().map(|fault| format!("async id {id}: {fault}")));
        }
    }
    assert!(differences.is_empty(), "the sums differ from the oracle: {}", summary(&differences));
    assert_eq!((stream.total("polls"), stream.total("unplaced")), (all, 0));
}

#[test]
fn a_task_that_is_inside_of_a_poll_is_said_to_be_while_it_lasts() {
    let mut fixture = Fixture::start("newest-release", "busy", &["idle"]);
    let observer = Observer::attach(fixture.pid(), &["--tier", "polls", "--interval", "50ms"]);
    fixture.release();
    let before = Instant::now();
    // A poll of 400 ms; one more where this machine was too busy to look within it.
    let long = until("a poll is said to go on", || {
        fixture.say("wait");
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_millis(800) {
            let said = observer.said();
            let lines = said.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut going = lines.filter(|line| line["event"] == "polls");
            if let Some(line) = going.find(|line| line["pollingForNs"].as_u64().is_some_and(|ns| ns > 100_000_000)) {
                return Some(line);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    });
    assert!(u128::from(number(&long, "pollingForNs")) < before.elapsed().as_nanos(), "it began after that: {long}");
    let id = number(&long, "asyncId");
    // Once it has ended it is counted, and said to go on no longer.
    until("it is counted", || {
        let said = observer.said();
        let lines = said.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut of_it = lines.filter(|line| line["event"] == "polls" && line["asyncId"] == id);
        of_it.find(|line| line["pollingForNs"].is_null() && number(line, "longestNs") >= 400_000_000)
    });
    let stream = observer.stop();
    let init = stream.of("init").find(|init| init["asyncId"] == id).expect("it was born under watch");
    assert_eq!(init["resource"]["future"], "busy::sleeper::{async}", "which is the one that blocks");
    assert_eq!(stream.total("lost"), 0);
}

#[test]
fn every_cell_is_exact_without_its_polls() {
    let mut wrong = Vec::new();
    for cell in cells("matrix") {
        let mut fixture = Fixture::start(&cell, "matrix-glibc", &[]);
        let observer = Observer::attach(fixture.pid(), &["--tier", "lifecycle"]);
        fixture.release();
        let truth = fixture.truth();
        let stream = observer.stream();
        let lives = Lives::of(&stream);
        let mut faults = lives.faults.clone();
        faults.extend(differences(&stream, &lives, &truth));
        wrong.extend(faults.into_iter().take(5).map(|fault| format!("{cell}: {fault}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn spawns_have_no_probe_on_a_poll() {
    let (stream, log) = observed(&["spawns"]);
    assert_eq!(stream.of("init").count() as u64, log.tasks.len() as u64);
    let (every, _) = observed(&["full"]);
    let points = |stream: &Stream| stream.images().iter().map(|image| number(image, "points")).sum::<u64>();
    assert!(points(&stream) < points(&every), "{} of {}", points(&stream), points(&every));
}

#[test]
fn a_tier_and_a_list_of_events_are_a_usage_error_together() {
    let mut observer = Observer::run(["--pid", "1", "--tier", "polls", "--events", "init"]);
    let ended = observer.ended();
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
