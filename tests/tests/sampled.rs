//! Who runs and who blocks, by samples, in a program that measures its own tasks: what samples tell agrees with that within
//! what chance allows, and nothing was planted for it.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::fixture::{Fixture, Scratch, path};
use tests::observer::{Observer, program};
use tests::rights::elsewhere;
use tests::stream::{Stream, number, word};
use tests::wait::{long, now, until};

const KINDS: [&str; 3] = ["light", "middle", "heavy"];
const HZ: u64 = 499;

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
    let options = ["--tier", "sampled"];
    Observer::attach_with(fixture.pid(), &[&options, more].concat())
}

/// The end of a kind's type id: where its vtable is in the image.
fn vtable(said: &[String], kind: &str) -> String {
    let lines: Vec<Value> = said.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let base = lines.iter().find_map(|line| line["base"].as_u64()).expect("it says where it is loaded");
    let of = lines.iter().find(|line| line["kind"] == kind).unwrap_or_else(|| panic!("{kind} was not spawned"));
    format!("+0x{:x}", number(of, "vtable") - base)
}

/// All samples of a kind's type.
fn samples(stream: &Stream, said: &[String], kind: &str) -> u64 {
    let vtable = vtable(said, kind);
    let of = |line: &&Value| line["event"] == "busy" && line["total"] == true;
    let mine = |line: &&Value| line["typeId"].as_str().is_some_and(|id| id.ends_with(&vtable));
    stream.lines.iter().filter(of).filter(mine).map(|line| number(line, "samples")).sum()
}

fn totals(stream: &Stream) -> &Value {
    &stream.lines.last().expect("an end")["totals"]
}

fn blocking<'a>(stream: &'a Stream, fixture: &Fixture, kind: &str) -> Vec<&'a Value> {
    let vtable = vtable(&fixture.said(), kind);
    let mine = |line: &&Value| line["typeId"].as_str().is_some_and(|id| id.ends_with(&vtable));
    stream.lines.iter().filter(|line| line["event"] == "blocking").filter(mine).collect()
}

/// Each kind has its part of the samples, by what the program said of itself before and after; what it burnt, nanoseconds, and the
/// samples of all kinds.
fn agree(cell: &str, stream: &Stream, said: &[String], before: &Value, after: &Value) -> (f64, f64) {
    let burnt: BTreeMap<&str, u64> =
        KINDS.iter().map(|kind| (*kind, number(after, kind) - number(before, kind))).collect();
    let seen: BTreeMap<&str, u64> = KINDS.iter().map(|kind| (*kind, samples(stream, said, kind))).collect();
    let (burnt_in_all, seen_in_all) = (burnt.values().sum::<u64>() as f64, seen.values().sum::<u64>() as f64);
    println!("{cell}: burnt {burnt:?} ns, samples {seen:?}, totals {}", totals(stream));
    for kind in KINDS {
        let part = burnt[kind] as f64 / burnt_in_all;
        let (expected, deviation) = (seen_in_all * part, (seen_in_all * part * (1.0 - part)).sqrt());
        let off = (seen[kind] as f64 - expected).abs();
        assert!(off <= 5.0 * deviation, "{cell}: {kind} has {} samples, not {expected:.0}", seen[kind]);
    }
    (burnt_in_all, seen_in_all)
}

fn shares(cell: &str) {
    let mut fixture = start(cell, &[]);
    let observer = observe(&fixture, &["--hz", &HZ.to_string(), "--by", "task"]);
    let before = fixture.answer("truth");
    std::thread::sleep(Duration::from_secs(8));
    let after = fixture.answer("truth");
    let stream = observer.stop();
    let (burnt_in_all, seen_in_all) = agree(cell, &stream, &fixture.said(), &before, &after);
    let totals = totals(&stream);
    let [all, in_polls, outside, unknown] = ["samples", "inPolls", "outside", "unknown"].map(|of| number(totals, of));
    assert_eq!(in_polls + outside + unknown, all, "each sample is counted once");
    assert!(unknown * 20 <= all, "{cell}: {unknown} of {all} stacks could not be followed");
    // A virtual machine's lost time is in the samples, and not in what the program measures.
    let expected = burnt_in_all * HZ as f64 / 1e9;
    let lost = number(totals, "lost") as f64;
    let range = expected * 0.8 - 5.0 * expected.sqrt() - lost..expected * 1.5 + 5.0 * expected.sqrt();
    assert!(range.contains(&seen_in_all), "{cell}: {seen_in_all} samples, {expected:.0} expected");
    // Tasks live all the while: each is known after its first samples.
    let of_tasks = |line: &&Value| line["event"] == "busy" && line["total"] == true && line["taskId"].is_string();
    let told: u64 = stream.lines.iter().filter(of_tasks).map(|line| number(line, "samples")).sum();
    println!("{cell}: {told} of {in_polls} samples in polls told their task");
    assert!(told * 2 > in_polls, "{cell}: the task is told of {told} of {in_polls}");
    for line in stream.lines.iter().filter(|line| line["event"] == "busy" || line["event"] == "interval") {
        let [low, busy, high] = ["lowNs", "busyNs", "highNs"].map(|of| number(line, of));
        assert!(low <= busy && busy <= high, "{line}");
    }
    assert!(fixture.is_running(), "the program is well");
}

