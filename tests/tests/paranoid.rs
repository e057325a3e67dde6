//! A kernel that keeps perf's events to root: what `doctor` says of it is what comes of trying.
//!
//! Debian's kernels do so at a level that Linux itself does not have: `cargo xtask vm --suite all` boots them with it.

use tests::diagnosis::Diagnosis;
use tests::fixture::Fixture;
use tests::observer::Observer;
use tests::rights::Shared;

const NOT_PERMITTED: i32 = 4;

#[test]
#[ignore = "needs a kernel of Debian's with kernel.perf_event_paranoid=3: cargo xtask vm --suite all"]
fn a_level_that_keeps_events_to_root_is_named_to_those_who_have_all_other_rights() {
    let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").expect("the kernel shows it");
    assert_eq!(level.trim(), "3");
    let (shared, fixture) = (Shared::new("paranoid"), Fixture::start("newest-release", "leaks", &["still"]));
    let rights = ["bpf", "perfmon", "sys_ptrace", "dac_read_search"];
    let run = |rights: &[&str], arguments: &[&str]| Observer::run_as(&mut shared.with(rights, arguments)).ended();
    let pid = fixture.pid().to_string();
    let tried = run(&rights, &["--json", "-d", "100ms", "--pid", &pid]);
    let found = Diagnosis::of(&run(&rights, &["doctor", "--json"]));
    assert_eq!(found.fact("perfEventParanoid"), Some("3"));
    for need in ["rings", "follow-processes", "sampling"] {
        found.assert(None, need, "missing", &["kernel.perf_event_paranoid is 3"], "kernel.perf_event_paranoid=2");
        assert_eq!(found.need(None, need)["errno"], libc::EACCES);
    }
    assert_eq!((tried.code, found.end()["live"].is_null()), (Some(NOT_PERMITTED), true), "{:?}", tried.stderr);
    assert!(tried.stderr.last().is_some_and(|step| step.contains("doctor")), "{:?}", tried.stderr);
    // Root is not meant by it.
    let root = Diagnosis::of(&Observer::run(["doctor", "--json"]).ended());
    root.assert(None, "rings", "works", &[], "");
    assert!(root.end()["live"].is_string());
}
