//! `trace --stacks`: each birth is said with the calls that spawned it and the stack that its spawner was spawned through, as
//! the program tells it itself.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::chains::{self, Told};
use tests::fixture::{Fixture, Scratch, path};
use tests::life::{Lives, summary};
use tests::observer::Observer;
use tests::stream::{Stream, number};
use tests::wait::until;

fn start(cell: &str) -> Fixture {
    Fixture::start(cell, "chains", &[])
}

/// The program's run under the observer, and what it tells of it.
fn run(mut fixture: Fixture, options: &[&str]) -> (Stream, BTreeMap<u64, Told>) {
    let observer = Observer::attach(fixture.pid(), &[&["--stacks"], options].concat());
    fixture.release();
    let told = chains::told(&fixture);
    // Names are read from what the process has mapped: it goes on until they are.
    let inits = |lines: &[String]| lines.iter().filter(|line| line.contains("\"event\":\"init\"")).count();
    until("all births are said, and what they came through", || {
        let said = observer.said();
        let all: Vec<Value> = said.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let named = |id: &Value| all.iter().any(|line| line["event"] == "spawnStack" && line["stackId"] == *id);
        let used = all.iter().filter(|line| line["event"] == "spawned");
        (inits(&said) >= told.len() && used.into_iter().all(|line| named(&line["stackId"]))).then_some(())
    });
    fixture.release();
    assert_eq!(fixture.truth()["truth"], true, "unharmed");
    (observer.stream(), told)
}

/// The first function that is neither the runtime's nor the standard library's, without its path.
fn first_own(stack: &Value) -> Option<&str> {
    let own = stack["calls"].as_array()?.iter().find(|call| call["machinery"] == false)?;
    own["function"].as_str()?.rsplit("::").next()
}

/// Holds each birth's stack against what the program tells.
fn check(cell: &str, fixture: Fixture, options: &[&str], named: bool) {
    let (stream, told) = run(fixture, options);
    let lives = Lives::of(&stream);
    lives.assert_sane(cell);
    let mut faults = Vec::new();
    let mut stacks: HashMap<u64, &Value> = HashMap::new();
    for line in stream.lines.iter().filter(|line| line["event"] == "spawnStack") {
        if stacks.insert(number(line, "stackId"), line).is_some() {
            faults.push(format!("said twice: {line}"));
        }
        if line["beforeStackId"].as_u64().is_some_and(|before| !stacks.contains_key(&before)) {
            faults.push(format!("said before what it leads to: {line}"));
        }
    }
    let mut stack_of: HashMap<u64, u64> = HashMap::new();
    for pair in stream.lines.windows(2).filter(|pair| pair[1]["event"] == "spawned") {
        let id = number(&pair[1], "asyncId");
        if pair[0]["event"] != "init" || pair[0]["asyncId"] != pair[1]["asyncId"] || pair[0]["ts"] != pair[1]["ts"] {
            faults.push(format!("{} does not follow its init", pair[1]));
        }
        if stack_of.insert(id, number(&pair[1], "stackId")).is_some() {
            faults.push(format!("{id}: spawned twice"));
        }
    }
    let (mut checked, mut chained) = (0, 0);
    for (id, life) in &lives.by_id {
        let Some(of) = life.task_id().and_then(|task| told.get(&task)) else { continue };
        let Some(stack) = stack_of.get(id).and_then(|stack| stacks.get(stack)) else {
            faults.push(format!("{id}: no stack"));
            continue;
        };
        checked += 1;
        let own = first_own(stack);
        // What stands in `main` itself is in a closure of it.
        if named && of.by != "main" && own != Some(&of.by) {
            faults.push(format!("{id}: spawned in {}, the first own function is {own:?}: {stack}", of.by));
        }
        let trigger = life.init["triggerAsyncId"].as_u64();
        let before = trigger.and_then(|trigger| stack_of.get(&trigger)).copied();
        let expected = match (of.parent, trigger) {
            (None, _) => (None, Some("noTask")),
            (Some(_), Some(trigger)) if trigger > 0 => (before, None),
            (Some(_), _) => (None, Some("a trigger")),
        };
        chained += usize::from(expected.0.is_some());
        let said = (stack["beforeStackId"].as_u64(), stack["beyond"].as_str());
        if said != expected {
            faults.push(format!("{id}: by {:?}, its stack says {said:?}, not {expected:?}", of.parent));
        }
    }
    let counts = &stream.end()["stacks"];
    println!("{cell}: {checked} stacks right, {chained} of them behind their spawner's; {counts}");
    assert!(faults.is_empty(), "{cell}: {}", summary(&faults));
    assert_eq!(checked, told.len(), "{cell}: every spawn that the program tells of");
    assert!(chained > 0, "{cell}: some were spawned by tasks");
    assert_eq!(
        (&counts["without"], &counts["lost"], &counts["malformed"]),
        (&0.into(), &0.into(), &0.into()),
        "{cell}"
    );
    assert_eq!(number(counts, "different"), stacks.len() as u64, "{cell}");
}

