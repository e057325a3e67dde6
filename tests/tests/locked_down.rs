//! What a kernel that is locked down refuses: what `doctor` says of it is what comes of trying.
//!
//! Only a kernel that was booted so shows it: `cargo xtask vm --suite all` boots one for these tests.

use std::process::Command;

use tests::diagnosis::Diagnosis;
use tests::fixture::Fixture;
use tests::life::Lives;
use tests::observer::{Observer, program};
use tests::truth::differences;

const KERNEL: i32 = 6;

/// Such a kernel makes no file in the tracing file system, and everything else that is needed works.
#[test]
#[ignore = "needs a kernel that is locked down: cargo xtask vm --suite all"]
fn what_confidentiality_takes_away_is_laid_to_it_and_all_else_works() {
    let shown = std::fs::read_to_string("/sys/kernel/security/lockdown").expect("this kernel shows its mode");
    assert!(shown.contains("[confidentiality]"), "{shown}");
    let empty = std::fs::read_dir("/sys/kernel/tracing").expect("it is mounted").next().is_none();
    assert!(empty, "this kernel has made files in the tracing file system");

    let found = Diagnosis::of(&Observer::run_as(Command::new(program()).args(["doctor", "--json"])).ended());
    assert_eq!((found.fact("lockdown"), found.code), (Some("confidentiality"), 0));
    found.assert(None, "tracefs", "missing", &["locked down (confidentiality)"], "lockdown=");
    // Whether the live stream is lost with it depends on the other way, which is tried.
    let multi = found.need(None, "uprobe-multi")["result"] == "works";
    let live = if multi { Some("uprobe_multi") } else { None };
    assert_eq!(found.end()["live"].as_str(), live);
    let lost: &[&str] = if multi { &["tracefs"] } else { &["uprobe-multi", "trace-events", "tracefs"] };
    let missing: Vec<&str> =
        found.needs(None).filter(|row| row["result"] == "missing").filter_map(|row| row["need"].as_str()).collect();
    assert_eq!(missing, lost);
    if !multi {
        found.assert(None, "trace-events", "missing", &["locked down (confidentiality)"], "lockdown=");
    }

    let mut fixture = Fixture::start("newest-release", "matrix-glibc", &[]);
    let pid = fixture.pid().to_string();
    let refused = Observer::run(["--json", "--attach-with", "tracefs", "--pid", &pid]).ended();
    assert_eq!(refused.code, Some(KERNEL), "{:?}", refused.stderr);
    assert!(
        refused.stderr.last().is_some_and(|step| step.contains("lockdown=confidentiality")),
        "{:?}",
        refused.stderr
    );
    let leaks = Fixture::start("newest-release", "leaks", &["still"]);
    let looked = Observer::run(["ps", "--json", "--pid", &leaks.pid().to_string()]).look();
    assert!(looked.live(leaks.pid()) > 0, "memory can be read all the same");
    if multi {
        let observer = Observer::attach(fixture.pid(), &[]);
        fixture.release();
        let truth = fixture.truth();
        let stream = observer.stream();
        let lives = Lives::of(&stream);
        lives.assert_sane("under lockdown");
        assert_eq!(differences(&stream, &lives, &truth), Vec::<String>::new());
    }
}
