use crate::model::{LiveTask, ProcAddr};
use crate::verdict::sample::task;
use crate::verdict::{Reading, Verdict};

use super::*;

const SECOND: u64 = 1_000_000_000;
const RULES: Rules = Rules { warm_up: Ns(60 * SECOND) };
const OLD: Option<Ns> = Some(Ns(3600 * SECOND));
/// Idle, with a waker and no join handle.
const WAITS: u64 = 0x80;

fn tasks(ids: std::ops::Range<u64>) -> Vec<LiveTask> {
    ids.map(|id| task(8, id, WAITS)).collect()
}

/// The history of readings two seconds apart.
fn history(readings: &[Vec<LiveTask>]) -> History {
    let mut history = History::new(readings.len().max(2));
    for (at, tasks) in (1..).zip(readings) {
        history.add(&Reading { at: Ns(2 * at * SECOND), tasks, complete: true, closures: true });
    }
    history
}

fn verdicts(history: &History) -> Vec<Verdict> {
    history.judge(&RULES, OLD, |_| &[]).findings.iter().map(|finding| finding.evidence.verdict()).collect()
}

fn why(history: &History, age: Option<Ns>) -> Vec<Why> {
    let judgement = history.judge(&RULES, age, |_| &[]);
    assert!(judgement.findings.is_empty(), "{judgement:?}");
    judgement.undecided.iter().map(|undecided| undecided.why).collect()
}

#[test]
fn a_task_that_nobody_can_wake_is_stuck_at_the_second_look_and_not_before() {
    let one = vec![task(8, 1, 0x88), task(8, 2, WAITS)];
    assert!(verdicts(&history(std::slice::from_ref(&one))).is_empty());
    let twice = history(&[one.clone(), one]);
    let finding = twice.judge(&RULES, OLD, |_| &[]).findings.remove(0);
    assert_eq!((finding.live, finding.tasks, finding.ids), (2, 1, (TaskId(1), TaskId(1))));
    assert_eq!(finding.evidence, Evidence::Stuck { with_handle: 1, apart: Ns(2 * SECOND) });
}

#[test]
fn a_task_that_moved_between_the_looks_is_not_stuck() {
    assert!(verdicts(&history(&[vec![task(8, 1, 0x88)], vec![task(8, 1, 0x40)]])).is_empty());
    let another = LiveTask { header: ProcAddr(1 << 7), ..task(8, 2, 0x88) };
    assert!(verdicts(&history(&[vec![task(8, 1, 0x88)], vec![another]])).is_empty());
}

#[test]
fn an_idle_closure_in_its_queue_is_not_stuck() {
    let closure = vec![LiveTask { owner: 0, ..task(8, 1, 0x88) }];
    assert!(verdicts(&history(&[closure.clone(), closure])).is_empty());
}

#[test]
fn births_that_never_die_are_a_leak_with_slope_and_fit() {
    let leak = history(&[tasks(0..10), tasks(0..20), tasks(0..30)]);
    let finding = leak.judge(&RULES, OLD, |_| &[]).findings.remove(0);
    let Evidence::Leaking { grows, slope, fit, born, ended, readings, during } = finding.evidence else {
        panic!("{finding:?}")
    };
    assert_eq!((grows, born, ended, readings, during), (Grows::All, 20, 0, 3, Ns(4 * SECOND)));
    assert!((slope - 5.0).abs() < 1e-9 && (fit - 1.0).abs() < 1e-9);
    assert_eq!((finding.live, finding.tasks, finding.seen_for), (30, 30, Ns(4 * SECOND)));
}

#[test]
fn a_place_whose_tasks_come_and_go_is_healthy() {
    let busy = history(&[tasks(0..50), tasks(50..101), tasks(101..153), tasks(153..206), tasks(206..260)]);
    let judgement = busy.judge(&RULES, OLD, |_| &[]);
    assert_eq!((judgement.findings.len(), judgement.healthy_sites, judgement.healthy_tasks), (0, 1, 54));
}

