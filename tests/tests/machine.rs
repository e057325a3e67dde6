//! What a session does with programs that change under it, and with its own memory.

use std::process::{Command, Stdio};

use serde_json::Value;
use tests::fixture::{Fixture, Scratch, path, write_program};
use tests::host::director::Director;
use tests::host::program::{Place, Program};
use tests::observer::Observer;
use tests::stream::Stream;
use tests::wait::until;

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).expect("the observer prints JSON")
}

fn is(line: &str, event: &str, pid: u32) -> bool {
    line.contains(&format!("\"event\":\"{event}\"")) && line.contains(&format!("\"pid\":{pid},"))
}

/// Probes stand in a file. Whoever overwrites it must get what was written, not breakpoints in the middle of it.
#[test]
fn a_program_that_is_overwritten_while_its_probes_are_in_runs_as_it_was_written() {
    let scratch = Scratch::new("overwritten");
    let program = scratch.copy(&path("newest-release", "burst"));
    let observer = Observer::run(["trace", "--all", "--json"]).wait_until_attached();
    let mut fixture = Fixture::spawn("a program that will be overwritten", &mut Command::new(&program));
    let pid = fixture.pid();
    let begun = observer.wait_for("it is a target", |line| is(line, "target", pid));
    assert!(begun.is_some(), "the observer ended");
    fixture.release();
    fixture.release();
    fixture.wait_for("it has worked", |line| line.contains("\"truth\""));
    fixture.release();
    assert!(fixture.finish().status.success());

    // Another program, into the same inode: the writer waits until the probes are out.
    write_program(&path("newest-release", "matrix-glibc"), &program);
    let ran = Command::new(&program).stdin(Stdio::null()).output().expect("it can be run");
    assert!(ran.status.success(), "what was written runs: {}", ran.status);
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(told.contains("\"fixture\":\"matrix-glibc\",\"truth\":true"), "and does its work: {told}");
    observer.stop();
}

/// The one that is asked for a new file can have ended by then, while another runs it already.
#[test]
fn a_new_program_whose_first_process_ended_at_once_is_observed_in_the_second() {
    let observer = Observer::run(["trace", "--all", "--json"]).wait_until_attached();
    for round in 0..20 {
        let scratch = Scratch::new(&format!("twice-{round}"));
        let program = scratch.copy(&path("newest-release", "burst"));
        let mut first = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
        first.kill().expect("it is a child of ours");
        first.wait().expect("it is a child of ours");
        let second = Fixture::spawn("the second", &mut Command::new(&program));
        let begun = observer.wait_for("the second is a target", |line| is(line, "target", second.pid()));
        assert!(begun.is_some(), "the observer ended in round {round}");
    }
    observer.stop();
}

/// A call is reported at its return, which may never come.
#[test]
fn a_poll_that_lasts_is_said_to_have_begun_while_it_lasts() {
    let observer = Observer::run(["trace", "--all", "--json"]).wait_until_attached();
    let first = Fixture::start("newest-release", "burst", &[]);
    let known = observer.wait_for("the program is known", |line| is(line, "target", first.pid()));
    assert!(known.is_some(), "the observer ended");
    // Its two workers run, each inside a poll, until its runtime is dropped; nothing else happens before it is released.
    let second = Fixture::start("newest-release", "burst", &[]);
    let count = |event: &str| observer.said().iter().filter(|line| is(line, event, second.pid())).count();
    until("both workers are inside a poll", || (count("before") == 2).then_some(()));
    assert_eq!((count("init"), count("after"), count("resolve")), (2, 0, 0));
    observer.stop();
}

#[test]
fn of_all_processes_only_those_of_the_wanted_group_are_observed() {
    let fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let pid = fixture.pid();
    // Where the kernel has put it, by its own file.
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let groups = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let group = groups.max_by_key(|group| group.len()).expect("it is in a group");
    let inside = Observer::run(["trace", "--all", "--json", "--cgroup", group]);
    assert!(inside.wait_for("it is a target", |line| is(line, "target", pid)).is_some(), "the observer ended");
    inside.stop();
    let looked = |group: &str| {
        let ended = Observer::run(["ps", "--all", "--json", "--cgroup", group]).ended();
        assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
        ended.stdout
    };
    let told = looked(group);
    assert!(told.iter().any(|line| is(line, "census", pid)), "{told:?}");
    let told = looked("no group is called so");
    assert!(!told.iter().any(|line| is(line, "census", pid)), "{told:?}");
}

