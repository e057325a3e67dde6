//! What is said when it did not work: what, why and the next step; and the exit code for it. The only place for both.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::model::Capability;
use crate::session::{
    AttachError, Cause, LEAST_RING_PAGES, LaunchError, Missing, Outcome, PerfError, SessionError, TargetError,
    Unsupported, lacking, own_capabilities,
};

/// Why the program ends without having done what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Neither a process nor a program was named.
    #[error("nothing to observe was named")]
    NothingSelected,
    /// Readings of memory are commands of their own.
    #[error("the census is no tier of the live stream")]
    TierIsCensus,
    /// An option of samples without samples.
    #[error("{0} is of no use in this tier")]
    OnlySampled(&'static str),
    /// A bound to what samples cost.
    #[error("--tier sampled has no --max-overhead")]
    SamplesAreNotGoverned,
    /// Stacks of spawns, where no births are said.
    #[error("--stacks says what a birth was spawned through, and births are not among the events")]
    StacksNeedBirths,
    /// How to attach, where nothing is.
    #[error("--tier sampled attaches nothing")]
    NothingAttached,
    /// A bound to memory that is not kept.
    #[error("--tier sampled has no --max-memory: it keeps counts by type or task, and the images of the processes")]
    SamplesAreNotBounded,
    /// Rings too small for what a sample brings.
    #[error("rings of so few pages (--ring-pages) have no room for samples: one takes up to eight, with its stack")]
    RingHoldsNoSample,
    /// The output file cannot be made.
    #[error("cannot write {}", path.display())]
    OutputFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The session failed.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Exit codes, as the contract has them.
mod code {
    pub(super) const RUN_TIME: u8 = 1;
    pub(super) const USAGE: u8 = 2;
    pub(super) const NO_PROCESS: u8 = 3;
    pub(super) const NOT_PERMITTED: u8 = 4;
    pub(super) const NOTHING: u8 = 5;
    pub(super) const KERNEL: u8 = 6;
    pub(super) const FOUND: u8 = 10;
}

impl Failure {
    /// The exit of a command line that cannot be understood.
    pub(super) fn usage() -> ExitCode {
        ExitCode::from(code::USAGE)
    }

    /// The exit of a run that found what `--fail-on` names. No failure of the program.
    pub(super) fn found() -> ExitCode {
        ExitCode::from(code::FOUND)
    }

    pub(super) fn output(path: &Path, source: io::Error) -> Self {
        Self::OutputFile { path: path.to_owned(), source }
    }

    /// Says it on standard error, and gives the exit code.
    pub(super) fn report(&self) -> ExitCode {
        let said = match self {
            Self::Session(error) => error.in_full(),
            Self::OutputFile { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        };
        eprintln!("async-observer: {said}");
        eprintln!("next step: {}", self.next_step());
        ExitCode::from(self.code())
    }

    /// The exit code of observing what a doctor finds missing.
    pub(super) fn code_of(outcome: &Outcome) -> u8 {
        match outcome {
            Outcome::Missing(Missing { cause: Cause::Session(error), .. }) => session_code(error),
            Outcome::Missing(_) => code::NOT_PERMITTED,
            Outcome::Works(_) | Outcome::Risk(_) | Outcome::NotTried(_) => 0,
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::NothingSelected
            | Self::TierIsCensus
            | Self::OnlySampled(_)
            | Self::SamplesAreNotGoverned
            | Self::StacksNeedBirths
            | Self::NothingAttached
            | Self::SamplesAreNotBounded
            | Self::RingHoldsNoSample => code::USAGE,
            Self::OutputFile { .. } => code::RUN_TIME,
            Self::Session(error) => session_code(error),
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NothingSelected => {
                "name a process with --pid or --name, or a program behind --; see --help".to_owned()
            }
            Self::TierIsCensus => {
                "use `async-observer ps` (what lives now) or `async-observer sweep` (what is stuck or leaking)"
                    .to_owned()
            }
            Self::OnlySampled(option) => {
                format!("add --tier sampled (for --interval, --tier polls will do), or leave {option} out")
            }
            Self::SamplesAreNotGoverned => {
                "leave --max-overhead out (samples add nothing to speak of; --hz bounds them), or choose another --tier"
                    .to_owned()
            }
            Self::StacksNeedBirths => {
                "add init to --events (or leave --events and --tier sampled out), or leave --stacks out".to_owned()
            }
            Self::SamplesAreNotBounded => {
                "leave --max-memory out: with --pid instead of --all, and without --by task, memory stays small; `overhead` \
                 lines say how much is used"
                    .to_owned()
            }
            Self::RingHoldsNoSample => {
                format!("give --ring-pages {LEAST_RING_PAGES} or more, or leave it out (1024)")
            }
            Self::NothingAttached => "leave --attach-with, --allow-slow and --empty-probes out".to_owned(),
            Self::OutputFile { .. } => "choose a file that this user may create, or - for standard output".to_owned(),
            Self::Session(error) => session_step(error),
        }
    }
}

fn session_code(error: &SessionError) -> u8 {
    match error {
        SessionError::Target(error) => match error {
            TargetError::NoSuchProcess { .. } | TargetError::Vanished { .. } | TargetError::Zombie { .. } => {
                code::NO_PROCESS
            }
            TargetError::IsThread { .. } => code::USAGE,
            TargetError::KernelThread { .. } => code::NOTHING,
            TargetError::NotPermitted { .. } | TargetError::ModuleGone { .. } => code::NOT_PERMITTED,
            TargetError::ModuleTooLarge { .. } | TargetError::Malformed { .. } | TargetError::Io { .. } => {
                code::RUN_TIME
            }
        },
        SessionError::NoSuchName(_) | SessionError::Replaced(_) => code::NO_PROCESS,
        SessionError::Differs { .. } | SessionError::Unreached { .. } => code::RUN_TIME,
        SessionError::Itself(_) | SessionError::InnerNamespace => code::USAGE,
        SessionError::CostUnknown => code::KERNEL,
        SessionError::Launch(LaunchError::NotPermitted { .. }) => code::NOT_PERMITTED,
        SessionError::Launch(_) => code::RUN_TIME,
        SessionError::Nothing { .. } => code::NOTHING,
        SessionError::Attach(error) => match error {
            AttachError::NotPermitted { .. } | AttachError::LockedMemory { .. } => code::NOT_PERMITTED,
            AttachError::KernelCannot { .. } | AttachError::NoUprobeEvents { .. } | AttachError::Verifier { .. } => {
                code::KERNEL
            }
            AttachError::TargetGone { .. } => code::NO_PROCESS,
            AttachError::RingSize { .. } => code::USAGE,
            AttachError::FileUnreadable { .. }
            | AttachError::TooManyPoints { .. }
            | AttachError::TooManyProcesses
            | AttachError::Object(_)
            | AttachError::System { .. } => code::RUN_TIME,
        },
        SessionError::Sampling(error) => match error {
            PerfError::NotPermitted { .. } | PerfError::LockedMemory { .. } => code::NOT_PERMITTED,
            PerfError::KernelCannot { .. } => code::KERNEL,
            PerfError::RingSize { .. } => code::USAGE,
            PerfError::System { .. } => code::RUN_TIME,
        },
        SessionError::Output(_) | SessionError::Unread { .. } | SessionError::System { .. } => code::RUN_TIME,
    }
}

/// What to do about it.
pub(super) fn session_step(error: &SessionError) -> String {
    let step = match error {
        SessionError::Target(error) => return target_step(error),
        SessionError::NoSuchName(_) => {
            "list the names with `ps -e -o pid,comm`; names longer than 15 characters are cut by the kernel"
        }
        SessionError::Replaced(_) => "run again: its new program will be looked at",
        SessionError::Differs { .. } => "something patched the program; restart it to observe it",
        SessionError::Unreached { .. } => {
            "restart it, or use ps, sweep or `trace --tier sampled`, which need no probes"
        }
        SessionError::InnerNamespace => {
            "name processes with --pid or --name, or run on the host (a container with `--pid=host`)"
        }
        SessionError::CostUnknown => {
            "leave --max-overhead out and choose a --tier that costs little (spawns, sampled); it needs uprobe_multi: Linux 6.6, \
             and no --attach-with tracefs"
        }
        SessionError::Itself(_) => "name another process: an observer does not observe itself",
        SessionError::Launch(LaunchError::CommandNotFound { .. }) => "give the program's path, or one that is in PATH",
        SessionError::Launch(LaunchError::NotExecutable { .. }) => {
            "check the file's mode and that it is a program for this machine"
        }
        SessionError::Launch(_) => "start the program yourself and attach with --pid",
        SessionError::Nothing { reasons, .. } => return nothing_step(reasons),
        SessionError::Attach(error) => return attach_step(error),
        SessionError::Sampling(error) => return sampling_step(error),
        SessionError::Output(_) => "check the disk and the file; the target was left as it was",
        SessionError::Unread { .. } => {
            "read the output to its end, or write it into a file with -o FILE; the target was left as it was"
        }
        SessionError::System { .. } => "run again with -v; if it stays, report it with the output",
    };
    step.to_owned()
}

fn sampling_step(error: &PerfError) -> String {
    match error {
        PerfError::NotPermitted { .. } => permission_step(&[Capability::Perfmon]),
        PerfError::LockedMemory { .. } => "use smaller rings (--ring-pages), or raise `ulimit -l`".to_owned(),
        PerfError::RingSize { .. } => "give --ring-pages a power of two".to_owned(),
        PerfError::KernelCannot { .. } => {
            "needs a kernel with CONFIG_PERF_EVENTS; ps and sweep work without it".to_owned()
        }
        PerfError::System { .. } => "run again with -v; if it stays, report it with the output".to_owned(),
    }
}

fn target_step(error: &TargetError) -> String {
    match error {
        TargetError::NoSuchProcess { .. } | TargetError::Vanished { .. } | TargetError::Zombie { .. } => {
            "list the processes with `ps -e`, or launch the program under observation with `-- CMD`".to_owned()
        }
        TargetError::IsThread { process, .. } => format!("use --pid {process}"),
        TargetError::KernelThread { .. } => "choose a user process; kernel threads run no async runtime".to_owned(),
        TargetError::NotPermitted { capability, .. } | TargetError::ModuleGone { capability, .. } => {
            permission_step(&[*capability])
        }
        TargetError::ModuleTooLarge { .. } => "report it with the file's size: no such image was met before".to_owned(),
        TargetError::Malformed { .. } | TargetError::Io { .. } => {
            "run again; if it stays, report it with the output of -v".to_owned()
        }
    }
}

/// What is needed is not had, or it is and something else refuses.
fn permission_step(needs: &[Capability]) -> String {
    let lacking = lacking(needs);
    if lacking.is_empty() {
        return "this user has the capabilities for it, so something else refuses: `async-observer doctor` says what"
            .to_owned();
    }
    format!(
        "run as root, or with {} (this user's capabilities: {}); `async-observer doctor` says what else is missing",
        Capability::sentence(&lacking),
        own_capabilities()
    )
}

fn nothing_step(reasons: &[Unsupported]) -> String {
    let step = |reason: &Unsupported| match reason {
        Unsupported::TooOld { .. } => "rebuild the program with tokio 1.23 or later; older layouts are not known",
        Unsupported::Image { .. } => "only 64-bit x86-64 programs can be observed",
        Unsupported::Moved { .. } => {
            "run it without moving its code (as by a setting or library for huge pages of text): as it runs now ps and sweep do not know it either"
        }
        Unsupported::Unverified { .. } => "restart the program from the file as it is now, then attach again",
    };
    match reasons.first() {
        Some(reason) => step(reason).to_owned(),
        None => {
            "check that this is the right process (a wrapper or a shell may have started it: try its child)".to_owned()
        }
    }
}

fn attach_step(error: &AttachError) -> String {
    let step = match error {
        AttachError::NotPermitted { needs, .. } => return permission_step(needs),
        AttachError::KernelCannot { .. } => {
            "needs Linux 5.15 or later with CONFIG_BPF_SYSCALL and CONFIG_UPROBE_EVENTS"
        }
        AttachError::NoUprobeEvents { .. } => {
            "boot without `lockdown=confidentiality`, or a kernel with CONFIG_UPROBE_EVENTS, or one from 6.6 on, which needs none: \
             `async-observer doctor` tells which; ps and sweep work all the same"
        }
        AttachError::TargetGone { .. } => {
            "launch the program under observation with `-- CMD` if it lives too short to attach to"
        }
        AttachError::FileUnreadable { .. } => {
            "run as root: the image is opened through /proc, which asks for more than the file's mode"
        }
        AttachError::LockedMemory { .. } => "use smaller rings (--ring-pages), or raise `ulimit -l`",
        AttachError::RingSize { .. } => "give --ring-pages a power of two",
        AttachError::Verifier { .. } => "report it with the kernel's version and the output of -vv",
        AttachError::TooManyProcesses => "observe fewer processes at once: name them, or a part of them",
        AttachError::TooManyPoints { .. } | AttachError::Object(_) | AttachError::System { .. } => {
            "run again with -vv; if it stays, report it with the output"
        }
    };
    step.to_owned()
}
