//! What of an image lies in other files: the first that is its own is read, and each that is passed over is said, with the reason.
//!
//! Does not know: where such files may be, what is in them.

use std::path::{Path, PathBuf};

use crate::model::{FilePlace, Missed};
use crate::symbols::{AltLink, Image, Skeletons, SplitUnit};
use crate::target::Module;

use super::debug_files::{DebugFile, MOST_READ, Names};
use super::shared_file::SharedFile;
use super::split_files::SplitFiles;

/// The files that may be an image's: what is known of it changes with no others.
pub(super) struct Candidates {
    /// With its symbols and debug information.
    pub(super) debug: Vec<DebugFile>,
    /// With the entries of its split units.
    pub(super) packages: Vec<DebugFile>,
}

/// An image's symbols and debug information, where they lie apart.
pub(super) struct Apart {
    debug: Option<Vec<u8>>,
    /// Of that file.
    path: Option<PathBuf>,
    shared: SharedFile,
    split: SplitFiles,
}

impl Apart {
    /// Looks for them.
    pub(super) fn of(names: &Names, module: &Module, image: &Image<'_>, say: &dyn Fn(u8, &str)) -> Self {
        let debug = DebugFile::all(names, module, Some(image.build_id()), image.debug_link().as_ref());
        let packages = DebugFile::packages(names, module, &debug);
        Self::among(Candidates { debug, packages }, (names, module), image, say)
    }

    /// The first of these files that is the image's; and what it, or the image itself, has in still others.
    pub(super) fn among(
        Candidates { debug, packages }: Candidates,
        (names, module): (&Names, &Module),
        image: &Image<'_>,
        say: &dyn Fn(u8, &str),
    ) -> Self {
        let mut left = MOST_READ;
        let debug = debug.into_iter().find_map(|file| {
            let path = file.path.display();
            match own(&file, image, &mut left) {
                Ok(bytes) => {
                    say(2, &format!("debug information from {path}"));
                    Some((bytes, (file.place, file.path)))
                }
                // Another, further on, may be the image's.
                Err(why) => {
                    say(1, &format!("{path} is not used: {why}"));
                    None
                }
            }
        });
        let (debug, from) = debug.unzip();
        let (from, path) = from.unzip();
        let described = debug.as_deref().unwrap_or(image.bytes());
        let Names::Wanted(folders) = names else {
            return Self { debug, path, shared: SharedFile::default(), split: SplitFiles::default() };
        };
        let itself = || FilePlace { path: PathBuf::from(&module.path), by_process: true };
        let shared = AltLink::of(described)
            .map(|link| SharedFile::find(&link, &from.unwrap_or_else(itself), (folders, module), &mut left, say));
        let skeletons = Skeletons::of(image, described);
        // A package that an earlier build left behind is no loss to a program that has its debug information itself.
        let is_whole = skeletons.units().next().is_none() && SplitUnit::is_described(described);
        let packages = if is_whole { Vec::new() } else { packages };
        let split = SplitFiles::find(&skeletons, packages, (folders, module), &mut left, say);
        drop(skeletons);
        Self { debug, path, shared: shared.unwrap_or_default(), split }
    }

    /// The debug file that was found.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The image with what was found.
    pub(super) fn given_to<'d>(&'d self, mut image: Image<'d>) -> Image<'d> {
        if let Some(bytes) = &self.debug {
            image.take_debug_file(bytes);
        }
        if let Some(bytes) = &self.shared.content {
            image.take_shared_file(bytes);
        }
        self.split.contents().for_each(|bytes| image.take_split_file(bytes));
        image
    }

    /// Where more was looked for; `None` if that is too much to be remembered, or may change without a trace.
    pub(super) fn missed(&self) -> Option<Vec<Missed>> {
        let mut missed = self.split.missed()?;
        missed.extend(self.shared.missed.iter().cloned());
        missed.iter().all(|missed| missed.was.is_none_or(|was| was.is_settled())).then_some(missed)
    }
}

/// What a debug file holds, if it is the image's; else why it is not used, in words.
fn own(file: &DebugFile, image: &Image<'_>, left: &mut u64) -> Result<Vec<u8>, String> {
    if let Some(why) = file.is_another(image) {
        return Err(why.to_string());
    }
    let bytes = file.read(left)?;
    image.check_debug_file(&bytes).map_err(|why| why.to_string())?;
    Ok(bytes)
}
