//! Polls that the programs have summed up, and whether they do.
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
    /// The sums of polls; `None` unless they are [`Quiet::Summed`], or may come to be.
    pub fn poll_sums(&self) -> Result<Option<PollSums>, AttachError> {
        if !matches!(self.object().quiet(), Quiet::Summed | Quiet::Governed) {
            return Ok(None);
        }
        let map = self.object().polled()?.try_clone_to_owned();
        Ok(Some(PollSums(map.map_err(|source| AttachError::System { what: "keep a map", source })?)))
    }
}

impl Probes {
    /// From now on this becomes of quiet polls. Of use only where the programs were loaded to be [`Quiet::Governed`], which begin
    /// with [`Quiet::Reported`]; a poll that ends meanwhile is treated in the one way or in the other.
    pub fn govern(&self, quiet: Quiet) -> Result<(), AttachError> {
        kernel_maps::update(self.object().governed()?, 0, quiet as u32)
            .map_err(|source| AttachError::refused("tell the programs what to report", source))
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
