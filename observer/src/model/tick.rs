//! One sample of who runs: a thread, at one moment of its time on a CPU.
//!
//! Does not know: how it was taken, what the thread was doing.

use super::{Ns, Pid, Registers, StackCopy, Tid};

/// One thread at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// When.
    pub at: Ns,
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Its registers and its stack in user space, also while it was in the kernel; `None` where the kernel gave none: the
    /// process is ending, or is no 64-bit program.
    pub user: Option<(Registers, StackCopy)>,
}
