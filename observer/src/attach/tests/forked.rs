//! Other processes of the same image: children of the test that do one thing when they are told to.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Cell;

/// One child. It is killed if the test forgets it.
pub(super) struct Forked {
    pid: i32,
    /// Writing lets it go; reading tells how far it is.
    go: File,
    told: File,
    waited: bool,
}

/// What a child may do: it has one thread of many, so nothing that takes a lock.
pub(super) struct Child {
    told: i32,
    wait: i32,
}

impl Child {
    /// Tells the test so.
    pub(super) fn tell(&self) {
        // SAFETY: one byte of a constant.
        unsafe { libc::write(self.told, c"!".as_ptr().cast(), 1) };
    }

    /// Waits until it is let go once more; whether it was.
    pub(super) fn wait(&self) -> bool {
        let mut byte = 0u8;
        // SAFETY: room for one byte.
        unsafe { libc::read(self.wait, (&raw mut byte).cast(), 1) == 1 }
    }
}

/// A call that ends when the test says so.
#[inline(never)]
pub(super) extern "C" fn stays(cell: *const Cell, child: &Child) {
    child.tell();
    child.wait();
    black_box(cell);
}

/// A child that waits until it is let go, then runs this and ends.
pub(super) fn forked(run: impl Fn(&Child)) -> Forked {
    let pipe = || {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors, which nobody else knows.
        unsafe {
            assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
            ends.map(|fd| File::from(OwnedFd::from_raw_fd(fd)))
        }
    };
    let ([wait, go], [told, tell]) = (pipe(), pipe());
    // SAFETY: the child uses system calls and the code under test only, and ends without returning.
    match unsafe { libc::fork() } {
        0 => {
            let child = Child { told: tell.as_raw_fd(), wait: wait.as_raw_fd() };
            // A panic must not go on as a second test.
            let ended = catch_unwind(AssertUnwindSafe(|| {
                if child.wait() {
                    run(&child)
                }
            }));
            // SAFETY: no pointers.
            unsafe { libc::_exit(i32::from(ended.is_err())) }
        }
        -1 => panic!("no child: {}", std::io::Error::last_os_error()),
        pid => Forked { pid, go, told, waited: false },
    }
}

impl Forked {
    pub(super) fn pid(&self) -> u32 {
        self.pid as u32
    }

    /// Lets it run to its end.
    pub(super) fn run(mut self) {
        self.go();
        assert_eq!(self.wait(), 0);
    }

    pub(super) fn go(&mut self) {
        self.go.write_all(b"!").unwrap();
    }

    /// Waits until it tells something.
    pub(super) fn told(&mut self) {
        self.told.read_exact(&mut [0]).unwrap();
    }

    /// Kills it, and waits until it is gone.
    pub(super) fn kill(mut self) {
        // SAFETY: a child of this process that nobody has waited for.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        assert_eq!(self.wait(), libc::SIGKILL);
    }

    fn wait(&mut self) -> i32 {
        let mut status = 0;
        // SAFETY: a child of this process, and room for its status.
        assert_eq!(unsafe { libc::waitpid(self.pid, &mut status, 0) }, self.pid);
        self.waited = true;
        status
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        if !self.waited {
            // SAFETY: a child of this process that nobody has waited for.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
        }
    }
}
