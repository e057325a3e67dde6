//! Tasks that were there before the attach: found, counted by type, and followed to their end.

use std::collections::BTreeMap;

use tests::fixture::Fixture;
use tests::life::{Life, Lives};
use tests::observer::Observer;
use tests::stream::word;
use tests::wait::until;

fn tasks_from_before_the_attach_are_found_and_followed(cell: &str) {
    let mut fixture = Fixture::start(cell, "idle", &[]);
    let told = fixture.wait_for("it counts its tasks", |line| line.contains("\"existing\""));
    let count =
        |path: &str| told.pointer(path).and_then(serde_json::Value::as_u64).expect("the fixture counts") as usize;
    let (tasks, blocking) = (count("/existing/task"), count("/existing/blocking") + count("/existing/workers"));

    let observer = Observer::attach(fixture.pid(), &[]);
    let existing = |lines: &[String]| lines.iter().filter(|line| line.contains("\"existing\":true")).count();
    until("all that was there is said", || (existing(&observer.said()) >= tasks + blocking).then_some(()));
    fixture.release();
    let used = fixture.wait_for("it used its tasks", |line| line.contains("\"used\""));
    fixture.release();
    let truth = fixture.truth();
    let stream = observer.stream();
    let lives = Lives::of(&stream);
    lives.assert_sane(cell);

    let of = |kind: &'static str, existing: bool| -> Vec<&Life> {
        lives.kind(kind).filter(|life| life.existing() == existing).collect()
    };
    assert_eq!(of("TOKIO_TASK", true).len(), tasks, "{cell}: tasks that were there");
    assert_eq!(of("TOKIO_BLOCKING", true).len(), blocking, "{cell}: closures and workers that were there");
    assert_eq!(Some(of("TOKIO_TASK", false).len() as u64), used["born"].as_u64(), "{cell}: tasks born since");
    assert_eq!(of("TOKIO_BLOCKING", false).len(), 0, "{cell}: no closure was born since");

    let mut by_type: BTreeMap<&str, u64> = BTreeMap::new();
    for life in of("TOKIO_TASK", true) {
        *by_type.entry(word(&life.init["resource"], "typeId")).or_default() += 1;
        assert!(life.task_id().is_some(), "{cell}: {} has its task id", life.init);
        assert!(life.init["triggerAsyncId"].is_null(), "{cell}: nobody saw who spawned {}", life.init);
    }
    let mut by_type: Vec<u64> = by_type.into_values().collect();
    let mut told: Vec<u64> =
        told["byKind"].as_array().expect("a list").iter().map(|n| n.as_u64().expect("a count")).collect();
    by_type.sort_unstable();
    told.sort_unstable();
    assert_eq!(by_type, told, "{cell}: existing tasks by type");

    // Tasks that ended before the attach are in the fixture's books and not in the stream: the two it met its workers with. Its
    // closures ended ready as well, but they ran through the attach, so nobody saw how their one poll began.
    let ended = |outcome: &str| lives.kind("TOKIO_TASK").filter(|life| life.outcome() == Some(outcome)).count() as u64;
    let told = |outcome: &str| truth["ends"][outcome].as_u64().expect("a count");
    assert_eq!(
        ended("ready"),
        told("ready") - 2 - count("/existing/blocking") as u64,
        "{cell}: tasks that ended ready"
    );
    assert_eq!(ended("cancelled"), told("cancelled"), "{cell}: tasks that were cancelled");
    for life in of("TOKIO_BLOCKING", true) {
        assert!(matches!(life.outcome(), None | Some("ready" | "unknown")), "{cell}: {life:?}");
    }
    let alive: Vec<&Life> = lives.by_id.values().filter(|life| life.destroy.is_none()).collect();
    assert!(alive.is_empty(), "{cell}: all was freed, yet not destroyed: {alive:?}");
}

#[test]
fn in_a_release_build() {
    tasks_from_before_the_attach_are_found_and_followed("newest-release");
}

#[test]
fn in_a_stripped_build_with_fat_lto() {
    tasks_from_before_the_attach_are_found_and_followed("newest-fat");
}
