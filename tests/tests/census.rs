//! Censuses, by scans and by walks, against the runtime's own count of its tasks.

use std::collections::HashMap;

use observer::census::{Census, CensusError, Doubt, High, How, Rejection, Unlisted};
use observer::model::ProcAddr;
use observer::target::AddressRange;
use serde_json::Value;
use tests::fixture::Fixture;
use tests::inside::Inside;
use tests::observer::Observer;
use tests::stream::word;
use tests::swap::{Swap, page_out};
use tests::wait::fewer;

fn crowd(cell: &str, allocator: &str, arguments: &[&str]) -> Fixture {
    Fixture::start(cell, &format!("crowd-{allocator}"), arguments)
}

/// What the fixture counts: all, and by type.
fn truth(told: &Value) -> (u64, Vec<u64>) {
    let count = |value: &Value| value.as_u64().expect("a count");
    let mut by_kind: Vec<u64> = told["byKind"].as_array().expect("a list").iter().map(count).collect();
    by_kind.sort_unstable();
    by_kind.retain(|count| *count > 0);
    (count(&told["alive"]), by_kind)
}

fn assert_exact(census: &Census, inside: &Inside, told: &Value, what: &str) {
    let (alive, by_kind) = truth(told);
    let rejected: Vec<_> = census.rejected.iter().collect();
    assert_eq!(inside.by_type(census), by_kind, "{what}: by type; rejected {rejected:?}");
    let bounds = (census.bounds.low, census.bounds.high);
    assert_eq!(bounds, (alive, High::AtMost(alive)), "{what}: bounds");
    assert!(census.started <= census.bounds.at && census.bounds.at <= census.ended, "{what}: {:?}", census.bounds);
    assert!(!census.truncated && census.unread.is_empty(), "{what}: whole");
    let mut ids: Vec<_> = census.tasks.iter().map(|task| task.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), census.tasks.len(), "{what}: no id occurs twice");
}

/// A scan, a walk, and walks after tasks came and went.
fn a_crowd_is_counted_exactly(cell: &str, allocator: &str, tasks: usize) {
    let what = format!("{cell} {allocator} {tasks}");
    let mut fixture = crowd(cell, allocator, &[&format!("tasks={tasks}")]);
    let inside = Inside::of(fixture.pid());
    let mut series = inside.series();
    let scan = series.take().expect("a census");
    assert_eq!(
        (scan.how, scan.unlisted, series.doubt()),
        (How::Scan, Unlisted::Searched, Some(Doubt::First)),
        "{what}"
    );
    assert_exact(&scan, &inside, &fixture.answer("alive"), &what);
    for (question, how) in
        [("alive", "still"), ("more 3000", "grown"), ("fewer 5000", "shrunk"), ("more 1000", "again")]
    {
        let told = fixture.answer(question);
        let walk = series.take().expect("a census");
        assert_eq!((walk.how, series.doubt()), (How::Walk, None), "{what} {how}");
        assert_eq!(walk.unlisted, Unlisted::SinceScan(scan.ended), "{what} {how}");
        assert_exact(&walk, &inside, &told, &format!("{what} {how}"));
    }
}

/// With every allocator, at addresses that the loader chose and at fixed ones.
fn are_counted_exactly_everywhere(tasks: usize) {
    for cell in ["newest-release", "newest-nopie"] {
        for allocator in ["glibc", "mimalloc", "jemalloc"] {
            a_crowd_is_counted_exactly(cell, allocator, tasks);
        }
    }
}

#[test]
fn ten_thousand_are_counted_exactly() {
    are_counted_exactly_everywhere(10_000);
}

#[test]
fn a_hundred_thousand_are_counted_exactly() {
    are_counted_exactly_everywhere(fewer(100_000));
}

#[test]
fn a_million_are_counted_exactly() {
    are_counted_exactly_everywhere(fewer(1_000_000));
}

/// Where links are is learned from tasks that name each other. The first few each have a list of their own to themselves.
#[test]
fn a_few_tasks_that_are_alone_in_their_lists_are_counted_exactly_as_they_become_more() {
    let mut fixture = crowd("newest-release", "glibc", &["tasks=3"]);
    let inside = Inside::of(fixture.pid());
    let mut series = inside.series();
    assert_exact(&series.take().expect("a census"), &inside, &fixture.answer("alive"), "three");
    let walk = series.take().expect("a census");
    assert_eq!((walk.how, series.doubt()), (How::Walk, None), "lists of one are met whole");
    assert_exact(&walk, &inside, &fixture.answer("alive"), "three again");
    let told = fixture.answer("more 9");
    let scan = series.take().expect("a census");
    assert_eq!((scan.how, series.doubt()), (How::Scan, Some(Doubt::Link)), "no walk leads through lists of two");
    assert_exact(&scan, &inside, &told, "twelve");
    let told = fixture.answer("more 9");
    let walk = series.take().expect("a census");
    assert_eq!((walk.how, series.doubt()), (How::Walk, None), "now it does");
    assert_exact(&walk, &inside, &told, "twenty-one");
}

