//! `doctor`: each need is provoked on the machine, and what is said is compared with what was done to it.

use std::path::Path;
use std::process::Command;

use tests::diagnosis::Diagnosis;
use tests::kernel::has_uprobe_multi;
use tests::observer::{Observer, program};
use tests::rights::{NOBODY, Shared, elsewhere, limited, limited_as, refusing};

const EPERM: i32 = libc::EPERM;

fn doctor(command: &mut Command) -> Diagnosis {
    Diagnosis::of(&Observer::run_as(command.args(["doctor", "--json"])).ended())
}

/// As user 65534 with these capabilities.
fn doctor_with(shared: &Shared, capabilities: &[&str]) -> Diagnosis {
    Diagnosis::of(&Observer::run_as(&mut shared.with(capabilities, &["doctor", "--json"])).ended())
}

/// Mounts the tracing file system, unless it is there.
const WITH_TRACEFS: &str = "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing";

#[test]
fn as_root_everything_that_is_needed_works() {
    let found = doctor(&mut Command::new(program()));
    assert_eq!(found.code, 0);
    let needs: Vec<&str> = found.needs(None).filter_map(|row| row["need"].as_str()).collect();
    let all = [
        "bpf-maps",
        "bpf-programs",
        "rings",
        "uprobe-multi",
        "trace-events",
        "tracefs",
        "seccomp-returns",
        "follow-processes",
        "sampling",
        "others-memory",
        "own-memory",
        "map-files",
        "any-file",
        "launch",
    ];
    assert_eq!(needs, all);
    for row in found.needs(None).filter(|row| row["optional"] == false) {
        assert_eq!(row["result"], "works", "{row:#}");
    }
    for need in ["follow-processes", "sampling", "map-files", "any-file", "launch"] {
        found.assert(None, need, "works", &[], "");
    }
    assert!(found.end()["live"].is_string(), "{}", found.end());
    assert_eq!(found.end()["reads"], "everyone");
}

#[test]
fn the_facts_are_those_that_the_kernel_shows() {
    let found = doctor(&mut Command::new(program()));
    let file = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    for (fact, path) in [
        ("kernel", "/proc/sys/kernel/osrelease"),
        ("unprivilegedBpfDisabled", "/proc/sys/kernel/unprivileged_bpf_disabled"),
        ("perfEventParanoid", "/proc/sys/kernel/perf_event_paranoid"),
        ("perfEventMlockKb", "/proc/sys/kernel/perf_event_mlock_kb"),
        ("ptraceScope", "/proc/sys/kernel/yama/ptrace_scope"),
    ] {
        assert_eq!(found.fact(fact), file(path).as_deref(), "{fact}");
    }
    assert_eq!((found.fact("user"), found.fact("userNamespace")), (Some("0 (root)"), Some("first")));
    let four = doctor_with(&Shared::new("doctor-facts"), &["bpf", "perfmon", "sys_ptrace", "dac_read_search"]);
    assert_eq!(four.fact("user"), Some(NOBODY.to_string().as_str()));
    assert_eq!(four.fact("capabilities"), Some("CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF"));
}

#[test]
fn lockdown_and_security_modules_are_named_where_the_kernel_shows_them() {
    let mount = "mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security";
    let shown = Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-c",
            &format!("{mount}; cat /sys/kernel/security/lsm; echo; cat /sys/kernel/security/lockdown"),
        ])
        .output()
        .expect("unshare runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let mut shown = shown.lines().map(str::trim).filter(|line| !line.is_empty());
    let modules = shown.next();
    let lockdown = shown.next().and_then(|line| Some(line.split_once('[')?.1.split_once(']')?.0));
    assert!(modules.is_some(), "this kernel shows its security modules");
    let found = doctor(&mut elsewhere(mount, &program()));
    assert_eq!((found.fact("securityModules"), found.fact("lockdown")), (modules, lockdown));
}

