//! `doctor --pid`: what is said of a process, before anything is attached to it, is what an observation then finds.

use std::process::Command;

use serde_json::Value;
use tests::diagnosis::Diagnosis;
use tests::fixture::{Fixture, path};
use tests::observer::Observer;
use tests::rights::{NOBODY, Shared, as_user, child_of, refusing};
use tests::wait::until;

fn doctor(pids: &[u32]) -> Diagnosis {
    let named = pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]);
    let arguments: Vec<String> = ["doctor", "--json"].map(str::to_owned).into_iter().chain(named).collect();
    Diagnosis::of(&Observer::run(arguments).ended())
}

fn sum(roles: &Value, member: &str) -> u64 {
    roles.as_array().expect("roles are a list").iter().filter_map(|role| role[member].as_u64()).sum()
}

#[test]
fn what_would_be_observed_is_what_is_observed_then() {
    for (cell, program) in [("newest-release", "matrix-glibc"), ("newest-fat", "healthy")] {
        let arguments: &[&str] = if program == "healthy" { &["still"] } else { &[] };
        let fixture = Fixture::start(cell, program, arguments);
        let pid = fixture.pid();
        let found = doctor(&[pid]);
        assert_eq!(found.code, 0);
        for row in found.needs(Some(pid)) {
            assert_eq!(row["result"], "works", "{row:#}");
        }
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
        assert!(!maps.contains("[uprobes]"), "nothing was attached");
        let would = found.target(pid).expect("it has a runtime");
        let observer = Observer::attach_with(pid, &["--duration", "100ms"]);
        let stream = observer.stream();
        let is = &stream.start()["targets"][0];
        assert_eq!((&would["images"], &would["missing"], &would["exe"]), (&is["images"], &is["missing"], &is["exe"]));
        let images = would["images"].as_array().expect("images are a list");
        let all = |member: &str| images.iter().filter_map(|image| image[member].as_u64()).sum::<u64>();
        assert!(all("points") > 100, "{would}");
        assert_eq!(sum(&would["roles"], "count"), all("points"));
        assert_eq!(sum(&would["roles"], "singleStepped"), all("singleStepped"));
        assert!(would["singleStepFactor"].as_u64().is_some_and(|factor| factor > 1));
    }
}

#[test]
fn a_process_that_is_stopped_is_a_risk_that_goes_away_when_it_goes_on() {
    let fixture = Fixture::start("newest-release", "leaks", &["still"]);
    fixture.signal(libc::SIGSTOP);
    let stopped =
        || std::fs::read_to_string(format!("/proc/{}/stat", fixture.pid())).is_ok_and(|stat| stat.contains(") T "));
    until("it is stopped", || stopped().then_some(()));
    let found = doctor(&[fixture.pid()]);
    found.assert(Some(fixture.pid()), "running", "risk", &["stopped"], "kill -CONT");
    assert!(found.target(fixture.pid()).is_some());
    fixture.signal(libc::SIGCONT);
    until("it goes on", || (!stopped()).then_some(()));
    doctor(&[fixture.pid()]).assert(Some(fixture.pid()), "running", "works", &[], "");
}

#[test]
fn a_debugger_is_named() {
    let fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let tracer = Fixture::spawn("tracer", Command::new(path("bare", "tracer")).arg(fixture.pid().to_string()));
    tracer.wait_for("it traces", |line| line.contains("\"ready\":true"));
    let found = doctor(&[fixture.pid()]);
    let by = format!("process {} (tracer)", tracer.pid());
    found.assert(Some(fixture.pid()), "untraced", "risk", &[&by], "end the debugger");
}

