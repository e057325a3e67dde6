//! Who is busy, by full probes for a part of the time, in a program that measures its own tasks: what windows tell, scaled up, agrees
//! with that within the error that is said, and nothing stays planted.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::fixture::Fixture;
use tests::observer::Observer;
use tests::stream::{Stream, number, word};
use tests::wait::until;

/// Kinds of tasks with what each burns in a poll, nanoseconds: the fixture's own constants.
const KINDS: [(&str, f64); 3] = [("light", 800_000.0), ("middle", 1_600_000.0), ("heavy", 3_200_000.0)];

/// The program past its gate.
fn start(cell: &str, arguments: &[&str]) -> Fixture {
    let mut fixture = Fixture::start(cell, "busy", arguments);
    fixture.release();
    fixture.wait_for("its tasks are spawned", |line| {
        line.contains("\"kind\":\"heavy\"") || line.contains("\"kind\":\"idle\"")
    });
    fixture
}

fn observe(fixture: &Fixture, more: &[&str]) -> Observer {
    Observer::attach(fixture.pid(), &[&["--duty", "10%"], more].concat())
}

/// The end of a kind's type id: where its vtable is in the image.
fn vtable(fixture: &Fixture, kind: &str) -> String {
    let lines: Vec<Value> = fixture.said().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let base = lines.iter().find_map(|line| line["base"].as_u64()).expect("it says where it is loaded");
    let of = lines.iter().find(|line| line["kind"] == kind).unwrap_or_else(|| panic!("{kind} was not spawned"));
    format!("+0x{:x}", number(of, "vtable") - base)
}

/// What is said at the end of a kind's type.
fn total<'a>(stream: &'a Stream, fixture: &Fixture, kind: &str) -> &'a Value {
    let vtable = vtable(fixture, kind);
    let mine = |line: &&Value| line["total"] == true && line["typeId"].as_str().is_some_and(|id| id.ends_with(&vtable));
    stream.of("busy").find(mine).unwrap_or_else(|| panic!("nothing was said of {kind}"))
}

fn real(line: &Value, member: &str) -> f64 {
    line[member].as_f64().unwrap_or_else(|| panic!("`{member}` is no number in {line}"))
}

/// Perf events and links are gone with the observer; what could stay is a breakpoint in the code.
fn memory_is_the_files(fixture: &Fixture) {
    let file = std::fs::read(format!("/proc/{}/exe", fixture.pid())).expect("its file");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", fixture.pid())).expect("its maps");
    let exe = std::fs::read_link(format!("/proc/{}/exe", fixture.pid())).expect("its name");
    let mut compared = 0;
    for line in maps.lines().filter(|line| line.ends_with(exe.to_str().expect("text")) && line.contains("r-xp")) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let hex = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
        let (from, to) = fields[0].split_once('-').expect("a range");
        let (from, to, offset) = (hex(from), hex(to), hex(fields[2]) as usize);
        let mut memory = vec![0; (to - from) as usize];
        let of = std::fs::File::open(format!("/proc/{}/mem", fixture.pid())).expect("its memory");
        std::os::unix::fs::FileExt::read_exact_at(&of, &mut memory, from).expect("code is there");
        let end = file.len().min(offset + memory.len());
        assert!(memory[..end - offset] == file[offset..end], "code differs from its file at {line}");
        compared += end - offset;
    }
    assert!(compared > 1 << 12, "no code was compared: {maps}");
}

/// Whether a figure lies between its bounds, which are of 95 %: of the dozens that these tests compare some will not, so half as
/// much again is allowed for.
fn is_near(truth: f64, [low, value, high]: [f64; 3]) -> bool {
    (value - 1.5 * (value - low)..=value + 1.5 * (high - value)).contains(&truth)
}

fn agrees(cell: &str) {
    let mut fixture = start(cell, &[]);
    let observer = observe(&fixture, &["--interval", "6s"]);
    let (before, began) = (fixture.answer("truth"), Instant::now());
    std::thread::sleep(Duration::from_secs(15));
    let (after, during) = (fixture.answer("truth"), began.elapsed().as_secs_f64());
    let stream = observer.stop();
    let all = stream.of("interval").find(|line| line["total"] == true).expect("all of it");
    assert!(number(all, "windows") >= 12 && all["lowNs"].is_number(), "{all}");
    for (kind, each) in KINDS {
        let line = total(&stream, &fixture, kind);
        let done = |member: &str| {
            (number(&after, &format!("{kind}{member}")) - number(&before, &format!("{kind}{member}"))) as f64
        };
        let (polls, busy) = (done("Polls") / during, done("Clock") / 1e9 / during);
        let rates = ["pollsPerSecondLow", "pollsPerSecond", "pollsPerSecondHigh"].map(|member| real(line, member));
        let parts =
            ["lowNs", "busyNs", "highNs"].map(|member| number(line, member) as f64 / number(all, "duringNs") as f64);
        println!("{cell}: {kind} {polls:.1} polls a second, said {rates:.1?}; busy {busy:.4}, said {parts:.4?}");
        assert!(is_near(polls, rates), "{cell}: {polls:.1} polls of {kind} a second: {line}");
        assert!(is_near(busy, parts), "{cell}: {kind} is busy {busy:.4} of the time: {line}");
        assert!(number(line, "longestNs") as f64 >= each, "{line}");
    }
    let totals = &stream.end()["totals"];
    assert_eq!([number(totals, "lost"), number(totals, "malformed"), number(totals, "differing")], [0; 3]);
    // What began in a window was hit twice there. Others were hit while probes came and went.
    assert!(number(totals, "hits") >= 2 * number(totals, "polls"), "{totals}");
    assert!(number(totals, "plantedNs") >= number(totals, "measuredNs"), "{totals}");
    memory_is_the_files(&fixture);
    assert!(fixture.is_running(), "the program is well");
}

