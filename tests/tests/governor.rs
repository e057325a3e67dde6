//! `--max-overhead`: who is too busy is observed less, and in full again when that is over; what is told then is exact.

use serde_json::Value;
use tests::fixture::{Fixture, Scratch};
use tests::kernel::Objects;
use tests::life::{Lives, summary};
use tests::observer::Observer;
use tests::oracle::Log;
use tests::stream::{Stream, number, word};
use tests::wait::until;

/// Those in the observer's own code at most, by which it has tried what works here and what that costs.
const OWN_LINKS: usize = 5;

/// Thousands of tasks a second that come and go, as many as an observer on a busy machine can follow.
fn busy() -> Fixture {
    Fixture::start("newest-release", "crowd-glibc", &["tasks=20", "churn=20000"])
}

/// Waits for a step to this tier that follows so many lines; gives how many lines there were by then.
fn stepped_to(observer: &Observer, tier: &str, after: usize) -> usize {
    let to = format!("\"to\":\"{tier}\"");
    let is_it = |line: &String| line.contains("\"event\":\"tier\"") && line.contains(&to);
    until(&format!("a step to {tier}"), || Some(after + observer.said().iter().skip(after).position(is_it)? + 1))
}

/// The steps, as `from -> to`.
fn steps(stream: &Stream) -> Vec<String> {
    stream.of("tier").map(|line| format!("{} -> {}", word(line, "from"), word(line, "to"))).collect()
}

/// The tiers that the end says have held.
fn held(stream: &Stream) -> Vec<&str> {
    let tiers = stream.end()["tiers"].as_array().expect("a governed stream says how long each tier held");
    tiers.iter().map(|tier| word(tier, "tier")).collect()
}

#[test]
fn who_is_busy_is_observed_less_step_by_step_until_no_probe_is_left() {
    let fixture = busy();
    let observer = Observer::attach_with(fixture.pid(), &["--max-overhead", "0.1%", "--overhead-every", "500ms"]);
    let at_first = Objects::held_by(observer.pid()).links.len();
    let paused = stepped_to(&observer, "paused", 0);
    until("the probes are out", || (Objects::held_by(observer.pid()).links.len() <= OWN_LINKS).then_some(()));
    until("what it costs is said to be nothing", || {
        let said = observer.said();
        let costs = said.iter().skip(paused).filter(|line| line.contains("\"event\":\"overhead\""));
        let costs: Vec<Value> = costs.map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        costs.iter().any(|cost| number(cost, "hits") == 0 && number(cost, "addedNs") == 0).then_some(())
    });
    assert!(at_first > OWN_LINKS, "{at_first} links");
    let stream = observer.stop();
    let steps = steps(&stream);
    let down = ["full -> polls", "polls -> sampled", "sampled -> spawns", "spawns -> paused"];
    assert_eq!(steps[..4], down, "{steps:?}");
    for line in stream.of("tier").take(4) {
        let (added, own) = (number(line, "addedNs"), number(line, "cpuNs").saturating_sub(number(line, "addedNs")));
        assert_eq!((word(line, "reason"), line["maxOverhead"].as_f64()), ("over", Some(0.001)));
        assert!(added > own / 1000, "{line}");
    }
    assert_eq!(held(&stream), ["full", "polls", "sampled", "spawns", "paused"]);
}

#[test]
fn where_polls_are_too_dear_samples_tell_between_the_events_who_is_busy() {
    let mut fixture = Fixture::start("newest-release", "busy", &["idle"]);
    fixture.release();
    fixture.wait_for("its tasks are spawned", |line| line.contains("\"kind\":\"idle\""));
    let observer = Observer::attach_with(fixture.pid(), &["--max-overhead", "2%", "--interval", "300ms"]);
    // A task that is polled without end, for less than a second each.
    let busy = |observer: &Observer| observer.said().iter().any(|line| line.contains("\"event\":\"busy\""));
    let mut spins = 0;
    while !busy(&observer) && spins < 100 {
        fixture.say("spin");
        spins += 1;
        std::thread::sleep(std::time::Duration::from_millis(600));
    }
    let said = fixture.said();
    let vtable = |kind: &str| -> Option<u64> {
        let of = |line: &String| serde_json::from_str::<Value>(line).ok();
        said.iter().filter_map(of).find(|line| line["kind"] == kind).map(|line| number(&line, "vtable"))
    };
    let base: Value = serde_json::from_str(&said[0]).expect("it says where it is loaded");
    let spinner = format!("+0x{:x}", vtable("spinner").expect("it was told to spin") - number(&base, "base"));
    let stream = observer.stop();
    let step = stream.lines.iter().position(|line| line["event"] == "tier" && line["to"] == "sampled");
    let step = step.unwrap_or_else(|| panic!("after {spins} spins: {:?}", steps(&stream)));
    let samples = |line: &Value| matches!(word(line, "event"), "interval" | "busy" | "blocking");
    assert!(!stream.lines[..step].iter().any(samples), "no samples before the step");
    let busiest = stream.of("busy").next().expect("one is busy");
    assert!(word(busiest, "typeId").ends_with(&spinner), "{busiest}, not {spinner}");
    assert!(
        stream.of("interval").all(|line| line["total"] == false && number(line, "pid") == u64::from(fixture.pid()))
    );
    assert!(held(&stream).contains(&"sampled"));
    assert!(fixture.is_running(), "the program is well");
}

