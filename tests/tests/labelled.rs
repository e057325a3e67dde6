//! A kernel with SELinux in force: whatever it refuses, `doctor` lays it to it, and what it does not refuse works.
//!
//! Only a kernel that was booted with it shows it: `cargo xtask vm --suite all` boots one for these tests.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use tests::diagnosis::Diagnosis;
use tests::fixture::{Fixture, Scratch};
use tests::observer::{Observer, program};
use tests::wait::until;

const NOT_PERMITTED: i32 = 4;
const SELINUX: &str = "/sys/fs/selinux";

/// What the policy knows; the kernel allows what it does not know.
const CLASSES: [(&str, &[&str]); 3] = [
    ("process", &["transition", "dyntransition", "ptrace"]),
    ("bpf", &["map_create", "map_read", "map_write", "prog_load", "prog_run"]),
    ("perf_event", &["open", "cpu", "kernel", "tracepoint", "read", "write"]),
];

/// What everyone is in who was not put elsewhere: it may do everything.
const FREE: &str = "free";
/// The others, each with the one thing that it may not do, and what doctor misses then.
const DOMAINS: [(&str, &str, &[&str]); 4] = [
    ("no_maps", "map_create", &["bpf-maps"]),
    ("no_programs", "prog_load", &["bpf-programs"]),
    ("no_events", "open", &["rings", "follow-processes", "sampling"]),
    (NO_TRACING, "ptrace", &["others-memory", "own-memory"]),
];
const NO_TRACING: &str = "no_tracing";

/// The least that the kernel takes for a policy, in the Common Intermediate Language.
fn policy() -> String {
    let mut text = "(handleunknown allow)(mls false)(sensitivity s0)(sensitivityorder (s0))
        (sid kernel)(sid security)(sid unlabeled)(sidorder (kernel security unlabeled))
        (user u)(userlevel u (s0))(userrange u ((s0)(s0)))(role r)(userrole u r)(typeattribute any)\n"
        .to_owned();
    for (class, permissions) in CLASSES {
        text += &format!("(class {class} ({}))\n", permissions.join(" "));
    }
    text += &format!("(classorder ({}))\n", CLASSES.map(|(class, _)| class).join(" "));
    for (domain, refused, _) in [(FREE, "", &[][..])].iter().chain(&DOMAINS) {
        text += &format!("(type {domain})(roletype r {domain})(typeattributeset any ({domain}))\n");
        for (class, permissions) in CLASSES {
            let allowed: Vec<&str> = permissions.iter().copied().filter(|permission| permission != refused).collect();
            text += &format!("(allow {domain} any ({class} ({})))\n", allowed.join(" "));
        }
    }
    for first in ["kernel", "security", "unlabeled"] {
        text += &format!("(sidcontext {first} (u r {FREE} ((s0)(s0))))\n");
    }
    text
}

/// Puts the policy in force, for as long as the kernel runs.
fn enforce() {
    let folder = Scratch::new("labelled");
    let (source, compiled) = (folder.path().join("policy.cil"), folder.path().join("policy"));
    std::fs::write(&source, policy()).expect("the folder can be written");
    let mut compiler = Command::new("/usr/bin/secilc");
    compiler.arg("-o").arg(&compiled).args(["-f", "/dev/null"]).arg(&source);
    let mut mount = Command::new("mount");
    mount.args(["-t", "selinuxfs", "selinuxfs", SELINUX]);
    for command in [&mut compiler, &mut mount] {
        let done = command.output().expect("it starts");
        assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    // The kernel takes it in one write only.
    let policy = std::fs::read(compiled).expect("it was compiled");
    for (file, content) in [("load", &policy[..]), ("enforce", b"1")] {
        std::fs::write(Path::new(SELINUX).join(file), content).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

/// Runs the program in a domain.
fn within(domain: &str, arguments: &[&str]) -> Observer {
    let mut command = Command::new(program());
    command.args(arguments);
    let label = format!("u:r:{domain}");
    // SAFETY: between fork and exec only a file is written, from memory that was there before.
    unsafe { command.pre_exec(move || std::fs::write("/proc/self/attr/exec", &label)) };
    Observer::run_as(&mut command)
}

/// What the kernel's log says that was refused in a domain: where doctor's next step sends its reader.
fn denied(domain: &str, permission: &str) {
    const READ_ALL: libc::c_int = 3;
    until("the kernel's log has the denial", || {
        let mut text = vec![0_u8; 1 << 20];
        // SAFETY: the kernel fills at most these bytes.
        let read = unsafe { libc::klogctl(READ_ALL, text.as_mut_ptr().cast(), 1 << 20) };
        text.truncate(usize::try_from(read).expect("root reads the kernel's log"));
        let text = String::from_utf8_lossy(&text);
        let is_it = |line: &str| {
            let words = ["avc:", "denied", &format!("{{ {permission} }}"), &format!("scontext=u:r:{domain} ")];
            words.iter().all(|word| line.contains(word))
        };
        text.lines().any(is_it).then_some(())
    });
}

#[test]
#[ignore = "needs a kernel with SELinux: cargo xtask vm --suite all"]
fn what_selinux_refuses_is_laid_to_it_with_where_to_find_what_to_allow() {
    enforce();
    let fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let pid = fixture.pid().to_string();
    let doctor = |domain: &str| Diagnosis::of(&within(domain, &["doctor", "--json"]).ended());
    let stream = |domain: &str| within(domain, &["--json", "-d", "100ms", "--pid", &pid]).ended();
    // Without a domain of its own the same program works, so what is refused is refused by the policy.
    let free = Diagnosis::of(&Observer::run(["doctor", "--json"]).ended());
    assert!(free.end()["live"].is_string(), "{:#?}", free.lines);
    assert!(free.fact("securityModules").is_some_and(|modules| modules.contains("selinux")), "{:#?}", free.lines[0]);

    for (domain, permission, needs) in DOMAINS {
        let found = doctor(domain);
        for need in needs {
            let says = ["the capabilities are there", "a security module refuses", "selinux"];
            found.assert(None, need, "missing", &says, "journalctl -k | grep -i denied");
            println!("{domain}: {need}: {}", found.need(None, need));
        }
        denied(domain, permission);
        let reads = domain != NO_TRACING;
        assert_eq!(found.end()["live"].is_null(), reads, "{domain}: {:#?}", found.lines);
        if reads {
            // Not 4: `ps` and `sweep` work.
            assert_eq!(found.code, 0, "{domain}");
            assert!(within(domain, &["ps", "--json", "--pid", &pid]).look().live(fixture.pid()) > 0, "{domain}");
        }
        let tried = stream(domain);
        assert_eq!(tried.code, Some(NOT_PERMITTED), "{domain}: {:?}", tried.stderr);
        assert!(tried.stderr.last().is_some_and(|step| step.contains("doctor")), "{domain}: {:?}", tried.stderr);
    }

    // What may be run and not traced is not said to be no program.
    doctor(NO_TRACING).assert(None, "launch", "missing", &["not permitted to stop it"], "attach with --pid");
    let launched = within(NO_TRACING, &["--json", "--", "/usr/bin/true"]).ended();
    assert_eq!(launched.code, Some(NOT_PERMITTED), "{:?}", launched.stderr);
}