#[test]
fn shares_of_types_are_those_that_tasks_measure_themselves() {
    shares("newest-release");
}

#[test]
fn shares_of_types_of_a_stripped_build_without_unwinding_are_those_that_tasks_measure_themselves() {
    shares("newest-fat");
}

#[test]
fn shares_of_types_of_a_debug_build_are_those_that_tasks_measure_themselves() {
    shares("newest-dev");
}

/// Says a word to the program until a poll of the kind that it spawns was named: on a CPU that has other work, too, a poll may
/// be seen too rarely.
fn blocked(fixture: &mut Fixture, observer: &Observer, say: &str, kind: &str) {
    for _ in 0..10 {
        let known = observer.said().len();
        fixture.say(say);
        fixture.wait_for("it is spawned", |line| line.contains(&format!("\"kind\":\"{kind}\"")));
        let vtable = format!("{}\"", vtable(&fixture.said(), kind));
        let end = std::time::Instant::now() + long(Duration::from_secs(2));
        while std::time::Instant::now() < end {
            let said = observer.said();
            if said[known..].iter().any(|line| line.contains("\"blocking\"") && line.contains(&vtable)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    panic!("no poll of {kind} was named");
}

fn functions(line: &Value) -> Vec<&str> {
    line["stack"].as_array().expect("a list").iter().filter_map(|call| call["function"].as_str()).collect()
}

fn blockers(cell: &str, named: bool) {
    let mut fixture = start(cell, &["idle"]);
    let observer = observe(&fixture, &["--hz", "199"]);
    blocked(&mut fixture, &observer, "wait", "sleeper");
    blocked(&mut fixture, &observer, "burn", "hog");
    let stream = observer.stop();
    let waits = blocking(&stream, &fixture, "sleeper");
    for line in &waits {
        assert_eq!((&line["certain"], &line["onCpu"]), (&Value::Bool(true), &Value::Bool(false)), "{line}");
        assert!((10_000_000..500_000_000).contains(&number(line, "forNs")), "{line}");
    }
    let burns = blocking(&stream, &fixture, "hog");
    for line in &burns {
        assert_eq!((&line["certain"], &line["onCpu"]), (&Value::Bool(false), &Value::Bool(true)), "{line}");
        let longest = long(Duration::from_millis(500)).as_nanos();
        assert!((10_000_000..longest).contains(&number(line, "forNs").into()), "{line}");
        assert!(number(line, "samples") >= 4, "{line}");
        assert!(line["taskId"].is_string(), "{line}");
    }
    for (lines, function) in [(waits, "sleeps_for_long"), (burns, "burns_for_long")] {
        assert!(!lines.is_empty());
        let has = |line: &&Value| functions(line).iter().any(|name| name.ends_with(function));
        assert!(!named || lines.iter().any(has), "{cell}: {function} is in {lines:?}");
    }
    assert!(fixture.is_running(), "the program is well");
}

#[test]
fn a_poll_that_blocks_is_named_with_its_blocker_while_it_blocks() {
    blockers("newest-release", true);
}

#[test]
fn a_poll_that_blocks_in_a_stripped_build_is_named_by_type() {
    blockers("newest-fat", false);
}

#[test]
fn an_idle_program_is_not_busy_and_its_end_is_the_end() {
    let mut fixture = start("newest-release", &["idle"]);
    let mut observer = observe(&fixture, &["--interval", "300ms"]);
    until("three intervals", || {
        (observer.said().iter().filter(|line| line.contains("\"interval\"")).count() >= 3).then_some(())
    });
    fixture.say("end");
    until("it has ended", || (!fixture.is_running()).then_some(()));
    let ended = observer.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr.join("\n"));
    let stream = Stream::parse(&ended.stdout).expect("each line is held to the schema");
    assert_eq!(stream.lines.iter().filter(|line| line["event"] == "busy").count(), 0);
    assert_eq!((number(totals(&stream), "inPolls"), number(totals(&stream), "blocking")), (0, 0));
    let end = stream.lines.last().expect("an end");
    assert_eq!((word(end, "reason"), word(end, "tier")), ("exited", "sampled"));
    assert!(stream.lines.iter().any(|line| line["event"] == "ended" && line["reason"] == "exit"));
}

#[test]
fn a_thread_that_begins_later_is_sampled_and_nothing_is_planted_for_it() {
    let mut fixture = start("newest-release", &["idle"]);
    let threads = || std::fs::read_dir(format!("/proc/{}/task", fixture.pid())).expect("it runs").count();
    let (before, observer) = (threads(), observe(&fixture, &["--hz", "499", "--interval", "200ms"]));
    let links = std::fs::read_dir(format!("/proc/{}/fd", observer.pid())).expect("it runs");
    let links: Vec<String> = links
        .filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.to_string_lossy().into_owned()))
        .collect();
    assert!(links.iter().any(|link| link.contains("perf_event")), "{links:?}");
    assert!(!links.iter().any(|link| link.contains("bpf")), "no program, no map, no link: {links:?}");
    fixture.say("more");
    fixture.wait_for("it is spawned", |line| line.contains("\"kind\":\"more\""));
    let vtable = format!("{}\"", vtable(&fixture.said(), "more"));
    until("its task is busy", || {
        observer.said().iter().any(|line| line.contains("\"busy\"") && line.contains(&vtable)).then_some(())
    });
    assert_eq!(std::fs::read_dir(format!("/proc/{}/task", fixture.pid())).expect("it runs").count(), before + 1);
    let stream = observer.stop();
    let start = &stream.lines[0];
    assert_eq!(word(start, "tier"), "sampled");
    for image in start["targets"][0]["images"].as_array().expect("a list") {
        assert_eq!(number(image, "points"), 0, "{image}");
    }
}

