//! A security module that refuses what capabilities allow: `doctor` lays it to the module, and ps works all the same.
//!
//! Only a kernel with AppArmor shows it: `cargo xtask vm --suite all` boots one for these tests.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use tests::diagnosis::Diagnosis;
use tests::fixture::{Fixture, Scratch};
use tests::observer::{Observer, program};

const NOT_PERMITTED: i32 = 4;
/// Allows everything but what is named.
const PROFILE: &str = "\
profile async-observer-without-bpf {
  file,
  network,
  ptrace,
  signal,
  mount,
  umount,
  capability,
  deny capability bpf,
  deny capability sys_admin,
}
";

/// Runs the program as the module lets it.
fn confined(arguments: &[&str]) -> Observer {
    let mut command = Command::new(program());
    command.args(arguments);
    // SAFETY: between fork and exec only a file is written, from memory that was there before.
    unsafe { command.pre_exec(|| std::fs::write("/proc/self/attr/exec", "exec async-observer-without-bpf")) };
    Observer::run_as(&mut command)
}

#[test]
#[ignore = "needs a kernel with AppArmor: cargo xtask vm --suite all"]
fn what_a_security_module_refuses_is_laid_to_it_and_ps_works() {
    let folder = Scratch::new("confined");
    let profile = folder.path().join("profile");
    std::fs::write(&profile, PROFILE).expect("the folder can be written");
    let loaded = Command::new("/usr/sbin/apparmor_parser").args(["--replace", "--skip-cache"]).arg(&profile).output();
    let loaded = loaded.expect("the loader starts");
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));

    let found = Diagnosis::of(&confined(&["doctor", "--json"]).ended());
    found.assert(None, "bpf-maps", "missing", &["the capabilities are there", "apparmor"], "journalctl -k");
    // Not 4: `ps` and `sweep` work.
    assert_eq!((found.code, found.end()["live"].is_null()), (0, true), "{:#?}", found.lines);

    let fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let pid = fixture.pid().to_string();
    let tried = confined(&["--json", "-d", "100ms", "--pid", &pid]).ended();
    assert_eq!(tried.code, Some(NOT_PERMITTED), "{:?}", tried.stderr);
    assert!(tried.stderr.last().is_some_and(|step| step.contains("doctor")), "{:?}", tried.stderr);
    assert!(confined(&["ps", "--json", "--pid", &pid]).look().live(fixture.pid()) > 0, "memory can be read");

    // Without the profile the same program works.
    let free = Diagnosis::of(&Observer::run(["doctor", "--json"]).ended());
    free.assert(None, "bpf-maps", "works", &[], "");
}
