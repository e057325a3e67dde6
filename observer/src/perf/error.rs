//! Why a perf ring cannot be had. The user's next step is said at the command line, not here.

use std::io;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// The kernel says no to this user.
    #[error("not permitted to {what}")]
    NotPermitted {
        /// What was tried.
        what: &'static str,
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
    /// The memory that the ring needs may not be locked.
    #[error("not enough lockable memory (RLIMIT_MEMLOCK, kernel.perf_event_mlock_kb) to {what}")]
    LockedMemory {
        /// What was tried.
        what: &'static str,
        /// As the kernel said it.
        source: io::Error,
    },
    /// A ring's size must be a power of two.
    #[error("{pages} pages are no ring size: a power of two is")]
    RingSize {
        /// What was asked for.
        pages: usize,
    },
    /// Any other refusal.
    #[error("failed to {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// As the kernel said it.
        source: io::Error,
    },
}

impl PerfError {
    /// By the error number, for what perf_event_open(2) refused.
    pub(super) fn refused(what: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { what, source },
            Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::E2BIG) => Self::KernelCannot { what, source },
            _ => Self::System { what, source },
        }
    }
}
