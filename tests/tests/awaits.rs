//! `dump`: where tasks wait, future by future, against what the futures say of themselves when they are polled.

use std::collections::BTreeMap;

use serde_json::Value;
use tests::awaiting::{UNTOLD, faults, path, stacks, truths};
use tests::fixture::{Fixture, Scratch, cells, debug_dir};
use tests::look::Look;
use tests::observer::Observer;
use tests::score;
use tests::stream::{number, word};
use tests::wait::fewer;

/// Dumps of a program that moves all the time.
const DUMPS: usize = 10;

fn start(cell: &str) -> Fixture {
    Fixture::start(cell, "awaits", &[])
}

fn dump(fixture: &Fixture, more: &[&str]) -> Look {
    let pid = fixture.pid().to_string();
    Observer::run(["dump", "--json", "--pid", &pid].iter().chain(more)).look()
}

#[test]
fn each_task_waits_where_its_futures_say_in_every_build_with_debug_information() {
    // With its own dump the runtime wraps each future in one of its own.
    let cells: Vec<String> = cells("awaits").into_iter().filter(|cell| cell != "awaits-taskdump").collect();
    assert!(cells.len() >= 3, "{cells:?}");
    let mut report = Vec::new();
    for cell in cells {
        let mut fixture = start(&cell);
        let debug = debug_dir(&tests::fixture::path(&cell, "awaits"));
        let options: Vec<&str> = ["--no-waits"].into_iter().chain(debug.iter().map(String::as_str)).collect();
        let look = dump(&fixture, &options);
        let faults = faults(&fixture, &look);
        let all = truths(&fixture, "stack").len();
        let unknown = faults.iter().filter(|fault| fault.contains(UNTOLD)).count();
        let wrong = faults.len() - unknown;
        score::say("waits", &cell, &[("right", all - faults.len()), ("wrong", wrong), ("unknown", unknown)]);
        report.extend(faults.iter().map(|fault| format!("{cell}: {fault}")));
        assert!(fixture.is_running(), "the program is well");
    }
    assert!(report.is_empty(), "{}", report.join("\n"));
}

#[test]
fn a_crowd_that_waits_in_one_way_is_told_in_one_stack_of_all_its_tasks() {
    let tasks = fewer(20_000).to_string();
    let fixture = Fixture::start("awaits-release", "many", &[&tasks]);
    let look = dump(&fixture, &["--no-waits"]);
    let stacks: Vec<&Value> = look.of("stack", fixture.pid()).filter(|of| of["type"] == "TOKIO_TASK").collect();
    let [stack] = stacks[..] else { panic!("one: {stacks:?}") };
    assert_eq!(number(stack, "tasks").to_string(), tasks, "{}", stack["reason"]);
    // Where each future is left, by the source.
    let source = include_str!("../fixtures/awaits/src/many.rs");
    let line = |text: &str| source.lines().position(|line| line.contains(text)).expect("it is in the source") + 1;
    let bodies = ["chooses().await", "inner.await", "from_secs(50_000)).await"]
        .map(|text| format!("src/many.rs:{}", line(text)));
    let frames = stack["frames"].as_array().expect("the build describes them");
    let places: Vec<&str> = frames.iter().filter_map(|frame| frame["location"].as_str()).collect();
    let own: Vec<&str> = places.into_iter().filter(|place| place.starts_with("src/many.rs:")).collect();
    assert_eq!(own, bodies);
    assert_eq!(path(&frames[0]), "many::outermost");
}

#[test]
fn a_task_that_moves_all_the_time_is_never_told_to_be_where_it_was_not() {
    let mut fixture = start("awaits-release");
    let [truth] = &truths(&fixture, "moving")[..] else { panic!("one task moves") };
    let between: Vec<(String, u64)> = truth["between"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|place| (word(place, "future").to_owned(), number(place, "line")))
        .collect();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..DUMPS {
        let look = dump(&fixture, &["--no-waits", "--filter", "moves"]);
        let stacks = stacks(&look, fixture.pid());
        let stack = stacks.get(word(truth, "moving")).unwrap_or_else(|| panic!("it is not in {:?}", look.lines));
        let Some(frames) = stack["frames"].as_array() else {
            let why = word(stack, "unknown");
            assert!(["running", "changing"].contains(&why), "{stack}");
            *seen.entry(why.to_owned()).or_default() += 1;
            continue;
        };
        let at = word(&frames[0], "location");
        let (on, line) =
            (frames.get(1).map(path), at.rsplit(':').next().and_then(|line| line.parse::<u64>().ok()).expect("a line"));
        let is_one = between.iter().any(|(future, known)| on.as_deref() == Some(future) && line == *known);
        assert!(is_one, "{stack}");
        *seen.entry(format!("{line}")).or_default() += 1;
    }
    println!("{seen:?}");
    assert!(fixture.is_running(), "the program is well");
}

