//! Files as they are known without their content: where they are, and how they were last changed.
//!
//! Does not know: how that is found out.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// A file whose last change is younger than this may change again without the kernel's clock showing it.
const SETTLED: Duration = Duration::from_secs(2);

/// A file as it was last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileState {
    /// Where it is kept.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// In bytes.
    pub size: u64,
    /// Seconds and nanoseconds since 1970: whoever changes a file, or its times, moves this.
    pub changed: (i64, i64),
}

impl FileState {
    /// By what the file system says of the file.
    pub fn of(file: &Metadata) -> Self {
        let changed = (file.ctime(), file.ctime_nsec());
        Self { device: file.dev(), inode: file.ino(), size: file.size(), changed }
    }

    /// Whether a later change of the file would show here.
    pub fn is_settled(&self) -> bool {
        let changed =
            u64::try_from(self.changed.0).map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > SETTLED))
    }
}

/// Where a file may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FilePlace {
    /// Its path.
    pub path: PathBuf,
    /// From the root folder of a process that maps the image; else from ours.
    pub by_process: bool,
}

impl FilePlace {
    /// The path from our root folder, by that of the process.
    pub fn from(&self, root: &Path) -> PathBuf {
        if self.by_process { root.join(self.path.strip_prefix("/").unwrap_or(&self.path)) } else { self.path.clone() }
    }
}

/// A file that was looked for: it was not there, or was not what was wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Missed {
    /// Where.
    pub place: FilePlace,
    /// As it was; `None` if it was not there.
    pub was: Option<FileState>,
}
