//! Tries on ourselves what is done to targets, so that what is missing is known before there is one.
//!
//! Does not know: what follows from a refusal. Nothing but copies of this process is looked at.

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::os::fd::AsRawFd;

use super::error::{MemoryError, TargetError};
use super::process::Process;
use super::syscall::{self, Copied, Readers};
use crate::model::{Pid, ProcAddr};

/// What is read, at the same address in every copy of this process.
static LANDMARK: u64 = 0x6c61_6e64_6d61_726b;

/// Why a trial failed.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// A process cannot be opened.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Its memory cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The trial itself could not be made.
    #[error("cannot make a copy of this process")]
    Itself(#[source] io::Error),
}

/// Opens a copy of this process as targets are opened, and reads a word of its memory.
pub fn try_reading(readers: Readers) -> Result<(), TrialError> {
    let copied = Copied::start(readers).map_err(TrialError::Itself)?;
    let process = Process::open(copied.pid())?;
    let at = ProcAddr(std::ptr::from_ref(black_box(&LANDMARK)) as u64);
    match process.memory().read_word(at)? {
        word if word == LANDMARK => Ok(()),
        _ => Err(TrialError::Itself(io::Error::other("its memory reads as something else"))),
    }
}

/// Opens the file that this process runs through `/proc/PID/map_files`, which leads to it though it be deleted.
pub fn try_map_files() -> Result<(), io::Error> {
    let failed = |error: TargetError| io::Error::other(error.to_string());
    let us = Process::open(Pid(std::process::id())).map_err(failed)?;
    let maps = us.maps().map_err(failed)?;
    let code = maps.iter().find(|mapping| mapping.permissions.execute && mapping.file.is_some());
    let range = code.ok_or_else(|| io::Error::other("no file is mapped as code"))?.range;
    File::open(us.path(&format!("map_files/{:x}-{:x}", range.start.0, range.end.0))).map(drop)
}

/// Opens a file that its mode lets nobody read.
pub fn try_any_file() -> io::Result<()> {
    let file = syscall::unreadable_file()?;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Capability;
    use crate::target::own_status;

    #[test]
    fn a_copy_that_anybody_of_this_user_may_read_is_read() {
        try_reading(Readers::SameUser).unwrap();
    }

    #[test]
    fn what_is_tried_works_exactly_with_the_capability_for_it() {
        let has = |capability| own_status().unwrap().effective.allows(capability);
        assert_eq!(try_reading(Readers::Privileged).is_ok(), has(Capability::SysPtrace));
        assert_eq!(try_map_files().is_ok(), has(Capability::CheckpointRestore));
        assert_eq!(try_any_file().is_ok(), has(Capability::DacReadSearch));
    }

    #[test]
    fn a_copy_ends_with_the_trial() {
        let copied = Copied::start(Readers::Privileged).unwrap();
        let path = format!("/proc/{}", copied.pid());
        assert!(std::fs::exists(&path).unwrap());
        drop(copied);
        assert!(!std::fs::exists(&path).unwrap());
    }
}