#[test]
fn who_is_idle_is_observed_in_full() {
    let fixture = Fixture::start("newest-release", "idle", &[]);
    let observer = Observer::attach_with(fixture.pid(), &["--max-overhead", "0.1%", "--duration", "8s"]);
    let stream = observer.stream();
    assert_eq!((steps(&stream), held(&stream)), (vec![], vec!["full"]));
}

#[test]
fn when_the_load_is_over_all_is_told_again_and_is_exact() {
    let place = Scratch::new("governor");
    let log = place.path().join("log.jsonl");
    let mut oracle = Fixture::start("newest-unstable", "oracle", &[log.to_str().expect("a temporary path is text")]);
    let mut busy = busy();
    let pids = [oracle.pid(), busy.pid()].map(|pid| pid.to_string());
    let observer = Observer::run(["--json", "--max-overhead", "5%", "--pid", &pids[0], "--pid", &pids[1]]);
    let observer = observer.wait_until_attached();
    let down = stepped_to(&observer, "sampled", 0);
    busy.say("end");
    busy.finish();
    stepped_to(&observer, "full", down);
    let links = Objects::held_by(observer.pid()).links.len();
    oracle.release();
    let pid = u64::from(oracle.pid());
    let truth = oracle.truth();
    let stream = observer.stream();
    assert!(links > OWN_LINKS, "{links} links");
    let steps = steps(&stream);
    assert_eq!(steps[..2], ["full -> polls", "polls -> sampled"], "{steps:?}");
    assert_eq!(steps.last().map(String::as_str), Some("polls -> full"), "{steps:?}");

    // No id is given twice, no task is two, whatever was lost and settled by a census.
    Lives::of_lossy(&stream).assert_sane("the stream");
    let of_oracle = |line: &&Value| line["pid"].as_u64() == Some(pid) && line["asyncId"].is_number();
    let events: Vec<Value> = stream.lines.iter().filter(of_oracle).cloned().collect();
    let lives = Lives::of_process(&events);
    lives.assert_sane("the oracle's events");
    let log = Log::parse(&std::fs::read_to_string(&log).expect("the oracle wrote its log"));
    assert_eq!(Some(log.workers()), truth["workers"].as_u64(), "the oracle's two voices agree");
    let differences = log.differences(&lives);
    assert!(differences.is_empty(), "the stream differs from the oracle: {}", summary(&differences));
}

#[test]
fn a_stream_that_begins_with_a_tier_never_tells_more() {
    let mut fixture = busy();
    let observer = Observer::attach_with(fixture.pid(), &["--tier", "lifecycle", "--max-overhead", "1%"]);
    let down = stepped_to(&observer, "sampled", 0);
    fixture.say("end");
    fixture.finish();
    let stream = observer.stream();
    assert!(down > 0);
    assert!(steps(&stream)[0] == "lifecycle -> sampled", "{:?}", steps(&stream));
    assert_eq!((stream.of("before").count(), stream.of("polls").count()), (0, 0));
    assert!(!held(&stream).contains(&"full"));
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let refused = |arguments: &[&str]| {
        let ended = Observer::run([&["--pid", "1"], arguments].concat()).ended();
        (ended.code, ended.stderr.join("\n"))
    };
    for wrong in ["0%", "101%", "2", "much"] {
        assert_eq!(refused(&["--max-overhead", wrong]).0, Some(2), "{wrong}");
    }
    assert_eq!(refused(&["--max-overhead", "2%", "--events", "init"]).0, Some(2));
    let (code, said) = refused(&["--tier", "sampled", "--max-overhead", "2%"]);
    assert!(code == Some(2) && said.contains("next step: "), "{said}");
    let fixture = Fixture::start("newest-release", "idle", &[]);
    let pid = fixture.pid().to_string();
    let ended = Observer::run(["--pid", &pid, "--attach-with", "tracefs", "--max-overhead", "2%"]).ended();
    let said = ended.stderr.join("\n");
    assert!(ended.code == Some(6) && said.contains("next step: ") && said.contains("--max-overhead"), "{said}");
}