#[test]
fn of_all_processes_those_that_are_there_and_those_that_begin_later_are_sampled() {
    let there = start("newest-release", &[]);
    let scratch = Scratch::new("sampled-all");
    let file = scratch.path().join("events.jsonl");
    let to = file.to_str().expect("is text");
    let hz = HZ.to_string();
    let observer = Observer::run(["trace", "--all", "--tier", "sampled", "--json", "--hz", &hz, "-o", to]);
    let joined = |pid: u32, why: &str| {
        until("it is sampled", || {
            let text = std::fs::read_to_string(&file).ok()?;
            let is_it = |line: &str| line.contains("\"event\":\"target\"") && line.contains(&format!("\"pid\":{pid},"));
            let line: Value = serde_json::from_str(text.lines().find(|line| is_it(line))?).ok()?;
            assert_eq!(word(&line, "reason"), why);
            Some(())
        });
    };
    joined(there.pid(), "found");
    // Stripped, and another build.
    let mut later = start("newest-fat", &[]);
    joined(later.pid(), "exec");
    let before = later.answer("truth");
    std::thread::sleep(Duration::from_secs(4));
    let after = later.answer("truth");
    let (pid, first) = (later.pid(), there.pid());
    drop(there);
    let ended = "\"event\":\"ended\"";
    until("the first is said to have ended", || {
        let text = std::fs::read_to_string(&file).ok()?;
        text.lines().any(|line| line.contains(ended) && line.contains(&format!("\"pid\":{first},"))).then_some(())
    });
    let observed_itself = format!("\"pid\":{},", observer.pid());
    drop(observer.ended_well());
    let text = std::fs::read_to_string(&file).expect("the observer wrote it");
    assert!(!text.contains(&observed_itself), "an observer does not sample itself");
    let lines: Vec<String> = text.lines().map(String::from).collect();
    let mut stream = Stream::parse(&lines).unwrap_or_else(|wrong| panic!("the observer's output: {wrong}"));
    assert_eq!(word(&stream.lines[0], "following"), "everyone");
    stream.lines.retain(|line| !line["pid"].is_u64() || number(line, "pid") == u64::from(pid));
    agree("of all", &stream, &later.said(), &before, &after);
    assert!(later.is_running(), "the program is well");
}