#[test]
fn near_the_memory_bound_new_tasks_are_not_followed_and_that_is_said() {
    let fixture = Fixture::start("newest-release", "crowd-glibc", &["tasks=300000"]);
    let pid = fixture.pid().to_string();
    let observer = Observer::run(["--json", "--max-memory", "64M", "--pid", &pid]);
    let said = observer.wait_for("it does without", |line| line.contains("\"event\":\"degraded\""));
    let said = parsed(&said.expect("the observer runs on"));
    assert!(["window", "processes", "tasks"].contains(&said["what"].as_str().unwrap_or_default()), "{said}");
    assert!(said["reason"].as_str().is_some_and(|reason| reason.contains("of 64 MiB")), "{said}");
    let stream = observer.stop();
    assert_eq!(stream.total("lost"), 0);
}

#[test]
fn a_library_that_a_named_process_loads_is_observed_from_then_on() {
    let mut director = Director::new("loads");
    director.hold(true);
    let module = path("newest-release", "hosted_python.so");
    let program = Program::number(0);
    let steps = [format!("load={},run=1,leave=1", module.display()), "kill-me".to_owned()];
    director.start("0", program, Place::Here, &steps);
    let pid = director.announced(&program.root("0"));
    let observer = Observer::attach(pid, &[]);
    director.hold(false);
    let loaded = observer.wait_for("the library is observed", |line| {
        is(line, "target", pid) && line.contains("\"reason\":\"loaded\"") && line.contains("hosted_python.so")
    });
    assert!(loaded.is_some(), "the observer ended and had not said it");
    // SAFETY: a child of ours, which is not reaped yet.
    assert_eq!(unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) }, 0);
    director.finish();
    assert_eq!(observer.stream().end()["reason"], "exited");
}

#[test]
fn a_named_process_that_begins_another_program_is_another_target() {
    let mut fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let pid = fixture.pid();
    let observer = Observer::attach(pid, &[]);
    fixture.become_other(&path("newest-fat", "healthy"), "still");
    let gone = observer.wait_for("its first program is gone", |line| is(line, "gone", pid));
    assert_eq!(parsed(&gone.expect("the observer runs on"))["reason"], "exec");
    let begun = observer.wait_for("its second is observed", |line| is(line, "target", pid) && line.contains("healthy"));
    assert!(begun.is_some(), "the observer ended");
    fixture.signal(libc::SIGKILL);
    assert_eq!(observer.stream().end()["reason"], "exited");
}

/// What the kernel says of processes waits in rings while the observer does not run.
#[test]
fn news_of_processes_that_found_no_room_are_said_and_the_machine_is_looked_at_again() {
    let (stream, said) = lost_news(&["trace", "--all", "--json"]);
    assert_eq!(stream.total("lostNews"), said);
}

#[test]
fn samples_say_lost_news_as_events_do() {
    lost_news(&["trace", "--tier", "sampled", "--all", "--json"]);
}

/// The observer is stopped while processes come and go; the stream, and how many news it says were lost.
fn lost_news(arguments: &[&str]) -> (Stream, u64) {
    let observer = Observer::run(arguments).wait_until_attached();
    let known = Fixture::start("newest-release", "burst", &[]);
    let seen = observer.wait_for("the program is known", |line| is(line, "target", known.pid()));
    assert!(seen.is_some(), "the observer ended");
    observer.signal(libc::SIGSTOP);
    let stopped =
        || std::fs::read_to_string(format!("/proc/{}/stat", observer.pid())).expect("it is there").contains(") T ");
    until("it stands still", || stopped().then_some(()));
    // Rings have half a megabyte a CPU; a process brings a dozen news of some hundred bytes.
    for _ in 0..2000 {
        assert!(Command::new("/bin/true").status().expect("it can be run").success());
    }
    let late = Fixture::start("newest-release", "leaks", &["still"]);
    observer.signal(libc::SIGCONT);
    let lost = observer.wait_for("the loss is said", |line| line.contains("\"event\":\"lostNews\""));
    let lost = parsed(&lost.expect("the observer runs on"));
    assert_eq!(lost["looksAgain"], true, "{lost}");
    let found = observer.wait_for("who began meanwhile is found", |line| is(line, "target", late.pid()));
    assert!(found.is_some(), "the observer ended");
    let stream = observer.stop();
    let said: u64 = stream.of("lostNews").map(|line| tests::stream::number(line, "count")).sum();
    assert!(said > 0);
    (stream, said)
}
