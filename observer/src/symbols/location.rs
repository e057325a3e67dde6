//! `core::panic::Location` constants: source places that survive `strip`, because a panic prints them.
//!
//! Does not know: who refers to one. Mirrors the layout of rustc 1.50 to 1.97: file pointer, file length, line, column.
//! With 1.89 the length counts a NUL at the path's end, too.

use super::Image;
use crate::model::VirtAddr;

/// Bytes of a `Location`.
const SIZE: usize = 24;
/// Longest path, last line and last column that are believed.
const LONGEST_PATH: u64 = 4096;
const LAST_LINE: u32 = 1 << 20;
const LAST_COLUMN: u32 = 1 << 16;

/// A place in the source, as the compiler wrote it into the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location<'d> {
    /// Path as the compiler was given it.
    pub file: &'d str,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

impl<'d> Location<'d> {
    /// Reads the constant at this address; `None` if what is there cannot be one.
    pub fn read(image: &Image<'d>, at: VirtAddr) -> Option<Self> {
        let bytes = image.slice_at(at, SIZE)?;
        let number = |n: usize| bytes.get(n..)?.first_chunk::<4>().map(|b| u32::from_le_bytes(*b));
        let length = u64::from_le_bytes(*bytes.get(8..)?.first_chunk::<8>()?);
        let (line, column) = (number(16)?, number(20)?);
        let plausible = (4..=LONGEST_PATH).contains(&length)
            && (1..=LAST_LINE).contains(&line)
            && (1..=LAST_COLUMN).contains(&column);
        let path = image.slice_at(image.pointer_at(at)?, usize::try_from(length).ok()?).filter(|_| plausible)?;
        let file = std::str::from_utf8(path.strip_suffix(b"\0").unwrap_or(path)).ok()?;
        (file.ends_with(".rs") && !file.contains(char::is_control)).then_some(Self { file, line, column })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::tiny::{DATA, Tiny};

    #[test]
    fn a_path_is_read_with_and_without_the_nul_that_one_compiler_counts() {
        let read = |path: &[u8]| {
            let words = [0, path.len() as u64, 640 | 5 << 32];
            let data = [&words.map(u64::to_le_bytes).concat()[..], path, b"more"].concat();
            let mut tiny = Tiny::new(&[0xc3], &data);
            tiny.relocated.push((DATA, DATA + 24));
            let bytes = tiny.build();
            let image = Image::parse(&bytes).expect("tiny images are images");
            let read = Location::read(&image, VirtAddr(DATA));
            read.map(|place| (place.file.to_owned(), place.line, place.column))
        };
        assert_eq!(read(b"src/workers.rs"), Some(("src/workers.rs".to_owned(), 640, 5)));
        assert_eq!(read(b"src/workers.rs\0"), Some(("src/workers.rs".to_owned(), 640, 5)), "of rustc 1.89");
        assert_eq!(read(b"src/workers.rs\0\0"), None);
        assert_eq!(read(b"src\0workers.rs"), None);
    }

    #[test]
    fn the_locations_of_the_own_binary_read_as_the_language_says_them() {
        let here = std::panic::Location::caller();
        let bytes = std::fs::read(std::env::current_exe().expect("a file")).expect("readable");
        let image = Image::parse(&bytes).expect("an image");
        let read: Vec<_> = image.pointers().as_slice().iter().filter_map(|p| Location::read(&image, p.at)).collect();
        let wanted = Location { file: here.file(), line: here.line(), column: here.column() };
        assert!(read.contains(&wanted), "{wanted:?} among {} locations", read.len());
    }
}