#[test]
fn a_launched_program_is_sampled_also_when_it_begins_another_and_until_it_ends() {
    let scratch = Scratch::new("sampled-launch");
    let (file, input) = (scratch.path().join("events.jsonl"), scratch.path().join("input"));
    let name = CString::new(input.as_os_str().as_bytes()).expect("a path");
    // SAFETY: the name is a string of C's.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0, "{}", std::io::Error::last_os_error());
    let mut command = Command::new(program());
    command.args(["trace", "--tier", "sampled", "--json", "--hz", &HZ.to_string(), "-o"]).arg(&file);
    command.args(["--", "sh", "-c", "exec \"$0\" <\"$1\""]).arg(path("newest-release", "busy")).arg(&input);
    let mut observer = Observer::run_as(&mut command);
    let mut to = std::fs::File::options().write(true).open(&input).expect("the program opens the other end");
    writeln!(to).expect("it reads");
    let has = |what: &str| std::fs::read_to_string(&file).is_ok_and(|text| text.contains(what)).then_some(());
    until("it is sampled", || has("\"event\":\"target\""));
    std::thread::sleep(Duration::from_secs(4));
    writeln!(to, "truth").expect("it reads");
    let truth = until("it tells the truth", || {
        let said = observer.said();
        serde_json::from_str(said.iter().find(|line| line.contains("\"truth\":true"))?).ok()
    });
    drop(to);
    let ended = observer.ended();
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    let text = std::fs::read_to_string(&file).expect("the observer wrote it");
    let lines: Vec<String> = text.lines().map(String::from).collect();
    let stream = Stream::parse(&lines).unwrap_or_else(|wrong| panic!("the observer's output: {wrong}"));
    assert_eq!((word(&stream.lines[0], "following"), word(stream.end(), "reason")), ("named", "exited"));
    let nothing = serde_json::json!({ "light": 0, "middle": 0, "heavy": 0 });
    agree("launched", &stream, &ended.stdout, &nothing, &truth);
}

#[test]
fn a_kernel_that_does_not_count_arrivals_on_a_cpu_names_no_poll_that_waits_and_says_so() {
    let mut fixture = start("newest-release", &["idle"]);
    let (pid, none) = (fixture.pid(), Scratch::new("schedstat"));
    let file = none.path().join("schedstat");
    std::fs::write(&file, "0 0 0\n").expect("a temporary file");
    // What such a kernel shows of each thread, to this observer alone.
    let shown = format!("for of in /proc/{pid}/task/*/schedstat; do mount --bind {} $of; done", file.display());
    let mut command = elsewhere(&shown, &program());
    command.args(["trace", "--json", "--tier", "sampled", "--pid", &pid.to_string()]);
    let observer = Observer::run_as(&mut command);
    until("it has begun", || observer.said().iter().any(|line| line.contains("\"start\"")).then_some(()));
    fixture.say("wait");
    fixture.wait_for("it is spawned", |line| line.contains("\"kind\":\"sleeper\""));
    std::thread::sleep(Duration::from_millis(900));
    let stream = observer.stop();
    let missing = stream.missing();
    assert!(missing.iter().any(|line| line.starts_with("blocking: this kernel does not count")), "{missing:?}");
    assert_eq!(stream.of("blocking").filter(|line| line["certain"] == true).count(), 0);
    // Where it counts nothing of that is missing.
    let stream = observe(&fixture, &["-d", "100ms"]).stream();
    assert!(!stream.missing().iter().any(|line| line.contains("does not count")), "{:?}", stream.missing());
}

/// Something that keeps a process off the CPU without its having a part in it.
enum Hold {
    Stop,
    /// A control group of its own: its folder, the file that freezes it, what is written there to freeze and to thaw.
    Freeze(PathBuf, &'static str, [&'static str; 2]),
}

