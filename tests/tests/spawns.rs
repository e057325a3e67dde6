//! Who spawned what, in a program that tells it itself: every spawn is seen once, with the function that made it and the task
//! that ran it, in release builds, stripped ones and ones at a fixed address.
//!
//! Uses the observer as a library: `sweep --trace-spawns` shows findings, not each spawn.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use observer::model::{Caller, CopyEnd, Pid, SpawnSeen, StackId, Trigger, Untold, UnwindEnd, first_own};
use observer::session::{Born, Slow, SpawnOptions, Spawns};
use observer::target::Process;
use tests::chains::{self, Told};
use tests::fixture::{Fixture, Scratch};
use tests::oracle::Log;
use tests::score;
use tests::stream::{number, word};
use tests::wait::until;

/// The observer's view of a run, and the program's.
struct Run {
    spawns: Spawns,
    seen: Vec<SpawnSeen>,
    told: BTreeMap<u64, Told>,
    /// The functions that spawn, by their addresses in the process.
    functions: HashMap<u64, String>,
    fixture: Fixture,
}

fn run(cell: &str) -> Run {
    // SAFETY: no argument, no failure.
    assert_eq!(unsafe { libc::geteuid() }, 0, "live tests run as root: sudo, or `cargo xtask test`");
    let mut fixture = Fixture::start(cell, "chains", &[]);
    let process = Arc::new(Process::open(Pid(fixture.pid())).expect("it runs"));
    // A debug build takes ids where the kernel must single-step.
    let options = SpawnOptions { slow: Slow::Allowed, ..SpawnOptions::default() };
    let mut spawns = Spawns::start(&[process], &options, &|_| ()).expect("its spawn sites are found");
    assert_eq!(spawns.missing(), []);
    fixture.release();
    let mut seen = Vec::new();
    until("all is spawned", || {
        let done = fixture.said().iter().any(|line| line.contains("\"spawned\":true"));
        seen.extend(spawns.drain());
        done.then_some(())
    });
    let lines = chains::lines(&fixture);
    let functions = lines.iter().filter(|line| line["function"].is_string());
    let functions = functions.map(|line| (number(line, "at"), word(line, "function").to_owned())).collect();
    Run { told: chains::spawns(&lines), functions, spawns, seen, fixture }
}

impl Run {
    /// The functions of the program's own that are in a stack, innermost first, by where their code begins.
    fn own_functions(&self, callers: &[Caller]) -> Vec<&str> {
        let (_, target) = self.spawns.catalog().targets().next().expect("one target");
        let bias = target.images[0].bias;
        let starts = callers.iter().filter_map(|caller| caller.image.as_ref()?.function);
        starts.filter_map(|start| Some(self.functions.get(&bias.to_process(start).0)?.as_str())).collect()
    }
}