#[test]
fn without_debug_information_the_dump_says_what_would_be_needed_and_who_holds_the_wakers() {
    let fixture = Fixture::start("newest-fat", "leaks", &["still"]);
    let look = dump(&fixture, &[]);
    let futures: Vec<&Value> = look.of("stack", fixture.pid()).filter(|stack| stack["type"] == "TOKIO_TASK").collect();
    assert!(!futures.is_empty());
    for stack in &futures {
        assert_eq!((&stack["frames"], &stack["unknown"]), (&Value::Null, &Value::from("undescribed")), "{stack}");
        assert!(word(stack, "reason").contains("debug = 2"), "{stack}");
    }
    let waits = |stack: &&&Value| stack["waits"].as_array().is_some_and(|waits| !waits.is_empty());
    assert!(futures.iter().any(|stack| waits(&stack)), "who holds the wakers is told all the same");
}

#[test]
fn debug_information_in_a_file_of_its_own_tells_as_much_and_that_of_another_build_is_refused() {
    let fixture = start("awaits-apart");
    let folder =
        |name: &str| tests::fixture::path("awaits-apart", name).into_os_string().into_string().expect("a path");
    let undescribed =
        |look: &Look| look.of("stack", fixture.pid()).filter(|stack| stack["unknown"] == "undescribed").count();
    assert!(undescribed(&dump(&fixture, &["--no-waits"])) >= 28, "the program itself tells nothing");
    let look = dump(&fixture, &["--no-waits", "--debug-dir", &folder("debug")]);
    assert_eq!(faults(&fixture, &look), [""; 0]);
    let named =
        look.of("stack", fixture.pid()).filter(|stack| stack["type"] == "TOKIO_TASK" && stack["futureCertain"] == true);
    assert!(named.count() >= 28, "types are named, too");
    let pid = fixture.pid().to_string();
    let mut other =
        Observer::run(["dump", "--json", "--no-waits", "--pid", &pid, "--debug-dir", &folder("of-another")]);
    let ended = other.ended();
    assert_eq!(ended.code, Some(0));
    let said = ended.stderr.join("\n");
    assert!(said.contains("of-another/awaits.debug is not used: it is of another program"), "{said}");
    assert!(undescribed(&Look::parse(&ended.stdout).expect("lines")) >= 28, "what is another's is not believed");
}

/// A program that was moved away from what its debug information shares with others (dwz).
#[test]
fn a_shared_file_that_is_missing_or_another_is_said_and_one_in_a_named_folder_is_read() {
    let place = Scratch::new("awaits-shared");
    let built = tests::fixture::path("awaits-shared", "awaits");
    let program = place.path().join("awaits");
    std::fs::copy(&built, &program).expect("it is there");
    let fixture = Fixture::spawn("moved", &mut std::process::Command::new(&program));
    fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    let pid = fixture.pid().to_string();
    let dump = |more: &[&str]| {
        let ended = Observer::run(["dump", "--json", "--no-waits", "--pid", &pid].iter().chain(more)).ended();
        assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
        ended
    };
    let says = |ended: &[String], what: &str| ended.iter().any(|line| line.contains(what));
    let missing = "shares debug information with other programs (dwz), in a file that is not there (awaits.common)";
    let without = dump(&[]);
    assert!(says(&without.stderr, missing), "{:?}", without.stderr);
    let untold = faults(&fixture, &without.look());
    assert!(!untold.is_empty() && untold.iter().all(|fault| fault.contains(UNTOLD)), "nothing is wrong: {untold:?}");
    // That of another program under the same name.
    let beside = place.path().join("awaits.common");
    std::fs::copy(built.with_file_name("named.common"), &beside).expect("it is there");
    let another = dump(&[]);
    let why = "awaits.common is not used: it is not what this debug information was made with";
    assert!(says(&another.stderr, why) && says(&another.stderr, missing), "{:?}", another.stderr);
    let folder = built.parent().and_then(std::path::Path::to_str).expect("a path");
    let told = dump(&["--debug-dir", folder]);
    assert_eq!(faults(&fixture, &told.look()), [""; 0]);
}

