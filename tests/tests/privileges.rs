//! Rights: what is enough, what is said when one is lacking, and what is given up once it is not needed any more.

use std::ffi::OsStr;
use std::process::Command;

use serde_json::Value;
use tests::fixture::{Fixture, Scratch, path};
use tests::host::observed::Observed;
use tests::kernel::has_uprobe_multi;
use tests::life::Lives;
use tests::observer::{Ended, Observer};
use tests::rights::{NOBODY, Shared, as_user, capabilities, child_of};
use tests::truth::differences;

/// What is enough: where the kernel has no links of many probes, trace events take root's own rights in place of two.
fn enough() -> [&'static str; 4] {
    if has_uprobe_multi() {
        ["bpf", "perfmon", "sys_ptrace", "dac_read_search"]
    } else {
        ["sys_admin", "dac_override", "sys_ptrace", "dac_read_search"]
    }
}

const NOT_PERMITTED: i32 = 4;

const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;
const CHECKPOINT_RESTORE: u64 = 1 << 40;
const SYS_MODULE: u64 = 1 << 16;
const READING: u64 = DAC_READ_SEARCH | SYS_PTRACE | CHECKPOINT_RESTORE;

/// A fixture of this user.
fn of_user(user: u32, program: &str, arguments: &[&str]) -> Fixture {
    let fixture = Fixture::spawn(program, as_user(user, &path("newest-release", program)).args(arguments));
    fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    fixture
}

fn run(shared: &Shared, rights: &[&str], arguments: &[impl AsRef<OsStr>]) -> Ended {
    Observer::run_as(&mut shared.with(rights, arguments)).ended()
}

#[test]
fn four_capabilities_are_enough_for_the_live_stream() {
    let shared = Shared::new("enough-trace");
    for user in [0, 1000, NOBODY] {
        let mut fixture = of_user(user, "matrix-glibc", &[]);
        let pid = fixture.pid().to_string();
        let observer = Observer::run_as(&mut shared.with(&enough(), &["--json", "--pid", &pid])).wait_until_attached();
        fixture.release();
        let truth = fixture.truth();
        let stream = observer.stream();
        let lives = Lives::of(&stream);
        lives.assert_sane(&format!("a process of user {user}"));
        assert_eq!(differences(&stream, &lives, &truth), Vec::<String>::new(), "a process of user {user}");
    }
}

#[test]
fn four_are_enough_for_all_processes_as_they_come() {
    let shared = Shared::new("enough-all");
    let told =
        |line: &str, pid: u32| line.contains("\"event\":\"target\"") && line.contains(&format!("\"pid\":{pid},"));
    // A user's file cannot be leased by these rights: each process is probed by itself, and that must be enough.
    let mut there = of_user(1000, "matrix-glibc", &[]);
    let observer = Observer::run_as(&mut shared.with(&enough(), &["trace", "--all", "--json"])).wait_until_attached();
    let mut later = of_user(1000, "matrix-glibc", &[]);
    let (first_pid, second_pid) = (there.pid(), later.pid());
    for pid in [first_pid, second_pid] {
        assert!(observer.wait_for("it is a target", |line| told(line, pid)).is_some(), "the observer ended");
    }
    for fixture in [&mut there, &mut later] {
        fixture.release();
    }
    let (first, second) = (there.truth(), later.truth());
    let stream = observer.stop();
    let observed = Observed::of(&stream.lines);
    assert_eq!(stream.total("lost"), 0);
    for (pid, truth) in [(first_pid, &first), (second_pid, &second)] {
        let [seen] = &observed.by_pid[&pid][..] else { panic!("one life of {pid}: {:?}", observed.by_pid.get(&pid)) };
        let told = |path: &str| truth.pointer(path).and_then(Value::as_u64).expect("the program's book has it");
        let born = |kind| seen.born(kind).values().sum::<u64>();
        assert_eq!(born("TOKIO_TASK"), told("/task/spawned"), "tasks of {pid}");
        assert_eq!(seen.died("TOKIO_TASK"), told("/task/freed"), "tasks of {pid}");
        assert_eq!(born("TOKIO_BLOCKING"), told("/blocking/spawned") + told("/workers"), "closures of {pid}");
        assert_eq!(seen.existing(), 0, "nothing of {pid} was there before it was looked at");
    }
}

