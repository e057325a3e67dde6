//! What an image is known by before it is read: enough to tell it from any other.
//!
//! Does not know: what is kept under it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use crate::model::{BuildId, FileState, content_hash};
use crate::symbols::Glance;

/// An image, and how it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    identity: Identity,
    /// Of the file, bytes.
    pub(super) size: u64,
    /// A hash of its headers.
    pub(super) headers: u64,
    /// Its types were to be named.
    named: bool,
    /// The other files that its debug information may be in, in the order that they are tried: which of them is used, and what it
    /// tells, changes with no others.
    debug: Vec<FileState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Identity {
    /// The linker's, the same wherever the file lies: in every container that has it, on every host.
    Build(Vec<u8>),
    /// Of an image without one: this very file, as it was last changed. Its content would tell it, too, but to know the
    /// content is to read it whole.
    File(FileState),
}

impl Key {
    /// Of an image by a glance at it and by what the file system says of its file.
    pub fn of(glance: &Glance, file: &Metadata, named: bool, debug: Vec<FileState>) -> Self {
        let identity = match &glance.build_id {
            Some(BuildId::Gnu(id)) => Identity::Build(id.clone()),
            Some(BuildId::Content(_)) | None => Identity::File(FileState::of(file)),
        };
        Self { identity, size: file.size(), headers: glance.headers, named, debug }
    }

    /// Whether a later change of any of the files would show in the key. A build id is compared with the file as it is read, so
    /// only the kernel's clock, which goes in steps, leaves a doubt.
    pub fn is_settled(&self) -> bool {
        let own = match &self.identity {
            Identity::Build(_) => None,
            Identity::File(state) => Some(state),
        };
        self.debug.iter().chain(own).all(FileState::is_settled)
    }

    /// The entry's file name. Versions do not meet in one: observers of two versions, in turns, both find their own.
    pub(super) fn name(&self, version: &str) -> String {
        let tag = content_hash(version.as_bytes());
        let named = if self.named { "named" } else { "plain" };
        let size = self.size;
        match &self.identity {
            Identity::Build(id) => {
                let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{tag:016x}-{id}-{size}-{named}")
            }
            Identity::File(FileState { device, inode, changed: (seconds, nanoseconds), .. }) => {
                format!("{tag:016x}-file-{device}-{inode}-{seconds}.{nanoseconds}-{size}-{named}")
            }
        }
    }
}

#[cfg(test)]
impl Key {
    pub(super) fn with_debug_file(self, state: FileState) -> Self {
        Self { debug: vec![state], ..self }
    }

    pub(super) fn by_build(id: &[u8], size: u64, headers: u64, named: bool) -> Self {
        Self { identity: Identity::Build(id.to_vec()), size, headers, named, debug: Vec::new() }
    }

    pub(super) fn by_file(inode: u64, seconds: i64, size: u64) -> Self {
        Self {
            identity: Identity::File(FileState { device: 1, inode, size, changed: (seconds, 0) }),
            size,
            headers: 0,
            named: false,
            debug: Vec::new(),
        }
    }
}