impl Hold {
    /// `None` where this machine has no such hierarchy, or lets nobody have a group in it.
    fn freezer(mount: &str, file: &'static str, words: [&'static str; 2]) -> Option<Self> {
        let folder = Path::new(mount).join(format!("async-observer-sampled-{}", std::process::id()));
        std::fs::create_dir(&folder).ok()?;
        let hold = Self::Freeze(folder, file, words);
        let Self::Freeze(folder, ..) = &hold else { return None };
        folder.join(file).exists().then_some(hold)
    }

    fn enclose(&self, pid: u32) {
        if let Self::Freeze(folder, ..) = self {
            std::fs::write(folder.join("cgroup.procs"), pid.to_string()).expect("root may move it");
        }
    }

    fn set(&self, pid: u32, held: bool) {
        match self {
            Self::Stop => {
                let signal = if held { libc::SIGSTOP } else { libc::SIGCONT };
                // SAFETY: no memory is touched.
                assert_eq!(unsafe { libc::kill(pid.cast_signed(), signal) }, 0);
            }
            Self::Freeze(folder, file, [freeze, thaw]) => {
                std::fs::write(folder.join(file), if held { freeze } else { thaw }).expect("it freezes");
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Self::Freeze(folder, ..) = self {
            // Who was in it has ended, and may be a moment in going.
            let removed = (0..500).any(|_| {
                std::thread::sleep(Duration::from_millis(2));
                std::fs::remove_dir(&*folder).is_ok()
            });
            assert!(removed || std::thread::panicking(), "{} stays behind", folder.display());
        }
    }
}

/// A poll that would wait for 400 ms is held in its wait for a second, and is said to wait for 200 ms or more only when it is not.
fn held(hold: &Hold) {
    let mut fixture = start("newest-release", &["idle"]);
    let pid = fixture.pid();
    hold.enclose(pid);
    let observer = observe(&fixture, &["--blocking", "200ms"]);
    until("it has begun", || observer.said().iter().any(|line| line.contains("\"start\"")).then_some(()));
    fixture.say("wait");
    let asleep = || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        let mut calls = threads.filter_map(|of| std::fs::read_to_string(of.ok()?.path().join("syscall")).ok());
        // `clock_nanosleep`, which nothing else in it calls.
        calls.any(|call| call.starts_with("230 ")).then_some(())
    };
    until("a poll sleeps", asleep);
    hold.set(pid, true);
    std::thread::sleep(Duration::from_secs(1));
    let thawed = now();
    hold.set(pid, false);
    // Whose words come after those of the other.
    blocked(&mut fixture, &observer, "wait", "sleeper");
    let stream = observer.stop();
    let said: Vec<u64> = stream.of("blocking").map(|line| number(line, "ts")).collect();
    assert!(said.iter().all(|at| *at > thawed), "thawed at {thawed}, said at {said:?}");
    assert!(fixture.is_running(), "the program is well");
}

#[test]
fn a_poll_of_a_stopped_program_is_not_said_to_wait() {
    held(&Hold::Stop);
}

#[test]
fn a_poll_of_a_frozen_program_is_not_said_to_wait() {
    let hierarchies = [
        ("/sys/fs/cgroup", "cgroup.freeze", ["1", "0"]),
        ("/sys/fs/cgroup/unified", "cgroup.freeze", ["1", "0"]),
        ("/sys/fs/cgroup/freezer", "freezer.state", ["FROZEN", "THAWED"]),
    ];
    let mut tested = 0;
    for (mount, file, words) in hierarchies {
        if let Some(hold) = Hold::freezer(mount, file, words) {
            println!("{mount}");
            held(&hold);
            tested += 1;
        }
    }
    if tested == 0 {
        eprintln!("NOT TESTED: no control group can be made here that freezes");
    }
}

#[test]
fn what_makes_no_sense_together_is_refused_with_the_next_step() {
    let refused = |arguments: &[&str]| {
        let ended = Observer::run(["trace", "--pid", "1"].iter().chain(arguments)).ended();
        assert_eq!(ended.code, Some(2), "{arguments:?}: {:?}", ended.stderr);
        ended.stderr.join("\n")
    };
    assert!(refused(&["--tier", "census"]).contains("async-observer ps"));
    assert!(refused(&["--hz", "99"]).contains("--tier sampled"));
    refused(&["--tier", "sampled", "--hz", "48"]);
    refused(&["--tier", "sampled", "--hz", "1000"]);
    refused(&["--tier", "sampled", "--events", "init"]);
    refused(&["--tier", "sampled", "--attach-with", "tracefs"]);
    assert!(refused(&["--tier", "sampled", "--ring-pages", "8"]).contains("--ring-pages 16"));
    assert!(refused(&["--tier", "sampled", "--max-memory", "256M"]).contains("leave --max-memory out"));
}

#[test]
fn a_tier_has_the_events_that_it_names_and_no_others() {
    for (tier, wanted) in [("spawns", vec!["init"]), ("lifecycle", vec!["destroy", "init", "resolve"])] {
        let mut fixture = Fixture::start("newest-release", "chains", &[]);
        let observer = Observer::attach(fixture.pid(), &["--tier", tier]);
        fixture.release();
        fixture.wait_for("all is spawned", |line| line.contains("\"spawned\":true"));
        until("births are seen", || observer.said().iter().any(|line| line.contains("\"init\"")).then_some(()));
        std::thread::sleep(Duration::from_millis(500));
        let stream = observer.stop();
        let mut kinds: Vec<&str> = stream.lines.iter().map(|line| word(line, "event")).collect();
        kinds.retain(|kind| ["init", "before", "after", "resolve", "destroy"].contains(kind));
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds, wanted, "{tier}");
    }
}
