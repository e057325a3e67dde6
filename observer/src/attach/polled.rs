//! Polls that the programs have summed up.
//!
//! Does not know whose they are.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use observer_common::{PollSum, Quiet, TaskKey};

use super::{AttachError, Probes, kernel_maps};

/// The sums, to be read while programs add to them: a poll that ends meanwhile may be in a sum in part.
#[derive(Debug)]
pub struct PollSums(OwnedFd);

impl Probes {
    /// The sums of polls; `None` unless they are [`Quiet::Summed`].
    pub fn poll_sums(&self) -> Result<Option<PollSums>, AttachError> {
        if self.object().quiet() != Quiet::Summed {
            return Ok(None);
        }
        let map = self.object().polled()?.try_clone_to_owned();
        Ok(Some(PollSums(map.map_err(|source| AttachError::System { what: "keep a map", source })?)))
    }
}

impl PollSums {
    /// Hands each task's sum to `sink`: what was polled since the task was first met.
    pub fn each(&self, sink: &mut dyn FnMut(TaskKey, &PollSum)) -> io::Result<()> {
        kernel_maps::each(self.0.as_fd(), sink)
    }

    /// A task's sum; `None` where no poll of it was summed.
    pub fn of(&self, task: TaskKey) -> io::Result<Option<PollSum>> {
        kernel_maps::look_up(self.0.as_fd(), task)
    }

    /// Forgets the sum of a task that has ended.
    pub fn forget(&self, task: TaskKey) -> io::Result<()> {
        kernel_maps::remove(self.0.as_fd(), task).map(drop)
    }
}