#[test]
fn a_seccomp_filter_is_seen_and_what_it_does_to_return_probes_is_said_as_it_is() {
    // `uretprobe(2)`, which filters that know nothing of it refuse. The program never makes the call by itself.
    const URETPROBE: libc::c_long = 335;
    let mut fixture = Fixture::spawn(
        "filtered",
        &mut refusing(URETPROBE, None, libc::EPERM, &path("newest-release", "matrix-glibc")),
    );
    fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    let pid = fixture.pid();
    let found = doctor(&[pid]);
    let row = found.need(Some(pid), "seccomp");
    if found.need(None, "seccomp-returns")["result"] == "risk" {
        found.assert(Some(pid), "seccomp", "risk", &["seccomp"], "ps and sweep");
        return;
    }
    found.assert(Some(pid), "seccomp", "works", &["it has a seccomp filter"], "");
    // The proof: it lives through its return probes.
    let observer = Observer::attach(pid, &[]);
    fixture.release();
    fixture.truth();
    assert!(observer.stream().of("after").count() > 0, "{row}");
}

#[test]
fn without_the_trial_a_filter_is_a_risk() {
    let shared = Shared::new("doctor-untried");
    let program = path("newest-release", "leaks");
    let fixture = Fixture::spawn("filtered", refusing(335, None, libc::EPERM, &program).arg("still"));
    fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    let pid = fixture.pid().to_string();
    let mut command = shared.with(&["sys_ptrace", "dac_read_search"], &["doctor", "--json", "--pid", &pid]);
    let found = Diagnosis::of(&Observer::run_as(&mut command).ended());
    found.assert(Some(fixture.pid()), "seccomp", "risk", &["could not be tried"], "ps and sweep are safe");
    assert_eq!(found.code, 0, "it can be read");
}

#[test]
fn whose_it_is_and_where_it_lives_is_said() {
    let own = Fixture::start("newest-release", "leaks", &["still"]);
    let other = Fixture::spawn("leaks", as_user(NOBODY, &path("newest-release", "leaks")).arg("still"));
    other.wait_for("it is up", |line| line.contains("\"ready\":true"));
    let mut away = Command::new("unshare");
    away.args(["--mount", "--pid", "--fork"]).arg(path("newest-release", "leaks")).arg("still");
    let away = Fixture::spawn("leaks in other namespaces", &mut away);
    away.wait_for("it is up", |line| line.contains("\"ready\":true"));
    let inner = child_of(away.pid()).expect("unshare has a child");
    let found = doctor(&[own.pid(), other.pid(), inner]);
    found.assert(Some(own.pid()), "process", "works", &["/leaks", "of this user"], "");
    found.assert(Some(other.pid()), "process", "works", &["of user 65534"], "");
    found.assert(Some(inner), "process", "works", &["another namespace (pid, mnt)"], "");
    let detail = found.need(Some(own.pid()), "process")["detail"].as_str().expect("it has a detail");
    assert!(!detail.contains("namespace"), "{detail}");
    // Ends with its parent otherwise.
    // SAFETY: the child of our own child, which waits for it and so keeps its number.
    unsafe { libc::kill(inner.cast_signed(), libc::SIGKILL) };
}

#[test]
fn what_cannot_be_observed_is_said_with_the_exit_code_that_observing_has() {
    let mut gone = Command::new("true").spawn().expect("true starts");
    gone.wait().expect("true ends");
    let found = doctor(&[gone.id()]);
    found.assert(Some(gone.id()), "process", "missing", &["there is no process"], "ps -e");
    found.assert(Some(gone.id()), "runtime", "notTried", &["cannot be looked at"], "");
    assert_eq!(found.code, 3);
    let bare = Fixture::start("bare", "no-runtime", &[]);
    let found = doctor(&[bare.pid()]);
    found.assert(Some(bare.pid()), "runtime", "missing", &["no supported async runtime"], "right process");
    assert_eq!(found.code, 5);
    let narrow = Fixture::start("bare", "thirty-two", &[]);
    let found = doctor(&[narrow.pid()]);
    found.assert(Some(narrow.pid()), "runtime", "missing", &["32-bit"], "64-bit");
    assert_eq!(found.code, 5);
    let fixture = Fixture::start("newest-release", "leaks", &["still"]);
    assert_eq!(doctor(&[bare.pid(), fixture.pid()]).code, 0, "one of them can be");
    assert_eq!(doctor(&[std::process::id()]).code, 5, "this test is no tokio program");
}