#[test]
fn each_capability_that_is_left_out_is_named_where_it_is_needed() {
    let all = ["bpf", "perfmon", "sys_ptrace", "dac_read_search", "checkpoint_restore"];
    let shared = Shared::new("doctor-left-out");
    // Left out; what is missing then.
    for (left_out, needs) in [
        ("bpf", &["bpf-maps"][..]),
        ("perfmon", &["bpf-programs", "follow-processes", "sampling"]),
        ("sys_ptrace", &["others-memory"]),
        ("dac_read_search", &["others-memory", "any-file"]),
        ("checkpoint_restore", &["map-files"]),
    ] {
        let had: Vec<&str> = all.into_iter().filter(|one| *one != left_out).collect();
        let found = doctor_with(&shared, &had);
        let name = format!("CAP_{}", left_out.to_uppercase());
        let missing: Vec<&str> = found
            .needs(None)
            .filter(|row| row["result"] == "missing" && row["why"].as_str().is_some_and(|why| why.contains("CAP_")))
            .filter_map(|row| row["need"].as_str())
            .filter(|need| *need != "tracefs")
            .collect();
        for need in needs {
            assert!(missing.contains(need), "without {left_out} {need} is missing: {missing:?}");
        }
        for need in missing {
            let row = found.need(None, need);
            let why = row["why"].as_str().unwrap_or_default();
            // Trace events are root's, and their file, too, which not everybody sees.
            let (events, seen) = (need == "trace-events", had.contains(&"dac_read_search"));
            let name = match (events, seen) {
                (true, true) => "CAP_SYS_ADMIN and CAP_DAC_OVERRIDE",
                (true, false) => "CAP_SYS_ADMIN",
                _ => &name,
            };
            assert_eq!(why, format!("this user lacks {name}"), "without {left_out}: {row:#}");
            found.assert(None, need, "missing", &[], name);
        }
        let live = has_uprobe_multi() && !["bpf", "perfmon"].contains(&left_out);
        assert_eq!(found.end()["live"].is_string(), live, "without {left_out}");
        let reads = if ["sys_ptrace", "dac_read_search"].contains(&left_out) { "this-user" } else { "everyone" };
        assert_eq!((&found.end()["reads"], found.code), (&reads.into(), 0), "without {left_out}");
    }
}

#[test]
fn tracefs_is_told_mounted_from_not_mounted() {
    let found = doctor(&mut elsewhere(WITH_TRACEFS, &program()));
    let says: &[&str] = if has_uprobe_multi() { &["not needed here"] } else { &[] };
    found.assert(None, "tracefs", "works", says, "");
    let hidden = "mount -t tmpfs tmpfs /sys/kernel/tracing; mount -t tmpfs tmpfs /sys/kernel/debug";
    let found = doctor(&mut elsewhere(hidden, &program()));
    found.assert(None, "tracefs", "missing", &["not mounted"], "mount -t tracefs tracefs /sys/kernel/tracing");
    assert_eq!((found.need(None, "tracefs")["optional"].as_bool(), found.code), (Some(true), 0));
}

#[test]
fn tracefs_that_this_user_may_not_write_says_which_capability_may() {
    let shared = Shared::new("doctor-tracefs");
    let limited = limited(&["bpf", "perfmon"]);
    let mut command = elsewhere(WITH_TRACEFS, Path::new(limited.get_program()));
    command.args(limited.get_args()).arg(shared.program());
    doctor(&mut command).assert(None, "tracefs", "missing", &["CAP_DAC_OVERRIDE"], "CAP_DAC_OVERRIDE");
}

#[test]
fn a_system_call_that_a_filter_refuses_is_laid_to_the_filter() {
    for (call, needs) in
        [(libc::SYS_bpf, &["bpf-maps"][..]), (libc::SYS_perf_event_open, &["rings", "follow-processes", "sampling"])]
    {
        let found = doctor(&mut refusing(call, None, EPERM, &program()));
        for need in needs {
            found.assert(None, need, "missing", &["a seccomp filter on this program"], "seccomp=unconfined");
            assert_eq!(found.need(None, need)["errno"], EPERM);
        }
        assert_eq!((found.end()["live"].is_null(), found.code), (true, 0));
    }
    // SELinux says EACCES, which exec says of a file that is no program.
    for errno in [EPERM, libc::EACCES] {
        let found = doctor(&mut refusing(libc::SYS_ptrace, None, errno, &program()));
        found.assert(None, "launch", "missing", &["not permitted to stop it"], "attach with --pid");
    }
    // Memory has a second way.
    let found = doctor(&mut refusing(libc::SYS_process_vm_readv, None, EPERM, &program()));
    found.assert(None, "others-memory", "works", &[], "");
}

#[test]
fn a_kernel_that_cannot_sample_says_so_and_what_does_without() {
    let found = doctor(&mut refusing(libc::SYS_perf_event_open, None, libc::EOPNOTSUPP, &program()));
    found.assert(None, "sampling", "missing", &["this kernel cannot sample who runs on every CPU"], "--tier polls");
    assert_eq!(found.need(None, "sampling")["errno"], libc::EOPNOTSUPP);
}

#[test]
fn a_kernel_that_has_no_links_is_told_from_a_user_who_may_not() {
    const BPF_LINK_CREATE: u32 = 28;
    let found = doctor(&mut refusing(libc::SYS_bpf, Some(BPF_LINK_CREATE), libc::EINVAL, &program()));
    found.assert(None, "bpf-programs", "works", &[], "");
    found.assert(None, "uprobe-multi", "missing", &["this kernel cannot attach uprobe_multi links"], "trace events");
    // What the other way needs besides perf is such a link, too, but it was tried.
    found.assert(
        None,
        "trace-events",
        "missing",
        &["this kernel cannot attach a program to a trace event"],
        "CONFIG_UPROBE_EVENTS",
    );
    found.assert(None, "seccomp-returns", "notTried", &["only where probes can be attached"], "");
    assert_eq!((found.end()["live"].is_null(), found.code), (true, 0));
}

