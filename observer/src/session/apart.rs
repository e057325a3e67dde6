//! What of an image lies in other files: the first that is its own is read, and each that is passed over is said, with the reason.
//!
//! Does not know: where such files may be, what is in them.

use crate::symbols::Image;
use crate::target::Module;

use super::debug_files::{DebugFile, Names};

/// An image's symbols and debug information, where they lie apart.
pub(super) struct Apart {
    debug: Option<Vec<u8>>,
}

impl Apart {
    /// Looks for them.
    pub(super) fn of(names: &Names, module: &Module, image: &Image<'_>, say: &dyn Fn(u8, &str)) -> Self {
        let files = DebugFile::all(names, module, Some(image.build_id()), image.debug_link().as_ref());
        Self::among(files, image, say)
    }

    /// The first of these files that is the image's.
    pub(super) fn among(files: Vec<DebugFile>, image: &Image<'_>, say: &dyn Fn(u8, &str)) -> Self {
        let debug = files.into_iter().find_map(|file| {
            let path = file.path.display();
            let checked = file.read().and_then(|bytes| {
                image.check_debug_file(&bytes).map_err(|why| why.to_string())?;
                Ok(bytes)
            });
            match checked {
                Ok(bytes) => {
                    say(2, &format!("debug information from {path}"));
                    Some(bytes)
                }
                // Another, further on, may be the image's.
                Err(why) => {
                    say(1, &format!("{path} is not used: {why}"));
                    None
                }
            }
        });
        Self { debug }
    }

    /// The image with what was found.
    pub(super) fn given_to<'d>(&'d self, mut image: Image<'d>) -> Image<'d> {
        if let Some(bytes) = &self.debug {
            image.take_debug_file(bytes);
        }
        image
    }
}
