//! Points that the kernel must single-step: left out at each poll and spawn unless they are allowed, and what is said without
//! them is true.

use serde_json::Value;
use tests::diagnosis::Diagnosis;
use tests::fixture::Fixture;
use tests::life::Lives;
use tests::observer::Observer;

/// The reasons that a stream's start gives for what is missing, by event.
fn missing(target: &Value) -> Vec<(&str, &str)> {
    let all = target["missing"].as_array().expect("what is missing is a list");
    all.iter().map(|one| (one["event"].as_str().unwrap_or(""), one["reason"].as_str().unwrap_or(""))).collect()
}

#[test]
fn where_polls_are_slow_nothing_is_planted_and_every_event_is_said_to_be_missing() {
    let mut fixture = Fixture::start("newest-dev", "matrix-glibc", &[]);
    let observer = Observer::attach_with(fixture.pid(), &[]);
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", fixture.pid())).expect("it runs");
    assert!(!maps.contains("[uprobes]"), "nothing was attached");
    fixture.release();
    fixture.truth();
    let stream = observer.stream();
    let target = &stream.start()["targets"][0];
    assert_eq!(target["images"][0]["points"], 0);
    let missing = missing(target);
    let events: Vec<&str> = missing.iter().map(|(event, _)| *event).collect();
    assert_eq!(events, ["init", "before", "after", "resolve", "destroy"]);
    assert!(missing.iter().all(|(_, reason)| reason.contains("--allow-slow")), "{missing:?}");
    assert_eq!(stream.of("init").count(), 0, "who sees no end says no beginning");
    let totals = &stream.end()["totals"];
    assert_eq!((&totals["live"], stream.total("unplanted")), (&Value::Null, 1), "nobody knows who lives");
}

#[test]
fn without_slow_births_tasks_are_met_at_a_poll_and_followed_to_their_end() {
    for tier in ["full", "lifecycle"] {
        let mut fixture = Fixture::start("1.36-release", "matrix-glibc", &[]);
        let observer = Observer::attach_with(fixture.pid(), &["--tier", tier]);
        fixture.release();
        let truth = fixture.truth();
        let stream = observer.stream();
        let missing = missing(&stream.start()["targets"][0]);
        assert!(
            missing.iter().all(|(event, reason)| *event == "init" && reason.contains("--allow-slow")),
            "{missing:?}"
        );
        assert_eq!(missing.len(), 1, "births of some types; the others tell their ids themselves: {missing:?}");
        let lives = Lives::of(&stream);
        lives.assert_sane(tier);
        let count = |pointer: &str| truth.pointer(pointer).and_then(Value::as_u64).expect("the program counts");
        let tasks = lives.kind("TOKIO_TASK").count() as u64;
        // Who is never polled is never met where births are left out.
        let (least, most) = (count("/ends/ready") - count("/blocking/spawned"), count("/task/spawned"));
        assert!((least..=most).contains(&tasks), "{tier}: {tasks} tasks, the program had {least} to {most}");
        let met = lives.by_id.values().filter(|life| life.init["inferred"] == true).count();
        assert!(met > 0, "{tier}: some of {tasks} were met at a poll, {} records were lost", stream.total("lost"));
        assert!(lives.by_id.values().all(|life| !life.existing()), "{tier}: none was there before the attach");
        let ends = lives.by_id.values().filter(|life| life.destroy.is_none()).count() as u64;
        assert_eq!(ends, count("/leaked"), "{tier}: all others ended");
    }
}

#[test]
fn the_doctor_lists_slow_points_with_their_cost_and_what_each_tier_adds() {
    for (cell, hot_roles) in [("newest-dev", ["poll", "birth", "mint"]), ("newest-optz", ["poll", "birth", "birth"])] {
        let fixture = Fixture::start(cell, "matrix-glibc", &[]);
        let pid = fixture.pid().to_string();
        let found = Diagnosis::of(&Observer::run(["doctor", "--json", "--pid", &pid]).ended());
        let target = found.target(fixture.pid()).expect("it has a runtime");
        let slow = target["slow"].as_array().expect("a list");
        for point in slow {
            let hot = matches!(point["role"].as_str(), Some("poll" | "birth" | "mint"));
            assert_eq!(point["hot"], hot, "{point}");
            assert!(point["symbol"].as_str().is_some_and(|symbol| symbol.contains('+')), "it has symbols: {point}");
            assert!(point["instruction"].as_str().is_some_and(|text| text.len() > 2), "{point}");
        }
        for role in hot_roles {
            assert!(slow.iter().any(|point| point["role"] == role), "{cell}: a slow {role}");
        }
        let Some(stepped) = target["hitNs"]["singleStepped"].as_f64() else {
            assert!(target["hitNs"].is_null() && slow.iter().all(|point| point["ns"].is_null()), "not measured");
            continue;
        };
        let emulated = target["hitNs"]["emulated"].as_f64().expect("both were measured");
        assert!(stepped > emulated, "stepping costs more: {target:#}");
        assert!(slow.iter().all(|point| point["ns"].as_f64().is_some_and(|ns| ns >= stepped)), "with its program");
        let row = |allow: bool| {
            let rows = target["expected"].as_array().expect("a list");
            let full = rows.iter().find(|row| row["tier"] == "full" && row["allowSlow"] == allow);
            full.expect("full is a tier").clone()
        };
        assert!(row(false)["perPollNs"].is_null(), "{cell}: nothing would be seen");
        assert!(row(true)["perPollNs"]["least"].as_f64().is_some_and(|ns| ns > stepped), "{cell}: each poll is slow");
    }
}

#[test]
fn with_slow_points_the_target_s_time_is_not_said() {
    let mut fixture = Fixture::start("newest-dev", "matrix-glibc", &[]);
    let observer = Observer::attach_with(fixture.pid(), &["--allow-slow"]);
    fixture.release();
    fixture.truth();
    let stream = observer.stream();
    let overhead = &stream.end()["overhead"];
    assert!(overhead["hits"].as_u64().is_some_and(|hits| hits > 1000), "{overhead}");
    assert!(overhead["addedNs"].is_null(), "hits that cost many times as much are not counted apart: {overhead}");
}
