//! What a doctor's findings are called, why something is missing and what to do about it: words for the session's types.
//!
//! Does not know how they are laid out, nor how anything was tried.

use crate::model::{Capability, Role};
use crate::session::{Cause, Detail, Need, NotTried, Outcome, Risk, Row};
use crate::sink::{DoctorResult, DoctorRow};

use super::failure;

/// A row in words.
pub(super) fn row(row: &Row) -> DoctorRow {
    let (need, purpose) = need(row.need);
    DoctorRow { need, purpose, optional: row.optional, result: result(row) }
}

/// The need's word, which scripts use, and what it is for.
fn need(need: Need) -> (&'static str, &'static str) {
    match need {
        Need::Maps => ("bpf-maps", "live stream: memory shared with the kernel's programs"),
        Need::Programs => ("bpf-programs", "live stream: the programs that run at a probe"),
        Need::Rings => ("rings", "live stream: the way of its records, 4 MiB a CPU"),
        Need::UprobeMulti => ("uprobe-multi", "live stream: all probes of an image in one link"),
        Need::TraceEvents => ("trace-events", "live stream where uprobe-multi is missing: trace events of many sites"),
        Need::Tracefs => ("tracefs", "trace events; where it is not mounted, it is mounted for this program alone"),
        Need::ReturnsUnderFilter => ("seccomp-returns", "return probes in programs with a seccomp filter"),
        Need::Following => ("follow-processes", "seeing processes come and go, in the whole system"),
        Need::Sampling => ("sampling", "`--tier sampled`: who runs, with registers and stack, on every CPU"),
        Need::OtherUsers => ("others-memory", "ps, sweep, live stream: processes of other users"),
        Need::SameUser => ("own-memory", "ps, sweep, live stream: processes of this user"),
        Need::MapFiles => ("map-files", "images whose file was deleted or replaced since the start"),
        Need::AnyFile => ("any-file", "images whose file this user may not read"),
        Need::Launching => ("launch", "`-- CMD`: a program observed from its first instruction"),
        Need::Process => ("process", "it is there and may be looked at"),
        Need::Memory => ("memory", "its memory can be read"),
        Need::Running => ("running", "it is not stopped"),
        Need::Untraced => ("untraced", "no debugger has a hand on it"),
        Need::Filter => ("seccomp", "its system calls and return probes agree"),
        Need::Runtime => ("runtime", "there is something to observe in it"),
    }
}

fn result(row: &Row) -> DoctorResult {
    match &row.outcome {
        Outcome::Works(of) => DoctorResult::Works { detail: of.as_ref().map(detail) },
        Outcome::Risk(of) => {
            let (why, step) = risk(of);
            DoctorResult::Risk { why, step }
        }
        Outcome::Missing(missing) => {
            let (why, step) = cause(&missing.cause, row.need);
            DoctorResult::Missing { why, errno: missing.errno, step }
        }
        Outcome::NotTried(why) => DoctorResult::NotTried { why: not_tried(*why).to_owned() },
    }
}

fn detail(detail: &Detail) -> String {
    match detail {
        Detail::SmallerRings { wanted, pages } => format!(
            "only {pages} pages a CPU instead of {wanted} may be locked: bursts lose records sooner; CAP_IPC_LOCK, `ulimit -l` \
             or kernel.perf_event_mlock_kb allow more"
        ),
        Detail::NotNeeded => "not needed here: uprobe-multi works".to_owned(),
        Detail::Process { exe, user, own_user, threads, other_namespaces } => {
            let user = if user == own_user { "of this user".to_owned() } else { format!("of user {user}") };
            let threads = if *threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
            let elsewhere = match &other_namespaces[..] {
                [] => String::new(),
                kinds => format!(", in a container or another namespace ({})", kinds.join(", ")),
            };
            format!("{exe}, {threads}, {user}{elsewhere}")
        }
        Detail::NoFilter => "it has no seccomp filter".to_owned(),
        Detail::FilterLetsThrough => "it has a seccomp filter; this kernel lets its return probes through".to_owned(),
    }
}