#[test]
fn two_of_them_are_enough_for_ps_and_sweep() {
    let shared = Shared::new("enough-look");
    for user in [0, 1000] {
        let mut fixture = of_user(user, "leaks", &["still"]);
        let (pid, places) = (fixture.pid(), fixture.ask());
        let live: u64 = places.iter().map(|place| place.live).sum();
        let rights = &["sys_ptrace", "dac_read_search"];
        for arguments in [&["ps"][..], &["sweep", "--for", "200ms", "--samples", "2"]] {
            let ended = run(&shared, rights, &[arguments, &["--json", "--pid", &pid.to_string()]].concat());
            assert_eq!(ended.code, Some(0), "{arguments:?}: {:?}", ended.stderr);
            assert!(ended.look().live(pid) >= live, "{arguments:?} of user {user}");
        }
    }
}

#[test]
fn four_are_enough_for_a_sweep_that_watches_spawns() {
    let shared = Shared::new("enough-spawns");
    let fixture = of_user(1000, "leaks", &[]);
    let arguments =
        ["sweep", "--json", "--for", "1s", "--samples", "3", "--trace-spawns", "--pid", &fixture.pid().to_string()];
    let ended = run(&shared, &enough(), &arguments);
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    let look = ended.look();
    assert!(look.end()["spawns"]["seen"].as_u64().is_some_and(|seen| seen > 0), "{}", look.end());
}

/// Holds a refusal to its form: the code, and the capability's name in the next step.
fn assert_names(ended: &Ended, capability: &str) {
    assert_eq!(ended.code, Some(NOT_PERMITTED), "{:?}", ended.stderr);
    let step = ended.stderr.last().and_then(|line| line.strip_prefix("next step: run as root, or with "));
    let step = step.unwrap_or_else(|| panic!("no next step: {:?}", ended.stderr));
    let named = step.split(" (").next().unwrap_or_default();
    assert_eq!(named, capability, "exactly what is lacking is named: {:?}", ended.stderr);
}

#[test]
fn without_bpf_it_is_named_and_ps_works() {
    let (shared, fixture) = (Shared::new("no-bpf"), of_user(0, "leaks", &["still"]));
    let pid = fixture.pid().to_string();
    let rights = ["perfmon", "sys_ptrace", "dac_read_search"];
    for arguments in [&["--json", "--pid", &pid][..], &["sweep", "--trace-spawns", "--pid", &pid]] {
        assert_names(&run(&shared, &rights, arguments), "CAP_BPF");
    }
    assert_eq!(run(&shared, &rights, &["ps", "--pid", &pid]).code, Some(0));
}

#[test]
fn without_perfmon_it_is_named_and_ps_works() {
    let (shared, fixture) = (Shared::new("no-perfmon"), of_user(0, "leaks", &["still"]));
    let pid = fixture.pid().to_string();
    let rights = ["bpf", "sys_ptrace", "dac_read_search"];
    assert_names(&run(&shared, &rights, &["--json", "--pid", &pid]), "CAP_PERFMON");
    assert_eq!(run(&shared, &rights, &["ps", "--pid", &pid]).code, Some(0));
}

#[test]
fn without_sys_ptrace_it_is_named_for_processes_of_others_only() {
    let shared = Shared::new("no-ptrace");
    let rights = ["bpf", "perfmon", "dac_read_search"];
    let other = of_user(1000, "leaks", &["still"]);
    for command in ["trace", "ps", "sweep"] {
        assert_names(&run(&shared, &rights, &[command, "--pid", &other.pid().to_string()]), "CAP_SYS_PTRACE");
    }
}

#[test]
fn without_dac_read_search_it_is_named_where_the_image_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let (shared, place) = (Shared::new("no-dac"), Scratch::new("no-dac-target"));
    let secret = place.copy(&path("newest-release", "leaks"));
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o700)).expect("the copy is ours");
    let fixture = Fixture::spawn("a secret program", Command::new(&secret).arg("still"));
    fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    let pid = fixture.pid().to_string();
    for arguments in [&["--json", "-d", "100ms", "--pid", &pid][..], &["ps", "--pid", &pid]] {
        assert_names(&run(&shared, &["bpf", "perfmon", "sys_ptrace"], arguments), "CAP_DAC_READ_SEARCH");
        assert_eq!(run(&shared, &enough(), arguments).code, Some(0), "with it, it works");
    }
    // So it is where a process's own files in `/proc` are its user's alone.
    let other = of_user(0, "leaks", &["still"]);
    let pid = other.pid().to_string();
    assert_names(&run(&shared, &["bpf", "perfmon", "sys_ptrace"], &["ps", "--pid", &pid]), "CAP_DAC_READ_SEARCH");
    // Processes of the same user need no more than the three.
    if !has_uprobe_multi() {
        return;
    }
    let open = of_user(NOBODY, "leaks", &["still"]);
    let ended =
        run(&shared, &["bpf", "perfmon", "sys_ptrace"], &["--json", "-d", "100ms", "--pid", &open.pid().to_string()]);
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
}

