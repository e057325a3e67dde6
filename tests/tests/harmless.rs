//! The target does what it does without us: same output, same panics, no request lost, whatever the observer does.

use tests::fixture::{Fixture, path};
use tests::life::Lives;
use tests::observer::Observer;
use tests::wait::{fewer, until};

/// A run's whole output, its own process id aside.
fn output(program: &str, observed: bool) -> (Vec<String>, Vec<String>, Option<i32>) {
    let mut fixture = Fixture::start("newest-release", program, &[]);
    let observer = observed.then(|| Observer::attach(fixture.pid(), &[]));
    fixture.release();
    let ended = fixture.finish();
    if let Some(observer) = observer {
        let stream = observer.stream();
        Lives::of(&stream).assert_sane(program);
        assert!(stream.total("init") > 0, "{program} was observed");
    }
    let stdout = ended.stdout.into_iter().filter(|line| !line.contains("\"ready\":true")).collect();
    (stdout, ended.stderr, ended.status.code())
}

#[test]
fn a_program_s_output_is_the_same_under_observation() {
    assert_eq!(output("matrix-glibc", true), output("matrix-glibc", false));
}

#[test]
fn panicking_tasks_end_as_they_do_without_us() {
    let (bare, observed) = (output("panics", false), output("panics", true));
    assert!(
        bare.0.len() > 100 && bare.0.last().is_some_and(|line| line == "the end"),
        "the transcript is whole: {bare:?}"
    );
    assert_eq!(observed, bare);
}

/// An echo server under load, and how its run ends.
struct Echo(Fixture);

impl Echo {
    fn start() -> Self {
        let mut fixture = Fixture::start("newest-release", "echo", &[]);
        fixture.release();
        Self(fixture)
    }

    /// Stops the load: every request sent must have been answered.
    fn assert_none_lost(mut self) {
        self.0.release();
        let truth = self.0.truth();
        let sent = truth["sent"].as_u64().expect("the fixture counts");
        assert!(sent > 0, "there was a load");
        assert_eq!(truth["answered"].as_u64(), Some(sent), "requests answered of those sent");
    }
}

/// Attaches and waits until events flow.
fn attached_and_streaming(pid: u32, more: &[&str]) -> Observer {
    let observer = Observer::attach(pid, more);
    let streaming = observer.wait_for("events flow", |line| line.contains("\"event\":\"destroy\""));
    assert!(streaming.is_some(), "the observer ended before any task did");
    observer
}

#[test]
fn a_hundred_attaches_and_detaches_under_load_lose_no_request() {
    let echo = Echo::start();
    for round in 0..fewer(100) {
        let more: &[&str] = if round % 4 == 3 { &["--events", "init,destroy"] } else { &[] };
        let stream = attached_and_streaming(echo.0.pid(), more).stop();
        assert_eq!(stream.end()["reason"], "signal", "round {round}");
    }
    echo.assert_none_lost();
}

#[test]
fn an_observer_killed_in_mid_stream_leaves_the_target_unharmed() {
    let echo = Echo::start();
    for _ in 0..3 {
        let mut observer = attached_and_streaming(echo.0.pid(), &[]);
        assert!(has_breakpoints(echo.0.pid()), "the observer's breakpoints can be seen in the target");
        observer.signal(libc::SIGKILL);
        assert_eq!(observer.ended().code, None, "it was killed");
    }
    until("no breakpoint is left behind", || (!has_breakpoints(echo.0.pid())).then_some(()));
    // Nothing of the dead ones is in the way of the next.
    let stream = attached_and_streaming(echo.0.pid(), &[]).stop();
    assert!(stream.total("init") > 0 && stream.total("lost") == 0);
    echo.assert_none_lost();
}

/// Whether a breakpoint stands in the echo server: its code in memory differs from the file's.
fn has_breakpoints(pid: u32) -> bool {
    use std::os::unix::fs::FileExt;
    let program = path("newest-release", "echo").canonicalize().expect("the fixture exists");
    let file = std::fs::read(&program).expect("the fixture can be read");
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the fixture runs");
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("the fixture runs");
    let hex = |text: &str| usize::from_str_radix(text, 16).expect("maps counts in hex");
    let code = |line: &&str| line.contains(" r-xp ") && line.ends_with(program.to_str().expect("is text"));
    maps.lines().filter(code).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (from, to) = words[0].split_once('-').expect("maps begins with a range");
        let (from, to, offset) = (hex(from), hex(to), hex(words[2]));
        let mut mapped = vec![0; (to - from).min(file.len() - offset)];
        memory.read_exact_at(&mut mapped, from as u64).expect("its code can be read");
        mapped != file[offset..offset + mapped.len()]
    })
}