/// Every spawn, its maker and its trigger; what is not as the program tells it.
fn check(cell: &str, named: bool) {
    let mut run = run(cell);
    let mut faults = Vec::new();
    let counts = run.spawns.counts().expect("the counters can be read");
    assert_eq!(
        (counts.lost, counts.malformed, counts.untaught, counts.dropped),
        (0, 0, 0, Default::default()),
        "{cell}"
    );
    assert_eq!((run.seen.len(), counts.seen), (run.told.len(), run.told.len() as u64), "{cell}: one record a spawn");
    assert_eq!(counts.hits, run.told.len() as u64, "{cell}: one hit in a task's life");
    let (mut certain, mut brief, mut untold) = (0, 0, 0);
    let by_a_task = |seen: &SpawnSeen| (seen.task.0, matches!(seen.trigger, Trigger::Task { .. }));
    let by_a_task: HashMap<u64, bool> = run.seen.iter().map(by_a_task).collect();
    let stacks: Vec<StackId> = run.seen.iter().map(|seen| seen.stack.expect("there is room for all")).collect();
    let callers = run.spawns.callers(&stacks);
    for (seen, callers) in run.seen.clone().into_iter().zip(callers) {
        let (id, Some(told)) = (seen.task, run.told.get(&seen.task.0)) else {
            faults.push(format!("{seen:?} is nobody's"));
            continue;
        };
        match (&seen.trigger, told.parent, told.stays) {
            (Trigger::NoTask, None, _) => certain += 1,
            (Trigger::Task { id, .. }, Some(parent), _) if id.0 == parent => certain += 1,
            (Trigger::OfType { .. }, Some(_), false) => brief += 1,
            // A page of the stack may be away for a moment: then it is said that it is not known.
            (Trigger::OfType { .. }, Some(_), true) => untold += 1,
            (trigger, parent, _) => faults.push(format!("{id}: by {parent:?} in {}, seen {trigger:?}", told.by)),
        }
        let by = told.by.clone();
        let own = run.own_functions(&callers);
        // What stands in `main` itself is in no function of the list.
        if by != "main" {
            let and_then = if by == "inner" { Some("outer") } else { None };
            if own.first() != Some(&by.as_str()) || and_then.is_some() && own.get(1).copied() != and_then {
                faults.push(format!("{id}: spawned in {by}, the stack has {own:?}: {callers:#?}"));
            }
            let first = first_own(&callers).map(|(call, function)| callers[call].functions[function].name.as_str());
            if named && first.and_then(|name| name.rsplit("::").next()) != Some(&by) {
                faults.push(format!("{id}: spawned in {by}, the first own function is {first:?}: {callers:#?}"));
            }
        }
        let born = Born { target: seen.target, image: seen.image, task: id };
        let chain: Vec<Option<u64>> = run.spawns.chain(&born).iter().map(|seen| Some(seen.task.0)).collect();
        let mut expected = vec![Some(id.0)];
        while let Some(Some(last)) = expected.last().copied()
            && by_a_task.get(&last) == Some(&true)
        {
            expected.push(run.told.get(&last).and_then(|told| told.parent));
        }
        if chain != expected {
            faults.push(format!("{id}: the chain is {chain:?}, not {expected:?}"));
        }
    }
    let whole = |seen: &&SpawnSeen| {
        seen.stack.and_then(|stack| run.spawns.stack(stack)).is_some_and(|stack| stack.end == UnwindEnd::Root)
    };
    let whole = run.seen.iter().filter(whole).count();
    let figures = [
        ("right", certain),
        ("wrong", faults.len()),
        ("unknown", brief + untold),
        ("whole", whole),
        ("cut", run.seen.len() - whole),
    ];
    score::say("spawns", cell, &figures);
    println!("{cell}: {} spawns, {certain} triggers told, {brief} of brief spawners told by type only", run.seen.len());
    assert!(faults.is_empty(), "{cell}: {} faults\n{}", faults.len(), faults.join("\n"));
    assert!(untold * 20 <= run.seen.len(), "{cell}: {untold} spawners that are still there are not told");
    drop(run.spawns);
    run.fixture.release();
    assert_eq!(run.fixture.truth()["truth"], true, "{cell}: unharmed");
}

#[test]
fn spawns_of_a_release_build_are_seen_with_their_makers() {
    check("newest-release", true);
}

#[test]
fn spawns_of_a_stripped_build_without_unwinding_are_seen_with_their_makers() {
    check("newest-fat", false);
}

#[test]
fn spawns_of_a_build_at_a_fixed_address_are_seen_with_their_makers() {
    check("newest-nopie", true);
}

#[test]
fn spawns_of_a_small_build_are_seen_with_their_makers() {
    check("newest-optz", true);
}

#[test]
fn spawns_of_a_debug_build_are_seen_with_their_makers() {
    check("newest-dev", true);
}

#[test]
fn spawns_of_a_build_with_debug_information_of_lines_are_seen_with_their_makers() {
    check("awaits-debug1", true);
}

#[test]
fn spawns_of_builds_with_split_debug_information_are_seen_with_their_makers() {
    check("awaits-packed", true);
    check("awaits-unpacked", true);
}