#[test]
fn an_observer_whose_own_file_may_be_run_and_not_read_works_all_the_same() {
    use std::os::unix::fs::PermissionsExt;
    let (shared, fixture) = (Shared::new("unreadable-observer"), of_user(NOBODY, "leaks", &["still"]));
    std::fs::set_permissions(shared.program(), PermissionsExt::from_mode(0o711)).expect("the copy is ours");
    let three: &[&str] = if has_uprobe_multi() { &["bpf", "perfmon", "sys_ptrace"] } else { &enough()[..3] };
    for rights in [&enough()[..], three] {
        let ended = run(&shared, rights, &["--json", "-d", "100ms", "--pid", &fixture.pid().to_string()]);
        assert_eq!(ended.code, Some(0), "{rights:?}: {:?}", ended.stderr);
    }
}

#[test]
fn once_attached_only_what_is_still_needed_is_kept_by_every_thread() {
    let fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let pid = fixture.pid().to_string();
    let kept = |observer: &Observer, wanted: u64| {
        let here = capabilities(std::process::id())[0];
        let wanted = wanted & here;
        assert_ne!(here & SYS_MODULE, 0, "this test has more than it gives");
        let now = capabilities(observer.pid());
        assert!(!now.is_empty() && now.iter().all(|effective| *effective == wanted), "{now:x?}, not {wanted:x}");
    };
    // Trace events are made and removed by the same right.
    let attaching = BPF | PERFMON | if has_uprobe_multi() { 0 } else { SYS_ADMIN };
    let trace = Observer::attach(fixture.pid(), &[]);
    kept(&trace, READING | attaching);
    trace.stop();
    for (more, wanted) in [(&[][..], READING), (&["--trace-spawns"], READING | attaching)] {
        let arguments = ["sweep", "--json", "--every", "100ms", "--pid", &pid];
        let sweep = Observer::run(arguments.iter().chain(more));
        let read = sweep.wait_for("a reading", |line| line.contains("\"event\":\"census\""));
        assert!(read.is_some(), "{more:?}");
        kept(&sweep, wanted);
        sweep.signal(libc::SIGTERM);
        sweep.look();
    }
}

#[test]
fn a_program_that_is_launched_keeps_its_own_rights() {
    let own = capabilities(std::process::id())[0];
    let program = path("newest-release", "matrix-glibc");
    let place = Scratch::new("launched-rights");
    let events = place.path().join("events.jsonl");
    let mut command = Command::new(tests::observer::program());
    command.args(["--json", "--output"]).arg(&events).arg("--").arg(program);
    let observer = Fixture::spawn("an observer that launches", &mut command);
    observer.wait_for("the program is up", |line| line.contains("\"ready\":true"));
    let child = child_of(observer.pid()).expect("the observer has a child");
    assert!(capabilities(child).iter().all(|effective| *effective == own), "the program has what it would have had");
    let reduced = capabilities(observer.pid());
    assert!(reduced.iter().all(|effective| effective & SYS_MODULE == 0), "{reduced:x?}");
    // SAFETY: the child of our own child, which has not reaped it.
    unsafe { libc::kill(child.cast_signed(), libc::SIGKILL) };
}

#[test]
fn with_less_lockable_memory_rings_are_smaller_and_events_come_all_the_same() {
    let shared = Shared::new("locked");
    let fixture = of_user(1000, "leaks", &["still"]);
    let limited = shared.with_as(65533, &enough(), &["--json", "--pid", &fixture.pid().to_string()]);
    let mut command = Command::new("prlimit");
    command.arg("--memlock=0").arg(limited.get_program()).args(limited.get_args());
    let observer = Observer::run_as(&mut command);
    let came = observer.wait_for("the census comes", |line| line.contains("\"existing\":true"));
    let ended = observer.ended_well();
    assert!(came.is_some(), "{:?}", ended.stderr);
    assert!(ended.stderr.iter().any(|line| line.contains("instead of 1024")), "{:?}", ended.stderr);
}
