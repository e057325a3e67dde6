//! A child of our own with a seccomp filter that kills it at the system call of return probes, and at no other.
//!
//! Does not know what it is tried with.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

/// `uretprobe(2)`, by which return probes leave their target on Linux 6.11 and later for x86-64; libc does not name it.
const URETPROBE: u32 = 335;

/// The child. Dropping it ends it.
pub(super) struct Filtered {
    pid: libc::pid_t,
    go: Option<OwnedFd>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// By itself.
    Ended,
    /// By a signal.
    Killed,
}

impl Filtered {
    /// Forks. The child waits for [`Self::finish`], then sets its filter and does `work`, which must be async-signal-safe.
    pub(super) fn start(work: fn()) -> io::Result<Self> {
        let mut ends: [RawFd; 2] = [-1; 2];
        // SAFETY: room for the two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: two new descriptors that nobody else knows.
        let [theirs, go] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: what the child does until it ends is async-signal-safe: system calls and `work`.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // SAFETY: as above. If we end before it is told to go on, it ends, too.
                unsafe {
                    libc::close(go.as_raw_fd());
                    let mut byte = 0u8;
                    if libc::read(theirs.as_raw_fd(), (&raw mut byte).cast(), 1) == 1 && forbid() {
                        work();
                        libc::_exit(0);
                    }
                    libc::_exit(1)
                }
            }
            pid => Ok(Self { pid, go: Some(go) }),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Lets it go on, and waits for its end.
    pub(super) fn finish(mut self) -> io::Result<Fate> {
        if let Some(go) = self.go.take() {
            File::from(go).write_all(&[1])?;
        }
        let mut status = 0;
        // SAFETY: our own child, and a place for its status.
        while unsafe { libc::waitpid(self.pid, &mut status, 0) } < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        self.pid = 0;
        match status {
            status if libc::WIFSIGNALED(status) => Ok(Fate::Killed),
            status if libc::WEXITSTATUS(status) == 0 => Ok(Fate::Ended),
            _ => Err(io::Error::other("it could not set its filter")),
        }
    }
}

impl Drop for Filtered {
    fn drop(&mut self) {
        if self.pid == 0 {
            return;
        }
        // SAFETY: our own child, which has not been reaped.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

/// In the child: no core file is left, and from here on the filter judges.
///
/// # Safety
/// To be called between fork and exit only; makes system calls and nothing else.
unsafe fn forbid() -> bool {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = [
        // The number stands first in what a filter is shown.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf: 1, k: URETPROBE },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the filter outlives the call that copies it.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask_for_the_forbidden() {
        // SAFETY: it takes no argument; outside a return probe the kernel answers with a signal or an error.
        unsafe { libc::syscall(URETPROBE.into()) };
    }

    fn ask_for_its_number() {
        // SAFETY: no argument, no failure.
        unsafe { libc::getpid() };
    }

    #[test]
    fn the_filter_kills_at_the_one_call_and_lets_the_others_through() {
        assert_eq!(Filtered::start(ask_for_its_number).unwrap().finish().unwrap(), Fate::Ended);
        assert_eq!(Filtered::start(ask_for_the_forbidden).unwrap().finish().unwrap(), Fate::Killed);
    }

    #[test]
    fn a_child_that_is_not_wanted_any_more_is_ended_and_reaped() {
        let child = Filtered::start(ask_for_its_number).unwrap();
        let path = format!("/proc/{}", child.pid());
        assert!(std::fs::exists(&path).unwrap());
        drop(child);
        assert!(!std::fs::exists(&path).unwrap());
    }
}
