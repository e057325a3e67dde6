//! A process, and the images in it that can be observed.
//!
//! Does not know: what is done with them.

use std::sync::Arc;

use crate::model::{Bias, ImageFacts, TargetEntry};
use crate::target::{Module, Process};

use super::error::{SessionError, Unsupported};
use super::images::{Images, Looked, bias};

/// One process that may become a target.
pub(super) struct Candidate<'a> {
    pub(super) process: &'a Process,
    /// Without images yet.
    pub(super) entry: TargetEntry,
    pub(super) uses: Vec<Use>,
    /// Images that cannot be observed.
    pub(super) refused: Vec<Unsupported>,
}

/// An image in a process.
pub(super) struct Use {
    pub(super) module: Module,
    pub(super) facts: Arc<ImageFacts>,
    pub(super) bias: Bias,
}

impl<'a> Candidate<'a> {
    /// Looks at the process's images.
    pub(super) fn of(process: &'a Process, images: &mut Images<'_>) -> Result<Self, SessionError> {
        let mut entry = TargetEntry::new(process.pid(), process.exe().to_owned());
        // What is not known of it is not said.
        entry.enclosure = process.enclosure().unwrap_or_default();
        let (mut uses, mut refused) = (Vec::new(), Vec::new());
        for module in process.modules()? {
            match images.of_module(&module, &mut entry.missing)? {
                Looked::Nothing => {}
                Looked::Unsupported(reason) => refused.push(reason),
                Looked::Runtime(facts) => match bias(&facts, &module) {
                    Ok(bias) => uses.push(Use { module, facts, bias }),
                    Err(reason) => refused.push(reason),
                },
            }
        }
        refused.extend(process.moved_images()?.into_iter().map(|path| Unsupported::Moved { path }));
        Ok(Self { process, entry, uses, refused })
    }

    /// The target's entry, once its images are in it; what could not be observed besides is missing. An error if there
    /// are none.
    pub(super) fn into_entry(mut self) -> Result<TargetEntry, SessionError> {
        if self.entry.images.is_empty() {
            let TargetEntry { pid, exe, .. } = self.entry;
            return Err(SessionError::Nothing { pid, exe, reasons: self.refused });
        }
        self.entry.missing.extend(self.refused.iter().filter_map(Unsupported::besides));
        Ok(self.entry)
    }
}
