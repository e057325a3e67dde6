//! The file that debug information shares with that of other programs, as `dwz --multifile` leaves it in an image or its debug file: a
//! path, and the build id of that file (`.gnu_debugaltlink`).
//!
//! Does not know: where such files lie, what is in them.

use std::ops::Range;

use object::read::elf::{ElfFile64, NoteIterator};
use object::{LittleEndian, Object};

use super::build_id::in_notes;
use super::error::UNREADABLE;
use super::header::Header;
use super::part::section;
use super::sections::{Room, Sections};
use crate::model::BuildId;

const SECTION: &str = ".gnu_debugaltlink";
/// A longer path is no file's, and a longer id no linker's.
const LONGEST: usize = 4096;
const LONGEST_ID: usize = 64;
/// Where a shared file has its build id. It has nothing that is loaded, so no program header leads there.
const ID_SECTION: &[u8] = b".note.gnu.build-id";
/// A longer one is none; linkers write some forty bytes, and how they are aligned.
const LONGEST_NOTES: u64 = 1 << 16;
const NOTES_ALIGN: u64 = 4;

/// What is said of that file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AltLink {
    /// From the folder of the file that says so, if not from the root.
    pub path: String,
    /// Its build id.
    pub id: Vec<u8>,
}

/// Why a file is not the one that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotShared {
    /// No ELF file, or one that is cut short.
    #[error("{UNREADABLE}")]
    Unreadable,
    /// Another build id, or none.
    #[error("it is not what this debug information was made with (by its build id)")]
    Another,
}

impl AltLink {
    /// Of a file with debug information; `None` if it shares nothing.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let room = Room::new();
        let sections = Sections::of(bytes, &room)?;
        Self::parse(&sections.named(SECTION))
    }

    /// Whether a file is the one that is meant.
    pub fn check(&self, bytes: &[u8]) -> Result<(), NotShared> {
        let file = ElfFile64::<LittleEndian>::parse(bytes).map_err(|_| NotShared::Unreadable)?;
        let same = file.build_id().ok().flatten() == Some(&self.id[..]);
        if same { Ok(()) } else { Err(NotShared::Another) }
    }

    /// Whether it may be, by its headers and its build id alone; `read` gives a range of the file, whole or not at all.
    pub fn glance(&self, read: impl FnMut(Range<u64>) -> Option<Vec<u8>>) -> Result<(), NotShared> {
        let notes = section(read, ID_SECTION, LONGEST_NOTES);
        let notes = notes.as_deref().map(|notes| NoteIterator::<Header>::new(LittleEndian, NOTES_ALIGN, notes));
        match notes.and_then(|notes| in_notes(notes.ok()?)) {
            Some(BuildId::Gnu(id)) if id == self.id => Ok(()),
            Some(_) | None => Err(NotShared::Another),
        }
    }

    /// A path that ends with 0, and the id.
    fn parse(section: &[u8]) -> Option<Self> {
        let length = section.iter().take(LONGEST + 1).position(|byte| *byte == 0)?;
        let path = std::str::from_utf8(section.get(..length)?).ok()?;
        let id = section.get(length + 1..).filter(|id| (1..=LONGEST_ID).contains(&id.len()))?;
        (!path.is_empty()).then(|| Self { path: path.to_owned(), id: id.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::symbols::own;

    #[test]
    fn a_link_is_a_path_and_the_build_id_of_what_is_there() {
        let link = AltLink::parse(b"../.dwz/app.debug\0\x01\x02\xff").expect("a link");
        assert_eq!((link.path.as_str(), &link.id[..]), ("../.dwz/app.debug", &[1, 2, 0xff][..]));
        for wrong in [&b""[..], b"\0\x01", b"app.debug", b"app.debug\0", b"\xff\0\x01"] {
            assert_eq!(AltLink::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(AltLink::of(own::bytes()), None, "this program shares nothing");
    }

    #[test]
    fn only_the_file_with_this_build_id_is_the_one_that_is_meant() {
        let crate::model::BuildId::Gnu(id) = own::image().build_id() else { panic!("tests are linked with one") };
        let meant = AltLink { path: "a".into(), id: id.to_vec() };
        assert_eq!(meant.check(own::bytes()), Ok(()));
        assert_eq!(AltLink { id: vec![1; id.len()], ..meant.clone() }.check(own::bytes()), Err(NotShared::Another));
        assert_eq!(meant.check(b"\x7fELF"), Err(NotShared::Unreadable));
    }

    #[test]
    fn it_is_told_from_others_by_its_build_id_alone_without_the_rest_of_it() {
        let BuildId::Gnu(id) = own::image().build_id() else { panic!("tests are linked with one") };
        let meant = AltLink { path: "a".into(), id: id.to_vec() };
        let looked = |link: &AltLink| {
            let mut read = 0;
            let is_it = link.glance(|range| {
                let part = own::bytes().get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)?;
                read += part.len();
                Some(part.to_vec())
            });
            assert!(read < 1 << 16, "{read} bytes read of {}", own::bytes().len());
            is_it
        };
        assert_eq!(looked(&meant), Ok(()));
        assert_eq!(looked(&AltLink { id: vec![1; id.len()], ..meant.clone() }), Err(NotShared::Another));
        assert_eq!(meant.glance(|_| None), Err(NotShared::Another));
        // What dwz writes is not to be loaded.
        let mut relocatable = own::bytes().to_vec();
        relocatable[16] = 1;
        let part = |range: Range<u64>| Some(relocatable.get(range.start as usize..range.end as usize)?.to_vec());
        assert_eq!(meant.glance(part), Ok(()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(section in proptest::collection::vec(any::<u8>(), 0..300)) {
            AltLink::parse(&section);
        }
    }
}
