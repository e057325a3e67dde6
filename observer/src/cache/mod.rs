//! What was found out about images, kept on disk: an image that is known is not read again, whoever looks and whenever.
//!
//! Does not know: how anything is found out, which file is whose. Nothing here is needed: whatever is wrong with an entry or
//! the folder, the image is analysed anew, and the folder may be deleted at any time. What is read is believed only after it
//! was compared with the image's own file.

mod entry;
mod error;
mod evidence;
mod folder;
mod key;

use std::ops::Range;
use std::path::Path;

use crate::model::Analysis;

pub use error::{CacheError, Stale};
pub use folder::Limits;
pub use key::Key;

use entry::Entry;
use evidence::Evidence;
use folder::Folder;

/// Gives a range of an image's file, whole or not at all.
pub type ReadAt<'a> = &'a dyn Fn(Range<u64>) -> Option<Vec<u8>>;

/// The folder of entries, one an image.
#[derive(Debug)]
pub struct Cache {
    folder: Folder,
    version: String,
}

impl Cache {
    /// Opens the folder, made if it is not there. Refuses one that another than `owner` may write to. `version` is who
    /// analyses: what another version found is not used.
    pub fn open(path: &Path, version: String, owner: u32, limits: Limits) -> Result<Self, CacheError> {
        Ok(Self { folder: Folder::open(path, owner, limits)?, version })
    }

    /// What is known of the image with this key, whose file is read from to check it. An entry that does not hold is removed,
    /// and the error says why.
    pub fn find(&self, key: &Key, read: ReadAt<'_>) -> Result<Option<Analysis>, Stale> {
        let name = key.name(&self.version);
        let Some((bytes, used)) = self.folder.read(&name)? else { return Ok(None) };
        let found = Entry::unseal(&bytes, &self.version, key).and_then(|entry| {
            entry.evidence.check(&entry.analysis, read)?;
            Ok(entry.analysis)
        });
        match found {
            Ok(analysis) => {
                self.folder.note_use(&name, used);
                Ok(Some(analysis))
            }
            Err(stale) => {
                // Another observer may have put a good one there meanwhile: then that is written again.
                self.folder.remove(&name);
                Err(stale)
            }
        }
    }

    /// Remembers what is known of an image whose key is settled. Nothing is kept of one that would take more room than an entry may.
    pub fn keep(&mut self, key: &Key, analysis: &Analysis, read: ReadAt<'_>) -> Result<(), CacheError> {
        let Some(evidence) = Evidence::of(analysis, read) else { return Ok(()) };
        let sealed = Entry::seal(&self.version, key, &evidence, analysis).filter(|bytes| self.folder.takes(bytes));
        match sealed {
            Some(bytes) => self.folder.write(&key.name(&self.version), &bytes),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
