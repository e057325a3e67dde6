//! What cannot be observed is refused: the exit code of its kind, and what, why and the next step on stderr.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use tests::fixture::{Fixture, Scratch, path};
use tests::life::Lives;
use tests::observer::{Ended, Observer, program};
use tests::truth::differences;

const NO_PROCESS: i32 = 3;
const NOT_PERMITTED: i32 = 4;
const NOTHING: i32 = 5;

/// Runs the observer on a process it must refuse; holds the refusal to its form.
fn refused(pid: u32, code: i32, says: &[&str]) {
    let mut observer = Observer::run(["--json", "--pid", &pid.to_string()]);
    assert_refusal(&observer.ended(), code, says);
}

fn assert_refusal(ended: &Ended, code: i32, says: &[&str]) {
    let text = ended.stderr.join("\n");
    assert_eq!(ended.code, Some(code), "{text}");
    assert_eq!(ended.stdout, Vec::<String>::new(), "a refusal says nothing on stdout");
    let error = ended.stderr.iter().find(|line| line.starts_with("async-observer: "));
    let error = error.unwrap_or_else(|| panic!("no line says what is wrong: {text}"));
    for word in says {
        assert!(error.contains(word), "`{error}` does not say `{word}`");
    }
    let step = ended.stderr.last().and_then(|line| line.strip_prefix("next step: "));
    assert!(step.is_some_and(|step| step.len() > 10), "the last line is no next step: {text}");
}

#[test]
fn a_process_that_does_not_exist() {
    let mut gone = Command::new("true").spawn().expect("true starts");
    gone.wait().expect("true ends");
    refused(gone.id(), NO_PROCESS, &[&gone.id().to_string()]);
}

#[test]
fn a_process_that_ended_and_is_not_yet_reaped() {
    let mut zombie = Command::new("true").stdout(Stdio::piped()).spawn().expect("true starts");
    // Its end closes the pipe.
    std::io::copy(&mut zombie.stdout.take().expect("is piped"), &mut std::io::sink()).expect("the pipe can be read");
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", zombie.id())).unwrap_or_default();
    tests::wait::until("true is a zombie", || state().contains(") Z ").then_some(()));
    refused(zombie.id(), NO_PROCESS, &[&zombie.id().to_string()]);
    zombie.wait().expect("true is reaped");
}

#[test]
fn a_process_that_ends_during_the_attach() {
    // From before the observer looks to after it is attached: whenever the end comes, it is told as what it is.
    for delay in (0..60).step_by(4) {
        let fixture = Fixture::start("newest-release", "matrix-glibc", &[]);
        let mut observer = Observer::run(["--json", "--pid", &fixture.pid().to_string()]);
        std::thread::sleep(Duration::from_millis(delay));
        drop(fixture);
        let ended = observer.ended();
        let text = ended.stderr.join("\n");
        match ended.code {
            Some(0) => {
                assert!(
                    ended.stdout.first().is_some_and(|line| line.contains("\"start\"")),
                    "after {delay} ms: {text}"
                );
                assert!(
                    ended.stdout.last().is_some_and(|line| line.contains("\"exited\"")),
                    "after {delay} ms: {text}"
                );
            }
            Some(NO_PROCESS) => assert_refusal(&ended, NO_PROCESS, &[]),
            other => panic!("after {delay} ms: {other:?}: {text}"),
        }
    }
}

#[test]
fn a_kernel_thread() {
    // kthreadd is process 2 wherever kernel threads can be seen.
    let comm = std::fs::read_to_string("/proc/2/comm").expect("kernel threads can be seen here");
    assert_eq!(comm.trim(), "kthreadd");
    refused(2, NOTHING, &["2", "kernel thread"]);
}

#[test]
fn a_process_without_a_runtime() {
    let mut sleep = Fixture::spawn("sleep", Command::new("sleep").arg("1000"));
    tests::wait::until("sleep runs its own program", || {
        let exe = std::fs::read_link(format!("/proc/{}/exe", sleep.pid())).ok()?;
        exe.ends_with("sleep").then_some(())
    });
    refused(sleep.pid(), NOTHING, &[&sleep.pid().to_string()]);
    assert!(sleep.is_running(), "it was left alone");
}

#[test]
fn a_static_program_without_a_runtime() {
    let fixture = Fixture::start("bare", "no-runtime", &[]);
    refused(fixture.pid(), NOTHING, &[&fixture.pid().to_string()]);
}

#[test]
fn a_32_bit_process() {
    let fixture = Fixture::start("bare", "thirty-two", &[]);
    refused(fixture.pid(), NOTHING, &[&fixture.pid().to_string(), "32-bit"]);
}

#[test]
fn a_tokio_that_is_too_old_is_named_with_its_version() {
    let fixture = Fixture::start("refused", "refused", &[]);
    refused(fixture.pid(), NOTHING, &[&fixture.pid().to_string(), "1.20.6", "1.23"]);
}

#[test]
fn without_privileges() {
    let fixture = Fixture::start("newest-release", "matrix-glibc", &[]);
    // Where nobody may run it.
    let place = Scratch::new("unprivileged");
    let program = place.copy(&program());
    let mut observer = Observer::run_as(
        Command::new(&program)
            .args(["--json", "--pid", &fixture.pid().to_string()])
            .uid(65534)
            .gid(65534)
            .current_dir("/"),
    );
    assert_refusal(&observer.ended(), NOT_PERMITTED, &[]);
}

#[test]
fn a_program_deleted_or_replaced_after_it_started_is_observed_all_the_same() {
    for replaced in [false, true] {
        let place = Scratch::new(if replaced { "replaced" } else { "deleted" });
        let copy = place.copy(&path("newest-release", "matrix-glibc"));
        let mut fixture = Fixture::spawn("a copy", &mut Command::new(&copy));
        fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
        std::fs::remove_file(&copy).expect("the copy can be removed");
        if replaced {
            std::fs::copy(path("newest-fat", "matrix-glibc"), &copy).expect("another program takes its place");
        }
        let observer = Observer::attach(fixture.pid(), &[]);
        fixture.release();
        let truth = fixture.truth();
        let stream = observer.stream();
        let lives = Lives::of(&stream);
        lives.assert_sane("a program without its file");
        assert_eq!(differences(&stream, &lives, &truth), Vec::<String>::new(), "replaced: {replaced}");
    }
}

#[test]
fn two_observers_on_one_target_both_see_everything() {
    let mut fixture = Fixture::start("newest-release", "matrix-glibc", &[]);
    let observers = [Observer::attach(fixture.pid(), &[]), Observer::attach(fixture.pid(), &[])];
    fixture.release();
    let truth = fixture.truth();
    for observer in observers {
        let stream = observer.stream();
        let lives = Lives::of(&stream);
        lives.assert_sane("one of two observers");
        assert_eq!(differences(&stream, &lives, &truth), Vec::<String>::new());
    }
}

#[test]
fn a_command_line_that_names_nothing_is_a_usage_error() {
    for arguments in [&[][..], &["--pid", "0"], &["--pid", "x"], &["--no-such-option"]] {
        let mut observer = Observer::run(arguments);
        let ended = observer.ended();
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
    }
}