#[test]
fn a_walk_reads_the_tasks_and_not_the_heap() {
    let mut fixture = crowd("newest-release", "glibc", &["tasks=1000", "heap=536870912"]);
    let inside = Inside::of(fixture.pid());
    let mut series = inside.series();
    let scan = series.take().expect("a census");
    assert!(scan.bytes_read > 500 << 20, "{} bytes", scan.bytes_read);
    let told = fixture.answer("more 100");
    let walk = series.take().expect("a census");
    assert_eq!(walk.how, How::Walk);
    assert!(walk.bytes_read < 4 << 20, "{} bytes", walk.bytes_read);
    assert_exact(&walk, &inside, &told, "a large heap");
}

#[test]
fn of_a_huge_reservation_only_what_was_touched_is_read() {
    let mut fixture = crowd("newest-release", "glibc", &["tasks=1000", "reserve=8589934592"]);
    let inside = Inside::of(fixture.pid());
    let told = fixture.answer("alive");
    let census = inside.series().take().expect("a census");
    assert!(census.bytes_read < 64 << 20, "{} bytes", census.bytes_read);
    assert_exact(&census, &inside, &told, "a reservation");
}

#[test]
fn a_new_local_set_or_runtime_is_found_by_a_scan_and_followed_from_then_on() {
    let mut fixture = crowd("newest-release", "glibc", &["tasks=500", "sets=2"]);
    let inside = Inside::of(fixture.pid());
    let mut series = inside.series();
    let live = |census: &Census| inside.by_type(census).iter().sum::<u64>();
    // Ten in each set; the count that the fixture tells is the runtime's own.
    let others = |of: u64| of + 500;
    assert_eq!(live(&series.take().expect("a census")), others(20));
    for (question, expected) in [("set", others(30)), ("runtime", others(31))] {
        fixture.answer(question);
        let census = series.take().expect("a census");
        assert_eq!((census.how, series.doubt()), (How::Scan, Some(Doubt::NewList)), "{question}");
        assert_eq!(live(&census), expected, "{question}");
        let census = series.take().expect("a census");
        assert_eq!((live(&census), census.how, series.doubt()), (expected, How::Walk, None), "{question}");
    }
}

#[test]
fn what_is_forgotten_for_its_memory_is_found_again_by_a_scan() {
    let mut fixture = crowd("newest-release", "glibc", &["tasks=1000"]);
    let inside = Inside::of(fixture.pid());
    let mut series = inside.series();
    series.take().expect("a census");
    series.forget();
    let told = fixture.answer("alive");
    for (how, doubt) in [(How::Scan, Some(Doubt::Memory)), (How::Walk, None)] {
        let census = series.take().expect("a census");
        assert_eq!((census.how, series.doubt()), (how, doubt));
        assert_exact(&census, &inside, &told, "after what was known was forgotten");
    }
}

#[test]
fn while_tasks_come_and_go_the_truth_is_within_the_bounds() {
    let churn = format!("churn={}", fewer(100_000));
    let mut fixture = crowd("newest-release", "glibc", &["tasks=2000", &churn]);
    let inside = Inside::of(fixture.pid());
    let mut series = inside.series();
    let (mut walks, mut known, mut rounds) = (0, 0, 0);
    let mut doubts = HashMap::new();
    let enough = fewer(100);
    // Where the sampling thread did not run at the moment, nobody knows the truth.
    while known < enough {
        rounds += 1;
        assert!(rounds <= 2000, "the truth was sampled {known} times only");
        let census = series.take().expect("a census");
        let told = fixture.answer(&format!("at {}", census.bounds.at.0));
        let (least, most) = (told["least"].as_u64().expect("a count"), told["most"].as_u64().expect("a count"));
        let High::AtMost(high) = census.bounds.high else { panic!("round {rounds}: {:?}", census.bounds) };
        if told["looked"] == Value::Bool(true) {
            known += 1;
            walks += usize::from(census.how == How::Walk);
            *doubts.entry(series.doubt().map_or("walk", |doubt| doubt.as_str())).or_insert(0u32) += 1;
            let what = format!("round {rounds} {:?} {:?}: {told}, {:?}", census.how, series.doubt(), census.bounds);
            assert!(census.bounds.low <= most && least <= high && census.bounds.low >= 2000, "{what}");
        }
    }
    assert!(walks > enough / 2, "{walks} of {enough} were walks: {doubts:?}");
}

#[test]
fn memory_full_of_lookalikes_costs_bounded_memory_and_yields_no_task() {
    let lookalikes = fewer(2_000_000);
    let mut fixture = crowd("newest-release", "glibc", &["tasks=10000", &format!("lookalikes={lookalikes}")]);
    let inside = Inside::of(fixture.pid());
    let told = fixture.answer("alive");
    let mut series = inside.series();
    let census = series.take().expect("a census");
    assert_exact(&census, &inside, &told, "lookalikes");
    let unlisted = [Rejection::Unlisted, Rejection::Scheduler].map(|reason| census.rejected.count(reason));
    assert!(unlisted.iter().sum::<u64>() >= lookalikes as u64 / 20 * 19, "{:?}", census.rejected);
}

