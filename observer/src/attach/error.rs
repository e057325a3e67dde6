//! Why probes could not be loaded or attached. The user's next step is said at the command line, not here.

use std::io;
use std::path::{Path, PathBuf};

use aya::maps::MapError;

use crate::model::{Capability, Pid};
use crate::perf::PerfError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel says no to this user.
    #[error("not permitted to {what}: needs {} (or root)", Capability::sentence(needs))]
    NotPermitted {
        /// What was tried.
        what: &'static str,
        /// The capabilities that allow it.
        needs: &'static [Capability],
        /// As the kernel said it.
        source: io::Error,
    },
    /// The kernel lacks what is needed, whoever asks.
    #[error("this kernel cannot {what}")]
    KernelCannot {
        /// What was tried.
        what: &'static str,
        /// As the kernel said it.
        source: io::Error,
    },
    /// The tracing file system is there, and it has no list of probes: it was built without, or the kernel was locked down
    /// before it was filled.
    #[error("this kernel's tracing file system has no uprobe_events")]
    NoUprobeEvents {
        /// As the kernel said it.
        source: io::Error,
    },
    /// The process ended before the probes were in.
    #[error("process {pid} is gone")]
    TargetGone {
        /// The process.
        pid: Pid,
    },
    /// The image cannot be opened.
    #[error("cannot open {}", path.display())]
    FileUnreadable {
        /// The image.
        path: PathBuf,
        /// As the kernel said it.
        source: io::Error,
    },
    /// More points in one image than one link carries.
    #[error("{count} points in {} are too many for one link", path.display())]
    TooManyPoints {
        /// The image.
        path: PathBuf,
        /// How many were asked for.
        count: usize,
    },
    /// The memory that rings or maps need may not be locked.
    #[error("not enough lockable memory (RLIMIT_MEMLOCK, kernel.perf_event_mlock_kb) to {what}")]
    LockedMemory {
        /// What was tried.
        what: &'static str,
        /// As the kernel said it.
        source: io::Error,
    },
    /// The map of processes has no room for one more; its size was given when the programs were loaded.
    #[error("no room to tell the programs of one more process")]
    TooManyProcesses,
    /// The verifier refused a program.
    #[error("the kernel's verifier refused program {program}: {log}")]
    Verifier {
        /// The program.
        program: &'static str,
        /// The end of what it said.
        log: String,
        /// As the kernel said it.
        source: io::Error,
    },
    /// A ring's size must be a power of two.
    #[error("{pages} pages are no ring size: a power of two is")]
    RingSize {
        /// What was asked for.
        pages: usize,
    },
    /// The embedded object is not the one this program was written for.
    #[error("the embedded kernel object is broken: {0}")]
    Object(String),
    /// Any other refusal.
    #[error("failed to {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// As the kernel said it.
        source: io::Error,
    },
}

/// Needed for everything but trace events.
const BPF: &[Capability] = &[Capability::Bpf, Capability::Perfmon];
/// Definitions are written to a file that is root's.
pub(super) const DEFINITIONS: &[Capability] = &[Capability::SysAdmin, Capability::DacOverride];
/// Definitions are root's files, and kernels since the fix of CVE-2025-38466 ask for more where perf opens uprobes.
const EVENTS: &[Capability] = &[Capability::SysAdmin];

impl AttachError {
    /// By the error number, for what bpf(2) refused.
    pub(super) fn refused(what: &'static str, source: io::Error) -> Self {
        Self::with(what, BPF, source)
    }

    /// As [`Self::refused`], for trace events.
    pub(super) fn event_refused(what: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            // No tracefs, or no uprobes in it.
            Some(libc::ENODEV | libc::ENOENT) => Self::KernelCannot { what, source },
            _ => Self::with(what, EVENTS, source),
        }
    }

    fn with(what: &'static str, needs: &'static [Capability], source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { what, needs, source },
            Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::E2BIG) => Self::KernelCannot { what, source },
            _ => Self::System { what, source },
        }
    }
}

/// Whether a process of this number exists.
pub(super) fn is_alive(pid: Pid) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

impl From<PerfError> for AttachError {
    fn from(error: PerfError) -> Self {
        match error {
            PerfError::NotPermitted { what, source } => Self::NotPermitted { what, needs: BPF, source },
            PerfError::KernelCannot { what, source } => Self::KernelCannot { what, source },
            PerfError::LockedMemory { what, source } => Self::LockedMemory { what, source },
            PerfError::RingSize { pages } => Self::RingSize { pages },
            PerfError::System { what, source } => Self::System { what, source },
        }
    }
}

impl From<aya::EbpfError> for AttachError {
    fn from(error: aya::EbpfError) -> Self {
        match error {
            aya::EbpfError::MapError(error) => error.into(),
            other => Self::Object(chain(&other)),
        }
    }
}

impl From<MapError> for AttachError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::CreateError { io_error, .. } => match io_error.raw_os_error() {
                Some(libc::ENOMEM) => Self::LockedMemory { what: "create the maps", source: io_error },
                _ => Self::refused("create the maps", io_error),
            },
            MapError::SyscallError(error) => Self::refused("create the maps", error.io_error),
            other => Self::Object(chain(&other)),
        }
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