fn risk(risk: &Risk) -> (String, String) {
    let (why, step) = match risk {
        Risk::Stopped => (
            "it is stopped: its tasks can be listed, but nothing will happen in it".to_owned(),
            "let it go on with `kill -CONT`, if that is wanted",
        ),
        Risk::Frozen => (
            "its control group is frozen: its tasks can be listed, but nothing will happen in it".to_owned(),
            "let the group go on (`docker unpause`, `systemctl thaw`, cgroup.freeze), if that is wanted",
        ),
        Risk::Traced { by, name } => {
            let name = name.as_deref().map_or(String::new(), |name| format!(" ({name})"));
            (
                format!("process {by}{name} traces it: while that holds it nothing happens in it, and where it has set breakpoints no probe is planted"),
                "end the debugger first, or read its output with that in mind",
            )
        }
        Risk::FilterKills => (
            "this kernel lets seccomp filters judge the system call of its own return probes (Linux 6.11 to 6.13): a filter that \
             does not know the call kills the process at the first return"
                .to_owned(),
            "ps and sweep attach nothing and are safe; for the live stream boot a kernel with the repair (6.14, or a stable one)",
        ),
        Risk::FilterUntried => (
            "it has a seccomp filter, and whether this kernel lets return probes through could not be tried".to_owned(),
            "run doctor with the capabilities that the live stream needs; ps and sweep are safe in any case",
        ),
        Risk::OwnChildrenOnly => (
            "kernel.yama.ptrace_scope lets this user read only processes that were started from here".to_owned(),
            "run as root or with CAP_SYS_PTRACE, or start the program with `-- CMD`",
        ),
    };
    (why, step.to_owned())
}

fn cause(cause: &Cause, need: Need) -> (String, String) {
    match cause {
        Cause::Lacks(lacking) => {
            let names = Capability::sentence(lacking);
            (format!("this user lacks {names}"), format!("run as root, or with {names} (setpriv, setcap, AmbientCapabilities=, --cap-add)"))
        }
        Cause::UserNamespace(needs) => (
            format!("{} count only outside of this user namespace", Capability::sentence(needs)),
            "run outside of the container, or in one that shares the host's user namespace".to_owned(),
        ),
        Cause::OwnFilter => (
            "a seccomp filter on this program refuses the system call, as container runtimes set it".to_owned(),
            "run outside of the container, or start it with `--security-opt seccomp=unconfined` or a profile that allows bpf, \
             perf_event_open, ptrace and process_vm_readv"
                .to_owned(),
        ),
        Cause::Lockdown(mode) => (
            format!("the kernel is locked down ({mode})"),
            "boot without `lockdown=`, or with Secure Boot's lockdown lifted; ps and sweep work all the same".to_owned(),
        ),
        Cause::PerfParanoid(level) => (
            format!("kernel.perf_event_paranoid is {level}: this kernel then lets only CAP_SYS_ADMIN open perf's events"),
            "run as root or with CAP_SYS_ADMIN, or set `sysctl kernel.perf_event_paranoid=2`".to_owned(),
        ),
        Cause::SecurityModule(modules) => (
            format!("the capabilities are there: a security module refuses ({})", modules.join(", ")),
            "look for its denial (`ausearch -m avc`, `journalctl -k | grep -i denied`) and allow this program what it names".to_owned(),
        ),
        Cause::Yama => (
            "kernel.yama.ptrace_scope is 3: nobody may read another process".to_owned(),
            "boot with another setting of kernel.yama.ptrace_scope: 3 cannot be taken back".to_owned(),
        ),
        Cause::Unexplained => (
            "the kernel refuses, and none of the known reasons applies".to_owned(),
            "report it with this output and the kernel's log".to_owned(),
        ),
        Cause::NotMounted => (
            "the tracing file system is not mounted; trace events mount it for themselves".to_owned(),
            "if trace events are missing above: mount -t tracefs tracefs /sys/kernel/tracing".to_owned(),
        ),
        Cause::Session(error) => {
            let step = match need {
                Need::UprobeMulti => "nothing: trace events take its place (Linux 6.6 and later have it)".to_owned(),
                Need::Sampling => "use `trace --tier polls`, which probes polls instead".to_owned(),
                _ => failure::session_step(error),
            };
            (error.in_full(), step)
        }
    }
}