#[test]
fn a_stopped_program_is_counted_exactly() {
    let mut fixture = crowd("newest-release", "glibc", &["tasks=5000"]);
    let told = fixture.answer("alive");
    let inside = Inside::of(fixture.pid());
    let mut series = inside.series();
    signal(&fixture, libc::SIGSTOP);
    for _ in 0..2 {
        assert_exact(&series.take().expect("a census"), &inside, &told, "stopped");
    }
    signal(&fixture, libc::SIGCONT);
}

#[test]
fn of_a_program_that_replaced_itself_or_ended_there_is_no_census() {
    let mut fixture = crowd("newest-release", "glibc", &["tasks=5000"]);
    let inside = Inside::of(fixture.pid());
    let mut series = inside.series();
    series.take().expect("a census");
    fixture.say("exec");
    tests::wait::until("it runs another program", || {
        matches!(series.take(), Err(CensusError::Replaced { .. })).then_some(())
    });
    assert!(matches!(inside.series().take(), Err(CensusError::Replaced { .. })), "also for a first census");
    signal(&fixture, libc::SIGKILL);
    tests::wait::until("it ended", || matches!(series.take(), Err(CensusError::Target(_))).then_some(()));
}

fn signal(fixture: &Fixture, signal: i32) {
    let pid = libc::pid_t::try_from(fixture.pid()).expect("a pid");
    // SAFETY: a system call with two integers; the process is our own child and not waited for yet.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

#[test]
fn of_memory_that_is_swapped_out_every_task_is_counted_in_bounded_time() {
    let swap = Swap::on(128 << 20);
    let mut fixture = crowd("newest-release", "glibc", &["tasks=50000"]);
    let inside = Inside::of(fixture.pid());
    let told = fixture.answer("alive");
    let mut series = inside.series();
    for how in [How::Scan, How::Walk] {
        let out = page_out(fixture.pid());
        assert!(out > 16 << 20, "only {out} bytes were swapped out");
        let census = series.take().expect("a census");
        assert_eq!(census.how, how);
        assert_exact(&census, &inside, &told, "swapped out");
        // What comes from a disk takes as long as a disk takes, but it ends.
        let took = census.ended.since(census.started).0;
        assert!(took < 60_000_000_000, "{took} ns for {out} bytes");
    }
    let told = fixture.answer("more 100");
    assert_exact(&series.take().expect("a census"), &inside, &told, "and it goes on");
    drop(swap);
}

/// A crowd among pages that nobody can read, and where they are.
fn among_holes(argument: &str) -> (Fixture, Vec<ProcAddr>) {
    let fixture = crowd("newest-release", "glibc", &["tasks=10000", argument]);
    let ready = fixture.wait_for("it is up", |line| line.contains("\"holes\""));
    let holes = ready["holes"].as_array().expect("a list").iter();
    let mut holes: Vec<ProcAddr> = holes.map(|at| ProcAddr(at.as_u64().expect("an address"))).collect();
    holes.sort_unstable();
    (fixture, holes)
}

#[test]
fn memory_that_cannot_be_read_costs_none_of_the_tasks_around_it_and_is_said() {
    let (mut fixture, holes) = among_holes("poisoned=5");
    assert_eq!(holes.len(), 5);
    let inside = Inside::of(fixture.pid());
    let told = fixture.answer("alive");
    let mut series = inside.series();
    for _ in 0..2 {
        let census = series.take().expect("a census");
        let (alive, by_kind) = truth(&told);
        assert_eq!((inside.by_type(&census), census.bounds.low), (by_kind, alive), "all of them");
        let page = |at: &ProcAddr| AddressRange { start: *at, end: ProcAddr(at.0 + 4096) };
        assert_eq!(census.unread, holes.iter().map(page).collect::<Vec<_>>(), "exactly what cannot be read");
        let around = |hole: &ProcAddr| {
            let below = census.tasks.iter().any(|task| task.header < *hole && hole.0 - task.header.0 < 1 << 16);
            let above = census.tasks.iter().any(|task| task.header > *hole && task.header.0 - hole.0 < 1 << 16);
            below && above
        };
        assert!(holes.iter().all(around), "tasks stand right before and behind each page");
        assert_eq!(census.how, How::Scan, "what was not read may hold a list");
        assert!(matches!(census.bounds.high, High::Unknown(_)), "{:?}", census.bounds);
    }
    let pid = fixture.pid();
    let look = Observer::run(["ps", "--json", "--no-waits", "--pid", &pid.to_string()]).look();
    let census = look.of("census", pid).next().expect("it was read");
    assert!(word(census, "doubt").starts_with("20 KiB of memory could not be read"), "{census}");
}

#[test]
fn guards_inside_of_memory_are_no_memory_and_raise_no_doubt() {
    let (mut fixture, holes) = among_holes("guards=5");
    assert_eq!(holes.len(), 5);
    let inside = Inside::of(fixture.pid());
    let told = fixture.answer("alive");
    let mut series = inside.series();
    for how in [How::Scan, How::Walk] {
        let census = series.take().expect("a census");
        assert_eq!(census.how, how);
        assert_exact(&census, &inside, &told, "guards");
    }
}