#[test]
fn where_nothing_works_the_exit_code_says_whether_it_is_the_user_or_the_kernel() {
    for (errno, code) in [(EPERM, 4), (libc::ENOSYS, 6)] {
        let mut command = refusing(libc::SYS_pidfd_open, None, EPERM, &tests::fixture::path("bare", "refusing"));
        command.args([libc::SYS_bpf.to_string(), errno.to_string(), "any".to_owned()]).arg(program());
        let found = doctor(&mut command);
        assert_eq!((&found.end()["reads"], found.end()["live"].is_null()), (&"nobody".into(), true));
        assert_eq!(found.code, code, "{:#}", found.need(None, "bpf-maps"));
    }
}

#[test]
fn in_a_user_namespace_of_its_own_capabilities_are_said_not_to_count() {
    let mut command = Command::new("unshare");
    let found = doctor(command.args(["--user", "--map-root-user"]).arg(program()));
    assert_eq!(found.fact("userNamespace"), Some("another"));
    found.assert(None, "bpf-maps", "missing", &["CAP_BPF", "user namespace"], "outside of the container");
    assert!(found.end()["live"].is_null());
}

/// A user as whom no other test runs anything that locks memory.
const ALONE: u32 = 65532;

#[test]
fn rings_that_may_not_be_locked_are_made_smaller_and_the_ways_to_larger_ones_are_named() {
    let shared = Shared::new("doctor-locked");
    let mut command = Command::new("prlimit");
    command.arg("--memlock=0");
    let limited = limited_as(ALONE, &["bpf", "perfmon", "sys_ptrace"]);
    command.arg(limited.get_program()).args(limited.get_args()).arg(shared.program());
    let found = doctor(&mut command);
    found.assert(None, "rings", "works", &["pages a CPU instead of 1024", "CAP_IPC_LOCK", "ulimit -l"], "");
    assert_eq!((found.fact("lockedMemory"), found.end()["live"].is_string()), (Some("0 KiB"), has_uprobe_multi()));
}

/// Stands in for `/proc/sys/kernel` with the files that are read here, and Yama in this mode.
fn with_yama(scope: u32) -> String {
    format!(
        "cap=$(cat /proc/sys/kernel/cap_last_cap); mount -t tmpfs tmpfs /proc/sys/kernel
         mkdir /proc/sys/kernel/yama; echo {scope} > /proc/sys/kernel/yama/ptrace_scope
         echo $cap > /proc/sys/kernel/cap_last_cap; echo 3 > /proc/sys/kernel/perf_event_paranoid
         chmod -R a+rX /proc/sys/kernel"
    )
}

#[test]
fn yama_is_named_where_it_stands_in_the_way() {
    let shared = Shared::new("doctor-yama");
    let without = limited(&["bpf", "perfmon"]);
    let mut command = elsewhere(&with_yama(1), Path::new(without.get_program()));
    let found = doctor(command.args(without.get_args()).arg(shared.program()));
    assert_eq!((found.fact("ptraceScope"), found.fact("perfEventParanoid")), (Some("1"), Some("3")));
    found.assert(None, "own-memory", "risk", &["kernel.yama.ptrace_scope"], "CAP_SYS_PTRACE");
    found.assert(None, "others-memory", "missing", &["CAP_SYS_PTRACE"], "CAP_SYS_PTRACE");
    let mut command = elsewhere(&with_yama(3), Path::new(without.get_program()));
    let found = doctor(command.args(without.get_args()).arg(shared.program()));
    found.assert(None, "others-memory", "missing", &["ptrace_scope is 3"], "cannot be taken back");
}

#[test]
fn people_read_a_table_with_a_next_step_under_all_that_is_missing_and_the_sum_last() {
    let mut observer = Observer::run_as(refusing(libc::SYS_bpf, None, EPERM, &program()).arg("doctor"));
    let ended = observer.ended();
    let text = ended.stdout.join("\n");
    assert!(!text.contains('\u{1b}'), "no colour where it is no terminal");
    let missing: Vec<usize> = (0..ended.stdout.len()).filter(|at| ended.stdout[*at].starts_with("  MISSING")).collect();
    assert!(!missing.is_empty(), "{text}");
    for at in missing {
        assert!(ended.stdout[at + 1].trim_start().starts_with("why: "), "{text}");
        assert!(ended.stdout[at + 2].trim_start().starts_with("next step: "), "{text}");
    }
    let last: Vec<&str> = ended.stdout.iter().rev().take(2).map(String::as_str).collect();
    assert_eq!(last, ["ps and sweep: work", "live stream:  does not work: see MISSING above"], "{text}");
}