#[test]
fn polls_and_their_time_are_those_that_tasks_measure_themselves() {
    agrees("newest-release");
}

#[test]
fn polls_and_their_time_in_a_stripped_build_without_unwinding_are_those_that_tasks_measure_themselves() {
    agrees("newest-fat");
}

#[test]
fn polls_and_their_time_in_a_debug_build_are_those_that_tasks_measure_themselves() {
    agrees("newest-dev");
}

#[test]
fn an_idle_program_is_busy_for_no_time_and_its_end_is_the_end() {
    let mut fixture = start("newest-release", &["idle"]);
    let mut observer = observe(&fixture, &["--interval", "3s"]);
    until("two intervals", || {
        (observer.said().iter().filter(|line| line.contains("\"interval\"")).count() >= 2).then_some(())
    });
    fixture.say("end");
    until("it has ended", || (!fixture.is_running()).then_some(()));
    let ended = observer.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr.join("\n"));
    let stream = Stream::parse(&ended.stdout).expect("each line is held to the schema");
    assert_eq!(stream.of("busy").count(), 0);
    let all = stream.of("interval").find(|line| line["total"] == true).expect("all of it");
    assert_eq!([number(all, "polls"), number(all, "busyNs"), number(all, "lowNs"), number(all, "highNs")], [0; 4]);
    assert_eq!(
        (word(stream.end(), "reason"), word(stream.end(), "tier"), word(stream.end(), "way")),
        ("exited", "sampled", "duty")
    );
    assert!(stream.of("ended").any(|line| line["reason"] == "exit"));
}

#[test]
fn few_windows_tell_no_error_and_say_why() {
    let fixture = start("newest-release", &[]);
    let observer = observe(&fixture, &["--interval", "2s"]);
    until("an interval", || observer.said().iter().any(|line| line.contains("\"interval\"")).then_some(()));
    let stream = observer.stop();
    let first = stream.of("interval").next().expect("one");
    assert!((1..5).contains(&number(first, "windows")), "{first}");
    assert!(
        first["lowNs"].is_null() && first["highNs"].is_null() && word(first, "whyUnbounded").contains("window"),
        "{first}"
    );
    assert!(number(first, "busyNs") > 0, "{first}");
}

#[test]
fn a_poll_that_outlasts_its_window_is_counted_as_far_as_it_was_seen() {
    let mut fixture = start("newest-release", &["idle"]);
    let observer = Observer::attach(fixture.pid(), &["--duty", "40%", "--by", "task"]);
    // Each sleeps for 400 ms in one poll, and so does a window: some begin in one.
    for _ in 0..10 {
        fixture.say("wait");
        std::thread::sleep(Duration::from_millis(330));
    }
    let stream = observer.stop();
    let vtable = vtable(&fixture, "sleeper");
    let mine = |line: &&Value| line["total"] == true && line["typeId"].as_str().is_some_and(|id| id.ends_with(&vtable));
    let seen: Vec<&Value> = stream.of("busy").filter(mine).collect();
    assert!(!seen.is_empty() && seen.iter().all(|line| line["taskId"].is_string()), "{seen:?}");
    let longest = seen.iter().map(|line| number(line, "longestNs")).max().expect("some");
    assert!((150_000_000..1_500_000_000).contains(&longest), "{seen:?}");
    memory_is_the_files(&fixture);
}

#[test]
fn an_observer_that_is_killed_in_a_window_leaves_the_program_well_and_nothing_planted() {
    let mut fixture = start("newest-release", &[]);
    let observer = Observer::attach(fixture.pid(), &["--duty", "50%"]);
    std::thread::sleep(Duration::from_millis(1_700));
    // Dropping it kills it.
    let pid = observer.pid();
    drop(observer);
    until("it is gone", || (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    let before = fixture.answer("truth");
    std::thread::sleep(Duration::from_millis(500));
    let after = fixture.answer("truth");
    assert!(KINDS.iter().all(|(kind, _)| number(&after, kind) > number(&before, kind)), "{before} {after}");
    memory_is_the_files(&fixture);
}

#[test]
fn what_makes_no_sense_together_is_refused_with_the_next_step() {
    let refused = |arguments: &[&str]| {
        let ended = Observer::run(["trace"].iter().chain(arguments)).ended();
        assert_eq!(ended.code, Some(2), "{arguments:?}: {:?}", ended.stderr);
        ended.stderr.join("\n")
    };
    let here = |arguments: &[&'static str]| refused(&[&["--pid", "1", "--duty", "5%"], arguments].concat());
    assert!(here(&["--tier", "polls"]).contains("leave --tier out"));
    assert!(here(&["--hz", "99"]).contains("--hz"));
    assert!(here(&["--blocking", "5ms"]).contains("--blocking"));
    assert!(here(&["--attach-with", "tracefs"]).contains("--attach-with"));
    here(&["--events", "init"]);
    assert!(refused(&["--pid", "1", "--duty", "5"]).contains("5%"));
    refused(&["--pid", "1", "--duty", "60%"]);
    assert!(refused(&["--all", "--duty", "5%"]).contains("--pid"));
    assert!(refused(&["--duty", "5%", "--", "true"]).contains("--pid"));
}
