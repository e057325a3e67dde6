//! What can be wrong with the folder, and why an entry in it is not used. Neither ever ends a session.

use std::io;
use std::path::PathBuf;

/// Why nothing is kept on disk.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Somebody put something else there, perhaps a link to elsewhere.
    #[error("{} is not a folder, or a link to one", .0.display())]
    NotAFolder(PathBuf),
    /// What is in it may be anybody's.
    #[error("{} belongs to user {owner}, not to {us}", path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who this program runs as.
        us: u32,
    },
    /// What is in it may be anybody's.
    #[error("others may write to {} (mode {mode:o})", path.display())]
    Shared {
        /// The folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The kernel refuses: no permission, no room, a read-only file system.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// In which folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why an entry is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// It is no regular file of ours, or of a size that none has.
    #[error("its entry is no file that this program wrote")]
    NotOurs,
    /// The kernel does not give it.
    #[error("its entry cannot be read ({0})")]
    Unreadable(io::ErrorKind),
    /// It was not written by this version.
    #[error("its entry is of another version")]
    OtherVersion,
    /// Its bytes are not those that were written.
    #[error("its entry is damaged")]
    Damaged,
    /// It is of another image.
    #[error("its entry is another image's")]
    OtherImage,
    /// The image's file has something else where the entry says what stands there.
    #[error("its file has changed: {0}")]
    Changed(&'static str),
}