#[test]
fn births_of_a_release_build_come_with_their_spawners_stacks() {
    check("newest-release", start("newest-release"), &[], true);
}

#[test]
fn births_of_a_debug_build_come_with_their_spawners_stacks() {
    check("newest-dev", start("newest-dev"), &[], true);
}

#[test]
fn births_of_a_stripped_build_come_with_their_spawners_stacks() {
    check("newest-fat", start("newest-fat"), &[], false);
}

/// As packages ship programs: stripped, with what was stripped in a file of its own.
#[test]
fn calls_are_named_by_debug_information_that_lies_apart() {
    let place = Scratch::new("apart");
    let built = path("newest-dev", "chains");
    let (stripped, apart) = (place.path().join("chains"), place.path().join("chains.debug"));
    let make = |program: &str, option: &str, to: &Path| {
        let status = Command::new(program).args([option, "-o"]).arg(to).arg(&built).status();
        assert!(status.is_ok_and(|status| status.success()), "{program} makes {}", to.display());
    };
    make("strip", "--strip-all", &stripped);
    make("strip", "--only-keep-debug", &apart);
    let fixture = Fixture::spawn("stripped chains", &mut Command::new(&stripped));
    fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    let folder = place.path().to_str().expect("a temporary path is text");
    check("stripped, with a file apart", fixture, &["--debug-dir", folder], true);
}

#[test]
fn without_polls_the_calls_are_said_and_the_spawner_is_not() {
    let (stream, told) = run(start("newest-release"), &["--tier", "spawns"]);
    let stacks: Vec<&Value> = stream.lines.iter().filter(|line| line["event"] == "spawnStack").collect();
    let beyond: Vec<Option<&str>> = stacks.iter().map(|line| line["beyond"].as_str()).collect();
    assert!(!stacks.is_empty() && beyond.iter().all(|beyond| *beyond == Some("notTold")), "{beyond:?}");
    let spawned = stream.lines.iter().filter(|line| line["event"] == "spawned").count();
    assert!(spawned >= told.len(), "{spawned} of {} births", told.len());
}

#[test]
fn stacks_without_births_are_refused_with_the_next_step() {
    for options in [&["--events", "destroy"][..], &["--tier", "sampled"]] {
        let ended = Observer::run([&["--pid", "1", "--stacks"], options].concat()).ended();
        assert_eq!(ended.code, Some(2), "{:?}", ended.stderr);
        assert!(ended.stderr.iter().any(|line| line.contains("add init to --events")), "{:?}", ended.stderr);
    }
}

/// What its images are was looked up before.
#[test]
fn calls_of_a_program_that_ends_right_after_its_spawns_are_named() {
    let mut fixture = start("newest-release");
    let observer = Observer::attach(fixture.pid(), &["--stacks"]);
    fixture.release();
    let told = chains::told(&fixture);
    fixture.signal(libc::SIGKILL);
    let stream = observer.stream();
    let by_stack: HashMap<u64, &Value> =
        stream.of("spawnStack").map(|stack| (number(stack, "stackId"), stack)).collect();
    let lives = Lives::of(&stream);
    let mut named = 0;
    for line in stream.of("spawned") {
        let task = lives.by_id[&number(line, "asyncId")].task_id();
        let Some(of) = task.and_then(|task| told.get(&task)).filter(|of| of.by != "main") else { continue };
        let stack = by_stack[&number(line, "stackId")];
        let own = first_own(stack);
        assert_eq!(own, Some(of.by.as_str()), "{stack}");
        named += 1;
    }
    assert!(named > 40, "{named} of {} are named", told.len());
}