fn not_tried(why: NotTried) -> &'static str {
    match why {
        NotTried::Blocked => "what it needs is missing, see above",
        NotTried::NotNeeded => "not needed: uprobe-multi works",
        NotTried::NoProcess => "the process cannot be looked at",
        NotTried::OnlyWithProbes => "it is tried only where probes can be attached",
    }
}

/// A role's word, and where its points stand.
pub(super) fn role(role: Role) -> (&'static str, &'static str) {
    match role {
        Role::Mint => ("mint", "where tokio takes a task's id"),
        Role::Birth => ("birth", "where a task is spawned"),
        Role::Spawn => ("spawn", "where a task is spawned, with its spawner"),
        Role::Poll => ("poll", "where a task is polled"),
        Role::Shutdown => ("shutdown", "where a task is cancelled"),
        Role::DropJoinHandle => ("dropJoinHandle", "where a join handle is dropped"),
        Role::DropAbortHandle => ("dropAbortHandle", "where an abort handle is dropped"),
        Role::Dealloc => ("dealloc", "where a task's memory is freed"),
        Role::Raise => ("raise", "where a panic begins"),
        Role::Hook => ("hook", "where a panic is told to the program's hook"),
    }
}

/// What the points of a process cost, in a sentence. With the factor, whether it was measured here.
pub(super) fn cost(points: usize, single_stepped: usize, (factor, measured): (u32, bool)) -> String {
    let others =
        if measured { "one of the others here" } else { "one of the others in a virtual machine, less on bare metal" };
    match single_stepped {
        0 if points == 0 => "no point would be probed".to_owned(),
        0 => format!(
            "each of the {points} points is on an instruction that the kernel emulates: the least a hit can cost"
        ),
        some => format!(
            "{some} of {points} points are on instructions that the kernel must single-step: a hit there costs about {factor} times \
             {others}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionError;

    #[test]
    fn what_is_lacking_is_named_in_the_reason_and_in_the_next_step() {
        let (why, step) = cause(&Cause::Lacks(vec![Capability::Bpf, Capability::Perfmon]), Need::Maps);
        assert_eq!(why, "this user lacks CAP_BPF and CAP_PERFMON");
        assert!(step.contains("CAP_BPF and CAP_PERFMON"), "{step}");
    }

    #[test]
    fn every_cause_has_a_reason_and_a_next_step() {
        let causes = [
            Cause::UserNamespace(vec![Capability::Bpf]),
            Cause::OwnFilter,
            Cause::Lockdown("integrity".to_owned()),
            Cause::PerfParanoid(3),
            Cause::SecurityModule(vec!["selinux".to_owned()]),
            Cause::Yama,
            Cause::Unexplained,
            Cause::NotMounted,
            Cause::Session(Box::new(SessionError::NoSuchName("x".to_owned()))),
        ];
        for one in &causes {
            let (why, step) = cause(one, Need::Maps);
            assert!(why.len() > 10 && step.len() > 10, "{one:?}: {why}; {step}");
        }
        assert!(cause(&causes[2], Need::Maps).0.contains("integrity"));
        assert!(cause(&causes[4], Need::Maps).0.contains("selinux"));
    }

    #[test]
    fn a_process_elsewhere_is_told_from_one_that_shares_our_namespaces() {
        let of = |other_namespaces: Vec<&'static str>| {
            detail(&Detail::Process { exe: "/srv/app".to_owned(), user: 7, own_user: 0, threads: 1, other_namespaces })
        };
        assert_eq!(of(vec![]), "/srv/app, 1 thread, of user 7");
        assert_eq!(
            of(vec!["pid", "mnt"]),
            "/srv/app, 1 thread, of user 7, in a container or another namespace (pid, mnt)"
        );
    }
}
