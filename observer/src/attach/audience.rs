//! Whose hits are reported, and the end of those that are not any more.
//!
//! Does not know which processes those are; it is told.

use std::io;

use observer_common::Standing;

use super::{AttachError, Audience, Probes, kernel_maps};
use crate::model::{Ns, Pid};

/// What the kernel calls the first pid namespace, as an inode's number (`PROC_PID_INIT_INO`).
const INITIAL_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether this process counts processes as the kernel does. In a pid namespace below the first the numbers in records are
/// others than ours, so that nobody can be found, listed or excluded by them: probes for everyone are of no use there.
pub fn sees_every_process() -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::metadata("/proc/self/ns/pid")?.ino() == INITIAL_NAMESPACE)
}

impl Probes {
    /// From now on this process's hits are reported, unless links are for one process each and nobody is asked
    /// ([`Audience::Linked`](super::Audience)). Fails where there is no room for one more
    /// ([`Options::processes`](super::Options)); it is not reported then.
    pub fn list(&self, pid: Pid) -> Result<(), AttachError> {
        self.say(pid, Standing::Listed)
    }

    /// From now on this process's hits are not reported, but counted as foreign. Fails where there is no room for one
    /// more; under [`Audience::NotExcluded`](super::Audience) it is reported then.
    pub fn exclude(&self, pid: Pid) -> Result<(), AttachError> {
        self.say(pid, Standing::Excluded)
    }

    /// Forgets processes, each of which ended at its moment: what was said of it, and its calls.
    pub fn forget(&self, ended: &[(Pid, Ns)]) -> Result<(), AttachError> {
        let failed = |source| AttachError::refused("forget a process", source);
        for (pid, _) in ended {
            kernel_maps::remove(self.object().processes()?, pid.0).map_err(failed)?;
            if let Some(desks) = self.object().desks() {
                desks.forget_process(*pid);
            }
        }
        self.forget_calls(ended)
    }

    /// Forgets what ends with a program, of processes each of which begins another one at its moment. Who is listed stays so;
    /// whether one that was excluded is to be reported now is asked anew.
    pub fn begin_anew(&self, ended: &[(Pid, Ns)]) -> Result<(), AttachError> {
        match self.audience() {
            Audience::NotExcluded => self.forget(ended),
            Audience::Linked | Audience::Listed => self.forget_calls(ended),
        }
    }

    fn say(&self, pid: Pid, standing: Standing) -> Result<(), AttachError> {
        kernel_maps::update(self.object().processes()?, pid.0, standing as u32).map_err(|source| {
            match source.raw_os_error() {
                Some(libc::E2BIG) => AttachError::TooManyProcesses,
                _ => AttachError::refused("list a process", source),
            }
        })
    }
}
