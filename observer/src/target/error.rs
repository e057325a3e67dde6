//! What can go wrong with a target, told apart as far as the user's next step differs.

use std::io;

use crate::model::{Capability, Pid, ProcAddr};

/// Why a process cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Nothing runs under this number.
    #[error("there is no process {pid}")]
    NoSuchProcess {
        /// What was asked for.
        pid: Pid,
    },
    /// The number names a thread that is not its process's first.
    #[error("{pid} is a thread of process {process}, not a process")]
    IsThread {
        /// What was asked for.
        pid: Pid,
        /// The process it belongs to.
        process: Pid,
    },
    /// It was there when we began and is gone now.
    #[error("process {pid} ended while it was looked at")]
    Vanished {
        /// The process.
        pid: Pid,
    },
    /// It has no user memory at all.
    #[error("{pid} is a kernel thread")]
    KernelThread {
        /// The thread.
        pid: Pid,
    },
    /// It has ended and waits for its parent to fetch the exit status.
    #[error("process {pid} has ended (a zombie: its parent has not fetched the exit status yet)")]
    Zombie {
        /// The process.
        pid: Pid,
    },
    /// The kernel refuses.
    #[error("not permitted to read {what} of process {pid}")]
    NotPermitted {
        /// The process.
        pid: Pid,
        /// What was to be read.
        what: String,
        /// What would permit it.
        capability: Capability,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of a module cannot be had any more: deleted or replaced, and the ways round that are closed.
    #[error("{path} as mapped by process {pid} cannot be opened")]
    ModuleGone {
        /// The process.
        pid: Pid,
        /// As mapped.
        path: String,
        /// What would permit the way round.
        capability: Capability,
        /// What the last way tried gave.
        source: io::Error,
    },
    /// A module's file is larger than this program reads.
    #[error("{path} has {bytes} bytes, more than the {limit} that are read")]
    ModuleTooLarge {
        /// As mapped.
        path: String,
        /// Its size.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// A `/proc` file does not read as documented.
    #[error("{what} of process {pid} is malformed: {reason}")]
    Malformed {
        /// The process.
        pid: Pid,
        /// The file.
        what: &'static str,
        /// What was unexpected.
        reason: String,
    },
    /// Any other failure of the kernel's interface.
    #[error("cannot read {what} of process {pid}")]
    Io {
        /// The process.
        pid: Pid,
        /// What was to be read.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl TargetError {
    /// What a failure of a file of the process in `/proc` means, by what the kernel said alone.
    pub(super) fn of_file(pid: Pid, what: String, source: io::Error) -> Self {
        match source.raw_os_error() {
            // A process that is ending has no `exe` any more and is not a zombie yet.
            Some(libc::ESRCH | libc::ENOENT) => Self::Vanished { pid },
            Some(libc::EACCES | libc::EPERM) => {
                Self::NotPermitted { pid, what, capability: Capability::SysPtrace, source }
            }
            _ => Self::Io { pid, what, source },
        }
    }
}

/// Why memory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Only the first `read` bytes are mapped and readable.
    #[error("only {read} of {wanted} bytes at {at} are readable")]
    Partial {
        /// Where reading began.
        at: ProcAddr,
        /// Bytes asked for.
        wanted: usize,
        /// Bytes read.
        read: usize,
    },
    /// The kernel refuses to let this program read that process.
    #[error("not permitted to read the memory of process {pid}")]
    NotPermitted {
        /// The process.
        pid: Pid,
        /// What would permit it.
        capability: Capability,
    },
    /// The process is gone.
    #[error("process {pid} ended")]
    Vanished {
        /// The process.
        pid: Pid,
    },
    /// Anything else.
    #[error("cannot read memory of process {pid} at {at}")]
    Io {
        /// The process.
        pid: Pid,
        /// Where.
        at: ProcAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why a program could not be started under observation.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No such file, along `PATH` or as given; or the interpreter that the file names does not exist.
    #[error("{command}: command not found")]
    CommandNotFound {
        /// As given.
        command: String,
    },
    /// The file is there and the kernel will not run it.
    #[error("{command}: not executable")]
    NotExecutable {
        /// As given.
        command: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel (a seccomp filter, a container, a security module) does not let a parent stop its child.
    #[error("{command}: not permitted to stop it at its first instruction")]
    NotPermitted {
        /// As given.
        command: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ended before its first instruction, killed by a signal sent meanwhile.
    #[error("{command}: ended before its first instruction ({status})")]
    Ended {
        /// As given.
        command: String,
        /// How.
        status: std::process::ExitStatus,
    },
    /// Any other failure of fork, exec, wait or ptrace.
    #[error("{command}: cannot be started")]
    Io {
        /// As given.
        command: String,
        /// What the kernel said.
        source: io::Error,
    },
}
