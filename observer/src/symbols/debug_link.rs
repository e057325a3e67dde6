//! The name of the file that an image's debug information was put into, as `objcopy --add-gnu-debuglink` leaves it in the image,
//! with a checksum of that file (`.gnu_debuglink`, see "Separate Debug Files" in GDB's manual).
//!
//! Does not know: where such files lie.

use std::fs::File;

use object::LittleEndian;
use object::elf;
use object::read::elf::FileHeader;
use object::read::{ReadCache, ReadRef};

/// A longer name is no file's.
const LONGEST: usize = 255;

/// What the image says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    /// A file name without folders.
    pub name: String,
    /// Of the file's content.
    crc: u32,
}

impl DebugLink {
    /// Of an image in a file, of which only the headers of sections, and this one, are read.
    pub fn in_file(file: &File) -> Option<Self> {
        Self::read(&ReadCache::new(file))
    }

    /// Of an image.
    pub(super) fn in_image(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes)
    }

    /// Whether this is the file that was meant.
    pub fn is_of(&self, content: &[u8]) -> bool {
        crc32fast::hash(content) == self.crc
    }

    fn read<'d>(image: impl ReadRef<'d>) -> Option<Self> {
        let header = elf::FileHeader64::<LittleEndian>::parse(image).ok()?;
        let sections = header.sections(LittleEndian, image).ok()?;
        let (_, section) = sections.section_by_name(LittleEndian, b".gnu_debuglink")?;
        Self::parse(object::read::elf::SectionHeader::data(section, LittleEndian, image).ok()?)
    }

    /// A name that ends with 0, filled up to four bytes, and the sum.
    fn parse(section: &[u8]) -> Option<Self> {
        let length = section.iter().take(LONGEST + 1).position(|byte| *byte == 0)?;
        let name = std::str::from_utf8(&section[..length]).ok()?;
        let crc = section.get((length + 1).next_multiple_of(4)..)?.first_chunk()?;
        let is_name = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        is_name.then(|| Self { name: name.to_owned(), crc: u32::from_le_bytes(*crc) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::symbols::own;

    #[test]
    fn a_link_is_a_name_and_a_sum() {
        let link = DebugLink::parse(b"app.debug\0\0\0\x26\x39\xf4\xcb").expect("a link");
        assert_eq!(link.name, "app.debug");
        // The check value of CRC-32/ISO-HDLC.
        assert!(link.is_of(b"123456789") && !link.is_of(b"12345678"));
    }

    #[test]
    fn what_leads_elsewhere_or_is_cut_short_is_no_link() {
        for wrong in
            [&b""[..], b"\0\0\0\0abcd", b"../app\0\0abcd", b"..\0\0abcd", b"app\0abc", b"app.debug", b"\xff\0\0\0abcd"]
        {
            assert_eq!(DebugLink::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(DebugLink::parse(&[b'a'; 4096]), None);
    }

    #[test]
    fn this_program_has_none() {
        let file = File::open(std::env::current_exe().expect("tests run from a file")).expect("it can be read");
        assert_eq!((DebugLink::in_file(&file), DebugLink::in_image(own::bytes())), (None, None));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(section in proptest::collection::vec(any::<u8>(), 0..300)) {
            DebugLink::parse(&section);
        }
    }
}
