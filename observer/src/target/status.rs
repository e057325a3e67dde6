//! `/proc/PID/status`: who a process is, what it may do, and what else has a hand on it.
//!
//! Does not know: where the text comes from, nor what follows from it.

use crate::model::{CapabilitySet, Pid};

/// What is used of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state's letter: `T` is stopped, `t` stopped by a tracer.
    pub state: char,
    /// Effective user id.
    pub user: u32,
    /// The process that traces it with ptrace (a debugger, strace).
    pub tracer: Option<Pid>,
    /// Threads.
    pub threads: u32,
    /// What it may do now.
    pub effective: CapabilitySet,
    /// Which of its system calls a filter judges; `None` in a kernel without seccomp.
    pub seccomp: Option<Seccomp>,
}

/// The `Seccomp:` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// All are let through.
    Off,
    /// Only read, write, exit and sigreturn are.
    Strict,
    /// A program judges each.
    Filter,
}

impl Status {
    /// From the file's text; `None` where it does not read as `proc_pid_status(5)` says.
    pub fn parse(text: &str) -> Option<Self> {
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
        let seccomp = match field("Seccomp") {
            None => None,
            Some("0") => Some(Seccomp::Off),
            Some("1") => Some(Seccomp::Strict),
            Some("2") => Some(Seccomp::Filter),
            Some(_) => return None,
        };
        Some(Self {
            state: field("State")?.chars().next()?,
            // Real, effective, saved, and the one for files.
            user: field("Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()?,
            tracer: Some(Pid(field("TracerPid")?.parse().ok()?)).filter(|pid| pid.0 != 0),
            threads: field("Threads")?.parse().ok()?,
            effective: CapabilitySet::parse(field("CapEff")?)?,
            seccomp,
        })
    }

    /// Neither it nor anybody else lets it run.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "Name:\tzoo\nUmask:\t0022\nState:\tT (stopped)\nTgid:\t7\nPid:\t7\nPPid:\t1\nTracerPid:\t99\n\
        Uid:\t1000\t65534\t1000\t1000\nGid:\t0\t0\t0\t0\nThreads:\t12\nCapInh:\t0000000000000000\n\
        CapEff:\t000000c000080004\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";

    #[test]
    fn the_effective_user_counts_and_the_number_of_filters_is_not_their_mode() {
        let status = Status::parse(TEXT).unwrap();
        assert_eq!((status.user, status.threads, status.tracer), (65534, 12, Some(Pid(99))));
        assert_eq!((status.seccomp, status.is_stopped()), (Some(Seccomp::Filter), true));
        assert_eq!(status.effective, CapabilitySet(0xc0_0008_0004));
    }

    #[test]
    fn a_process_that_nobody_traces_has_no_tracer() {
        let status = Status::parse(&TEXT.replace("TracerPid:\t99", "TracerPid:\t0")).unwrap();
        assert_eq!(status.tracer, None);
    }

    #[test]
    fn a_kernel_without_seccomp_is_no_fault_and_a_mode_that_is_unknown_is() {
        assert_eq!(Status::parse(&TEXT.replace("Seccomp:\t2\n", "")).unwrap().seccomp, None);
        assert_eq!(Status::parse(&TEXT.replace("Seccomp:\t2", "Seccomp:\t9")), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}", cut in 0..TEXT.len(), junk in "[\\PC\n]{0,20}") {
            let _ = Status::parse(&text);
            let _ = Status::parse(&format!("{}{junk}{}", &TEXT[..cut], &TEXT[cut..]));
        }
    }
}