#[test]
fn a_cache_that_is_full_and_a_ramp_that_ended_are_healthy() {
    let cache = history(&[tasks(0..100), tasks(10..110), tasks(20..120), tasks(30..130)]);
    assert!(verdicts(&cache).is_empty());
    let ramp = history(&[tasks(0..80), tasks(0..99), tasks(0..100), tasks(0..100)]);
    assert!(verdicts(&ramp).is_empty() && why(&ramp, OLD).is_empty());
}

#[test]
fn the_part_of_a_busy_place_that_stays_is_a_leak() {
    // At each reading fifty that will be gone, and ten more that stay.
    let reading = |n: u64| -> Vec<LiveTask> {
        let stay = (0..10 * n).map(|k| k * 1000);
        let pass = (0..50 - 2 * n).map(|k| 1_000_001 + 100 * n + k);
        stay.chain(pass).map(|id| task(8, id, WAITS)).collect()
    };
    let part = history(&(1..6).map(reading).collect::<Vec<_>>());
    let finding = part.judge(&RULES, OLD, |_| &[]).findings.remove(0);
    let Evidence::Leaking { grows, slope, .. } = finding.evidence else { panic!("{finding:?}") };
    assert_eq!(grows, Grows::Part);
    assert!((slope - 5.0).abs() < 0.01, "{slope}");
}

#[test]
fn growth_is_not_judged_from_too_little() {
    assert_eq!(why(&history(&[tasks(0..10), tasks(0..20)]), OLD), [Why::Readings { had: 2, needed: 3 }]);
    let few = history(&[tasks(0..10), tasks(0..12), tasks(0..14)]);
    assert_eq!(why(&few, OLD), [Why::Births { had: 4, needed: 8 }]);
    let leak = history(&[tasks(0..10), tasks(0..20), tasks(0..30)]);
    let age = Ns(5 * SECOND);
    assert_eq!(why(&leak, Some(age)), [Why::Young { age, warm_up: RULES.warm_up }]);
}

#[test]
fn growth_is_not_judged_where_memory_could_not_be_read() {
    let mut leak = History::new(3);
    for n in 1..4 {
        leak.add(&Reading { at: Ns(n * SECOND), tasks: &tasks(0..10 * n), complete: n != 2, closures: true });
    }
    assert_eq!(why(&leak, OLD), [Why::Incomplete]);
}

#[test]
fn many_old_tasks_that_do_nothing_are_suspect_and_young_ones_are_not() {
    let newer = |from: u64| tasks(from..from + 3).into_iter().map(|task| LiveTask { vtable: ProcAddr(16), ..task });
    let with = |from: u64| tasks(0..150).into_iter().chain(newer(from)).collect::<Vec<_>>();
    let old = history(&[with(200), with(300), with(400)]);
    let finding = old.judge(&RULES, OLD, |_| &[]).findings.remove(0);
    assert_eq!((finding.tasks, finding.evidence), (150, Evidence::Suspect { newer: 402 - 149, readings: 3 }));
    assert!(verdicts(&history(&[with(150), with(155), with(160)])).is_empty(), "nothing came after them");
}

#[test]
fn tasks_that_wait_only_for_each_other_are_suspect_and_said_to_be_in_a_ring() {
    let lock = |holder| Waiting::Join { task: TaskId(holder) };
    let (one, two) = ([lock(2)], [lock(1)]);
    let pair = || vec![task(8, 1, WAITS), task(8, 2, WAITS), task(8, 3, WAITS)];
    let waits = |header: ProcAddr| match header.0 >> 7 {
        1 => &one[..],
        2 => &two[..],
        _ => &[],
    };
    let finding = history(&[pair(), pair(), pair()]).judge(&RULES, OLD, waits).findings.remove(0);
    assert_eq!((finding.live, finding.tasks, finding.evidence), (3, 2, Evidence::Ring { readings: 3 }));
    assert!(history(&[pair(), pair()]).judge(&RULES, OLD, waits).findings.is_empty(), "two readings are too few");
}
