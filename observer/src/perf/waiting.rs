//! Waiting for rings to fill, on a thread that holds none of them.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

use super::Ring;

/// Descriptors of rings. The kernel says once that a ring has filled, to whoever asks first: only one may wait for a ring.
pub struct Waiting(Vec<OwnedFd>);

impl Waiting {
    /// On these.
    pub fn on(rings: &[Ring]) -> io::Result<Self> {
        rings.iter().map(|ring| ring.as_fd().try_clone_to_owned()).collect::<io::Result<_>>().map(Self)
    }

    /// Waits until one has reached its watermark, for this long at most. Whether one has.
    pub fn wait(&self, most: Duration) -> bool {
        let asked = |fd: &OwnedFd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut asked: Vec<libc::pollfd> = self.0.iter().map(asked).collect();
        // SAFETY: the array is as long as is said, and outlives the call.
        let ready =
            unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, most.as_millis() as libc::c_int) };
        // Where it fails (a signal) it is as if the time were over: who waits looks at the rings then, too.
        ready > 0
    }
}