#[test]
fn spawns_of_a_stripped_build_whose_debug_file_is_beside_it_are_seen_with_their_makers() {
    check("awaits-linked", true);
}

#[test]
fn slow_places_tell_who_spawns_only_where_that_is_allowed() {
    let fixture = Fixture::start("newest-dev", "chains", &[]);
    let process = Arc::new(Process::open(Pid(fixture.pid())).expect("it runs"));
    let spawns = Spawns::start(&[process], &SpawnOptions::default(), &|_| ()).expect("its image is analysed");
    let [missing] = spawns.missing() else { panic!("one thing is missing: {:?}", spawns.missing()) };
    assert!(missing.event == "spawns" && missing.reason.contains("--allow-slow"), "{missing:?}");
    let points: usize = spawns.catalog().images().map(|image| image.points.len()).sum();
    assert!(points == 0 && missing.reason.starts_with("1 of 1 places"), "{points} points, {missing:?}");
}

/// The whole zoo, where tasks end in every way and at once: what is said of a spawner is true, and it is said of every spawn that
/// no task made.
#[test]
fn what_is_told_of_the_zoos_spawners_is_what_its_own_log_tells() {
    let place = Scratch::new("spawners");
    let log = place.path().join("log.jsonl");
    let log_path = log.to_str().expect("a temporary path is text");
    let mut fixture = Fixture::start("newest-unstable", "oracle", &[log_path]);
    let process = Arc::new(Process::open(Pid(fixture.pid())).expect("it runs"));
    let mut spawns = Spawns::start(&[process], &SpawnOptions::default(), &|_| ()).expect("its spawn sites are found");
    fixture.release();
    let mut seen = Vec::new();
    until("all is over", || {
        let over = !fixture.is_running();
        seen.extend(spawns.drain());
        over.then_some(())
    });
    let counts = spawns.counts().expect("the counters can be read");
    assert_eq!((counts.lost, counts.malformed, counts.untaught, counts.dropped), (0, 0, 0, Default::default()));
    let truth = fixture.truth();
    let log = Log::parse(&std::fs::read_to_string(&log).expect("the oracle wrote its log"));
    assert_eq!(Some(log.workers()), truth["workers"].as_u64(), "the oracle's two voices agree");

    let mut faults = Vec::new();
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    let ids: HashSet<u64> = seen.iter().map(|seen| seen.task.0).collect();
    assert_eq!((seen.len(), ids.len()), (log.tasks.len(), log.tasks.len()), "one record a spawn");
    assert_eq!(counts.hits, log.tasks.len() as u64, "one hit in a task's life");
    for seen in &seen {
        let id = seen.task.0;
        let spawned = log.tasks.get(&id).and_then(|told| told.spawned.as_ref());
        let told = spawned.map(|spawned| spawned.parent);
        let (is_true, word) = match (&seen.trigger, told) {
            // The runtime's own worker: whoever started it, nobody told.
            (_, None) => (true, "a worker's"),
            (Trigger::NoTask, Some(parent)) => (parent.is_none(), "no task"),
            (Trigger::Task { id, .. }, Some(parent)) => (Some(id.0) == parent, "a task"),
            (Trigger::OfType { why, .. }, Some(parent)) => (
                parent.is_some(),
                match why {
                    Untold::Gone => "a task that is gone",
                    Untold::Several => "one of several",
                    Untold::NotFound => "a task not found",
                },
            ),
            // Deeper than a record goes.
            (Trigger::Unknown(end), Some(_)) => (*end == UnwindEnd::Copy(CopyEnd::Bound), "unknown"),
        };
        *tally.entry(word.to_owned()).or_default() += 1;
        if !is_true {
            faults.push(format!("{id}: by {told:?}, seen {:?}", seen.trigger));
        }
    }
    println!("{} spawns: {tally:?}", seen.len());
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    assert!(tally.get("unknown").is_none_or(|unknown| unknown * 20 < seen.len()), "{tally:?}");
}
