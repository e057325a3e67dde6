//! Several named processes of one program: one set of links for all of them, as long as nobody else runs it.

use serde_json::Value;
use tests::fixture::{Fixture, Scratch};
use tests::kernel::Objects;
use tests::observer::Observer;
use tests::stream::{Stream, number};

/// Starts some processes of a program of its own: who else runs it is part of what is tested.
fn start(scratch: &Scratch, program: &str, arguments: &[&str], count: usize) -> Vec<Fixture> {
    let program = scratch.path().join(program);
    let mut fixtures: Vec<Fixture> = (0..count)
        .map(|number| {
            let mut command = std::process::Command::new(&program);
            Fixture::spawn(&format!("{} {number}", program.display()), command.args(arguments))
        })
        .collect();
    for fixture in &mut fixtures {
        fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    }
    fixtures
}

fn observe<'a>(fixtures: impl IntoIterator<Item = &'a Fixture>) -> Observer {
    let pids = fixtures.into_iter().flat_map(|fixture| ["--pid".to_owned(), fixture.pid().to_string()]);
    Observer::run(["--json".to_owned()].into_iter().chain(pids)).wait_until_attached()
}

fn links(observer: &Observer) -> usize {
    Objects::held_by(observer.pid()).links.len()
}

/// Has each do its work, one after the other: all at once make more records than the rings have room for. Gives the truths.
fn worked(fixtures: Vec<Fixture>) -> Vec<(u32, Value)> {
    let work = |mut fixture: Fixture| {
        fixture.release();
        (fixture.pid(), fixture.truth())
    };
    fixtures.into_iter().map(work).collect()
}

fn births(stream: &Stream, pid: u32) -> u64 {
    stream.of("init").filter(|line| number(line, "pid") == u64::from(pid) && line["existing"] != true).count() as u64
}

fn told(truth: &Value) -> u64 {
    let told =
        |path: &str| truth.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {truth}"));
    told("/task/spawned") + told("/blocking/spawned") + told("/workers")
}

#[test]
fn named_processes_of_one_program_share_the_links_of_one_and_each_tells_its_own() {
    let scratch = Scratch::new("together");
    scratch.copy(&tests::fixture::path("newest-release", "matrix-glibc"));
    let named = start(&scratch, "matrix-glibc", &[], 8);
    let observer = observe(&named);
    let of_eight = links(&observer);
    // It runs into the same probes, and nobody has named it.
    let other = start(&scratch, "matrix-glibc", &[], 1);
    let other = worked(other);
    let truths = worked(named);
    let stream = observer.stream();
    assert_eq!(stream.total("lost"), 0, "records that found no room");
    for (pid, truth) in &truths {
        assert_eq!(births(&stream, *pid), told(truth), "births of process {pid}");
    }
    for (pid, truth) in &other {
        assert!(told(truth) > 100, "it was busy");
        assert_eq!(births(&stream, *pid), 0, "births of the process that is not named");
    }

    let alone = start(&scratch, "matrix-glibc", &[], 1);
    let observer = observe(&alone);
    assert_eq!(of_eight, links(&observer), "links of eight processes, and of one");
    observer.stop();
}

#[test]
fn a_program_that_others_run_too_is_probed_only_in_the_named_processes() {
    let scratch = Scratch::new("apart");
    scratch.copy(&tests::fixture::path("newest-release", "matrix-glibc"));
    let all = start(&scratch, "matrix-glibc", &[], 3);
    let observer = observe(&all[..1]);
    let of_one = links(&observer);
    observer.stop();
    let observer = observe(&all[..2]);
    let of_two = links(&observer);
    assert!(of_two > of_one, "{of_two} links of two processes, {of_one} of one");
    let truths = worked(all);
    let stream = observer.stream();
    assert_eq!(stream.total("lost"), 0, "records that found no room");
    for (pid, truth) in &truths[..2] {
        assert_eq!(births(&stream, *pid), told(truth), "births of process {pid}");
    }
    assert_eq!(births(&stream, truths[2].0), 0, "births of the process that is not named");
}

#[test]
fn one_of_several_that_begins_another_program_is_followed_there() {
    let scratch = Scratch::new("leaves");
    scratch.copy(&tests::fixture::path("newest-release", "leaks"));
    let mut named = start(&scratch, "leaks", &["still"], 2);
    let observer = observe(&named);
    let pid = named[1].pid();
    named[1].become_other(&tests::fixture::path("newest-fat", "healthy"), "still");
    let begun = observer.wait_for("its second program is observed", |line| {
        line.contains("\"event\":\"target\"") && line.contains(&format!("\"pid\":{pid},")) && line.contains("healthy")
    });
    assert!(begun.is_some(), "the observer ended");
    let born = observer.wait_for("a task of it", |line| {
        line.contains("\"event\":\"init\"") && line.contains(&format!("\"pid\":{pid},")) && !line.contains("leaks")
    });
    assert!(born.is_some(), "the observer ended");
    observer.stop();
}
