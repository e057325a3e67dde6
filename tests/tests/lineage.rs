//! `ps --tree` and `ps --by-root`: who spawned whom in some time, as the program tells it itself.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use tests::chains::{self, Told};
use tests::fixture::Fixture;
use tests::observer::Observer;
use tests::stream::{Stream, number};
use tests::wait::until;

/// The program's spawns, and what a command says that watched them all.
fn watch(cell: &str, what: &str) -> (Stream, BTreeMap<u64, Told>) {
    let mut fixture = Fixture::start(cell, "chains", &[]);
    let pid = fixture.pid().to_string();
    let observer = Observer::run(["ps", what, "--json", "--allow-slow", "--for", "10m", "--pid", &pid]);
    let observer = observer.wait_until_attached();
    fixture.release();
    let told = chains::told(&fixture);
    // Those who spawn and end at once have ended.
    let pid = fixture.pid();
    let brief: Vec<u64> = told.values().filter(|of| !of.stays).filter_map(|of| of.parent).collect();
    until("they have ended", || {
        let ended = Observer::run(["ps", "--json", "--tasks", "--no-waits", "--pid", &pid.to_string()]).look();
        (!ended.lines.iter().filter_map(id).any(|id| brief.contains(&id))).then_some(())
    });
    let stream = observer.stop();
    fixture.release();
    assert_eq!(fixture.truth()["truth"], true, "unharmed");
    assert_eq!((stream.total("lost"), stream.total("malformed"), stream.total("late")), (0, 0, 0), "{cell}");
    (stream, told)
}

fn id(line: &Value) -> Option<u64> {
    line["taskId"].as_str()?.parse().ok()
}

fn sum<'a>(lines: impl IntoIterator<Item = &'a Value>, share: &str, of: &str) -> u64 {
    lines.into_iter().map(|line| number(&line[share], of)).sum()
}

fn tree(cell: &str) {
    let (stream, told) = watch(cell, "--tree");
    let branches: Vec<&Value> = stream.of("branch").collect();
    let by_number: HashMap<u64, &Value> = branches.iter().map(|branch| (number(branch, "branch"), *branch)).collect();
    let leaves =
        branches.iter().flat_map(|branch| branch["tasks"].as_array().into_iter().flatten().map(|task| (*branch, task)));
    let leaves: Vec<(&Value, &Value)> = leaves.collect();
    let by_async: HashMap<u64, (&Value, &Value)> =
        leaves.iter().map(|(branch, leaf)| (number(leaf, "asyncId"), (*branch, *leaf))).collect();

    // Each task that is alive stands where the program says it was spawned.
    let (mut checked, mut below) = (0, 0);
    for (branch, leaf) in &leaves {
        let Some(of) = id(leaf).and_then(|id| told.get(&id)) else { continue };
        checked += 1;
        let trigger = leaf["triggerAsyncId"].as_u64();
        match of.parent {
            None => assert_eq!((&branch["from"], trigger), (&"outside".into(), None), "{cell}: {leaf} in {branch}"),
            Some(parent) => {
                let trigger = trigger.unwrap_or_else(|| panic!("{cell}: {leaf} was spawned by {parent}"));
                if of.stays {
                    let (above, spawner) = by_async[&trigger];
                    assert_eq!(id(spawner), Some(parent), "{cell}: {leaf}");
                    let same = above["branch"] == branch["branch"] && branch["recurs"] == true;
                    assert!(same || branch["above"] == above["branch"], "{cell}: {branch} is not below {above}");
                    below += usize::from(!same);
                }
            }
        }
    }
    let living = told.len() - told.values().filter(|of| !of.stays).count();
    assert!(checked >= living, "{cell}: {checked} of {living} checked");
    assert!(below > 0 && branches.iter().any(|branch| branch["recurs"] == true), "{cell}");

    // Whoever ended is counted, and all below is part of each.
    let met = sum(branches.iter().copied(), "own", "live") + sum(branches.iter().copied(), "own", "ended");
    assert_eq!(met, stream.total("init"), "{cell}");
    assert_eq!(sum(branches.iter().copied(), "own", "live"), leaves.len() as u64, "{cell}");
    for branch in &branches {
        let further = branches.iter().filter(|other| other["above"] == branch["branch"]);
        for what in ["live", "ended", "polls", "busyNs"] {
            let all = number(&branch["own"], what) + sum(further.clone().copied(), "all", what);
            assert_eq!(number(&branch["all"], what), all, "{cell}: {what} of {branch}");
        }
        assert!(branch["above"].is_null() || by_number.contains_key(&number(branch, "above")), "{cell}: {branch}");
    }
    let polls = sum(branches.iter().copied(), "own", "polls") + stream.total("unplaced");
    assert_eq!(polls, stream.total("polls"), "{cell}: each poll is somebody's");
    println!(
        "{cell}: {checked} tasks where they were spawned, {below} below another type, {} branches",
        branches.len()
    );
}

fn by_root(cell: &str) {
    let (stream, told) = watch(cell, "--by-root");
    let mut led: BTreeMap<u64, u64> = BTreeMap::new();
    for task in told.keys() {
        *led.entry(chains::root(&told, *task)).or_default() += 1;
    }
    let met = |line: &Value| number(&line["all"], "live") + number(&line["all"], "ended");
    let roots: Vec<&Value> = stream.of("root").collect();
    let said: BTreeMap<u64, u64> =
        roots.iter().filter_map(|root| Some((id(root)?, met(root)))).filter(|(id, _)| told.contains_key(id)).collect();
    let unsaid: Vec<_> = led.iter().filter(|(root, count)| said.get(root) != Some(count)).collect();
    assert!(unsaid.is_empty(), "{cell}: the program tells {led:?}, said are {said:?}; differing {unsaid:?}");
    assert!(led.values().any(|count| *count > 1), "{cell}: some led to others");
    assert_eq!(roots.iter().map(|root| met(root)).sum::<u64>(), stream.total("init"), "{cell}: each task has one root");
    let polls = sum(roots.iter().copied(), "all", "polls") + stream.total("unplaced");
    assert_eq!(polls, stream.total("polls"), "{cell}: each poll is somebody's");
    println!("{cell}: {} roots as the program tells them, {led:?}", said.len());
}

#[test]
fn a_tree_shows_each_task_below_the_type_that_spawned_it() {
    tree("newest-release");
}

#[test]
fn a_tree_of_a_stripped_program_shows_them_too() {
    tree("newest-fat");
}

#[test]
fn sums_by_root_are_of_all_that_one_task_led_to() {
    by_root("newest-release");
}

#[test]
fn sums_by_root_of_a_stripped_program_are_too() {
    by_root("newest-fat");
}

#[test]
fn what_only_watching_needs_is_refused_where_nothing_is_watched() {
    for wrong in [&["--for", "1s"][..], &["--allow-slow"], &["--tree", "--by-root"], &["--tree", "--sort", "name"]] {
        let ended = Observer::run(["ps", "--pid", "1"].iter().chain(wrong)).ended();
        assert_eq!(ended.code, Some(2), "{wrong:?}: {:?}", ended.stderr);
    }
}
