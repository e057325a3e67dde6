//! The name of the file that an image's debug information was put into, as `objcopy --add-gnu-debuglink` leaves it in the image,
//! with a checksum of that file (`.gnu_debuglink`, see "Separate Debug Files" in GDB's manual).
//!
//! Does not know: where such files lie.

use std::ops::Range;

use super::part::section;

/// A longer name is no file's.
const LONGEST: usize = 255;
const SECTION: &[u8] = b".gnu_debuglink";

/// What the image says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    /// A file name without folders.
    pub name: String,
    /// Of the file's content.
    crc: u32,
}

impl DebugLink {
    /// Of an image of which only the headers of sections, their names and this one are read; `read` gives a range of the file, whole or
    /// not at all, and is never asked for more than a MiB.
    pub fn of(read: impl FnMut(Range<u64>) -> Option<Vec<u8>>) -> Option<Self> {
        // The name, its end, up to three bytes more, and the sum.
        Self::parse(&section(read, SECTION, LONGEST as u64 + 8)?)
    }

    /// Whether this is the file that was meant.
    pub fn is_of(&self, content: &[u8]) -> bool {
        crc32fast::hash(content) == self.crc
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
    use crate::symbols::header::Header;
    use crate::symbols::own;
    use crate::symbols::part::LONGEST_NAMES;

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

    fn of(bytes: &[u8]) -> Option<DebugLink> {
        DebugLink::of(|range| {
            assert!(range.end - range.start <= LONGEST_NAMES, "{range:?} is much");
            Some(bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)?.to_vec())
        })
    }

    /// An image with one section of names and this one.
    fn linked(section: &[u8]) -> Vec<u8> {
        let mut bytes = own::bytes()[..size_of::<Header>()].to_vec();
        let names = [&b"\0"[..], SECTION, b"\0"].concat();
        let (names_at, section_at) = (64_u64, 64 + names.len() as u64);
        let table_at = section_at + section.len() as u64;
        bytes.extend([&names, section].concat());
        for (name, at, size) in [(0, names_at, names.len()), (1, section_at, section.len())] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&u32::to_le_bytes(name));
            header[4..8].copy_from_slice(&1_u32.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&at.to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
            bytes.extend(header);
        }
        bytes[0x28..0x30].copy_from_slice(&table_at.to_le_bytes());
        bytes[0x3a..0x40].copy_from_slice(&[64, 0, 2, 0, 0, 0]);
        bytes
    }

    #[test]
    fn an_image_with_such_a_section_says_its_link_and_this_program_has_none() {
        assert_eq!(of(&linked(b"a.debug\0abcd")).map(|link| link.name), Some("a.debug".to_owned()));
        assert_eq!(of(own::bytes()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(section in proptest::collection::vec(any::<u8>(), 0..300)) {
            DebugLink::parse(&section);
        }

        #[test]
        fn no_headers_panic_or_ask_for_much(changes in proptest::collection::vec((0..256_usize, any::<u8>()), 0..24)) {
            let mut bytes = linked(b"a.debug\0abcd");
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            of(&bytes);
        }
    }
}