/// What builds and copies leave behind: the right file comes last, and everything before it is said.
#[test]
fn files_that_are_not_the_program_s_are_passed_over_each_with_its_reason_until_one_is() {
    let fixture = start("awaits-apart");
    let place = Scratch::new("awaits-passed-over");
    let of = |name: &str| tests::fixture::path("awaits-apart", name);
    let whole = std::fs::read(of("debug/awaits.debug")).expect("it is there");
    let stripped = std::fs::read(of("awaits")).expect("it is there");
    let made = [("hostile", &whole[whole.len() / 2..]), ("cut-short", &whole[..whole.len() / 2]), ("empty", &stripped)];
    for (name, bytes) in made {
        std::fs::create_dir(place.path().join(name)).expect("it is ours");
        std::fs::write(place.path().join(name).join("awaits.debug"), bytes).expect("it is ours");
    }
    let folders = [of("of-another")].into_iter().chain(made.map(|(name, _)| place.path().join(name)));
    let folders = folders.chain([of("debug")]).map(|folder| folder.into_os_string().into_string().expect("a path"));
    let mut words = vec!["dump".to_owned(), "--json".into(), "--no-waits".into()];
    words.extend(folders.flat_map(|folder| ["--debug-dir".to_owned(), folder]));
    words.extend(["--pid".to_owned(), fixture.pid().to_string()]);
    let mut dumped = Observer::run(words.iter());
    let ended = dumped.ended();
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    assert_eq!(faults(&fixture, &ended.look()), [""; 0]);
    for (name, why) in [
        ("of-another", "it is of another program"),
        ("hostile", "it cannot be read"),
        ("cut-short", "it cannot be read"),
        ("empty", "it has neither symbols nor debug information"),
    ] {
        let said = format!("{name}/awaits.debug is not used: {why}");
        assert!(ended.stderr.iter().any(|line| line.contains(&said)), "`{said}` is not in {:?}", ended.stderr);
    }
    let stacks = ended.look();
    let mut named = stacks.of("stack", fixture.pid()).filter(|stack| stack["type"] == "TOKIO_TASK");
    assert!(named.all(|stack| stack["futureCertain"] == true), "types are named, too");
}

/// The bodies of the program itself on the way to each innermost future, outermost first, and the lines on which they await.
fn ways_in(frames: &[Value]) -> Vec<Vec<(String, Option<u64>)>> {
    let (mut around, mut found): (Vec<&Value>, Vec<_>) = (Vec::new(), Vec::new());
    for (n, frame) in frames.iter().enumerate() {
        around.truncate(usize::try_from(number(frame, "depth")).expect("fits"));
        around.push(frame);
        let is_innermost = frames.get(n + 1).is_none_or(|next| number(next, "depth") <= number(frame, "depth"));
        if is_innermost {
            let own = around.iter().filter(|frame| path(frame).starts_with("awaits::ways::"));
            found.push(own.map(|frame| (path(frame), line_of(frame))).collect());
        }
    }
    found
}

/// The line in the program's own source on which a body awaits; none where a macro does.
fn line_of(frame: &Value) -> Option<u64> {
    let place = frame["location"].as_str().filter(|_| frame["within"].is_null())?;
    place.rsplit(':').next()?.parse().ok()
}

#[test]
fn tasks_wait_where_the_runtime_s_own_dump_says_that_polls_each_once_more() {
    let fixture = start("awaits-taskdump");
    let look = dump(&fixture, &["--no-waits"]);
    let stacks = stacks(&look, fixture.pid());
    let (mut compared, mut deepest) = (0, 0);
    // The runtime tells of tasks that wait for something of its own.
    for told in truths(&fixture, "dumped") {
        let bodies = told["bodies"].as_array().expect("a list");
        let bodies: Vec<(String, u64)> =
            bodies.iter().map(|body| (word(body, "future").to_owned(), number(body, "line"))).collect();
        let stack = stacks.get(word(&told, "dumped")).unwrap_or_else(|| panic!("{told} is not there"));
        let ways = ways_in(stack["frames"].as_array().unwrap_or_else(|| panic!("{stack}")));
        // Where a macro awaits the runtime has the line that calls it.
        let same = |way: &Vec<(String, Option<u64>)>| {
            let each = |(own, theirs): (&(String, Option<u64>), &(String, u64))| {
                own.0 == theirs.0 && own.1.is_none_or(|line| line == theirs.1)
            };
            // Of its own outermost poll it tells nothing: the task's body is not in the backtrace where it was inlined there.
            let known = way.len().checked_sub(bodies.len()).filter(|untold| *untold <= 1);
            known.is_some_and(|untold| way[untold..].iter().zip(&bodies).all(each))
        };
        assert!(ways.iter().any(same), "the runtime says {bodies:?}, of {ways:?}");
        (compared, deepest) = (compared + 1, deepest.max(bodies.len()));
    }
    println!("{compared} backtraces, the deepest through {deepest} bodies");
    assert!(compared >= 10 && deepest >= 2, "{compared} backtraces, the deepest through {deepest} bodies");
}
