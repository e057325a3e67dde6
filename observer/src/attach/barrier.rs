//! Waiting for the programs that run right now.
//!
//! Does not know what they write.

use std::io;

use crate::perf::online_cpus;

/// `MEMBARRIER_CMD_GLOBAL` of Linux's `include/uapi/linux/membarrier.h`.
const GLOBAL: libc::c_int = 1;

/// Returns when every program of ours that was running at the call, on whatever CPU, has ended: so has every kernel code that
/// was writing to a ring. It takes a few of the scheduler's ticks and costs nobody anything.
///
/// The command waits for one grace period of RCU, and a program that may not sleep is a reader from before its first
/// instruction until after its last, also while its thread is preempted. Fails with `EINVAL` where some CPUs run without ticks
/// (`nohz_full`), or where there is one CPU only: the kernel does not wait then.
pub fn wait_for_programs() -> io::Result<()> {
    if online_cpus().is_ok_and(|cpus| cpus.len() < 2) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: plain numbers.
    match unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
