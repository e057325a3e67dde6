//! An image's identity and layout from its headers and notes alone: a few kilobytes of a file of any size.
//!
//! Does not know: where they come from; each part is asked for by its place in the file.

use std::ops::Range;

use object::LittleEndian;
use object::elf;
use object::read::elf::{NoteIterator, ProgramHeader};

use super::ImageError;
use super::build_id::in_notes;
use super::header::{Header, loadable_header};
use crate::model::{BuildId, FileOffset, LoadSegment, VirtAddr, content_hash};

/// An image with more program headers is looked at whole; linkers write some ten.
const MOST_HEADERS: u16 = 256;
/// A segment of notes that is longer is not read for an identity; linkers write some hundred bytes.
const LONGEST_NOTES: u64 = 1 << 16;

/// What the headers of an image tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// What a linker wrote; `None` where there is no build id.
    pub build_id: Option<BuildId>,
    /// As [`super::Image::segments`] has them.
    pub segments: Vec<LoadSegment>,
    /// A hash of the file header and the program headers.
    pub headers: u64,
}

impl Glance {
    /// Reads them; `read` gives a range of the file, whole or not at all. An error is the one that reading the whole image
    /// would give; `None` is where only that tells more.
    pub fn of(mut read: impl FnMut(Range<u64>) -> Option<Vec<u8>>) -> Result<Option<Self>, ImageError> {
        let Some(head) = read(0..size_of::<Header>() as u64) else { return Ok(None) };
        let header = loadable_header(&head)?;
        let (start, count) = (header.e_phoff.get(LittleEndian), header.e_phnum.get(LittleEndian));
        let size = size_of::<elf::ProgramHeader64<LittleEndian>>();
        let regular = usize::from(header.e_phentsize.get(LittleEndian)) == size && (1..=MOST_HEADERS).contains(&count);
        let end = start.checked_add(u64::from(count) * size as u64).filter(|_| regular);
        let Some(table) = end.and_then(|end| read(start..end)) else { return Ok(None) };
        let headers = object::pod::slice_from_bytes::<elf::ProgramHeader64<LittleEndian>>(&table, usize::from(count));
        let Ok((headers, _)) = headers else { return Ok(None) };
        let mut build_id = None;
        for header in headers.iter().filter(|header| header.p_type(LittleEndian) == elf::PT_NOTE) {
            let (start, size) = header.file_range(LittleEndian);
            let Some(end) = start.checked_add(size) else { continue };
            if size > LONGEST_NOTES {
                return Ok(None);
            }
            // Notes that lie beyond the file's end are none, as for who reads the whole file.
            let Some(notes) = read(start..end) else { continue };
            let notes = NoteIterator::<Header>::new(LittleEndian, header.p_align(LittleEndian), &notes);
            build_id = notes.ok().and_then(in_notes);
            if build_id.is_some() {
                break;
            }
        }
        let mut segments: Vec<LoadSegment> =
            headers.iter().filter(|header| header.p_type(LittleEndian) == elf::PT_LOAD).map(load).collect();
        segments.sort_by_key(|segment| segment.address);
        Ok(Some(Self { build_id, segments, headers: content_hash(&[head, table].concat()) }))
    }
}

fn load(header: &elf::ProgramHeader64<LittleEndian>) -> LoadSegment {
    LoadSegment {
        offset: FileOffset(header.p_offset(LittleEndian)),
        address: VirtAddr(header.p_vaddr(LittleEndian)),
        executable: header.p_flags(LittleEndian).0 & elf::PF_X.0 != 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::symbols::tiny::Tiny;
    use crate::symbols::{Image, Segment, own};

    /// Looks at bytes as at a file; gives how many of them were read, too.
    fn glance(bytes: &[u8]) -> (Result<Option<Glance>, ImageError>, usize) {
        let mut read = 0;
        let glance = Glance::of(|range| {
            let part = bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)?;
            read += part.len();
            Some(part.to_vec())
        });
        (glance, read)
    }

    /// What is said from a glance is what the whole image says.
    fn assert_agrees(bytes: &[u8]) {
        let whole = Image::parse(bytes);
        match (glance(bytes).0, whole) {
            (Err(error), whole) => assert_eq!(whole.map(|_| ()), Err(error)),
            (Ok(Some(glance)), Ok(image)) => {
                let noted = Some(image.build_id().clone()).filter(|id| matches!(id, BuildId::Gnu(_)));
                assert_eq!(glance.build_id, noted);
                assert_eq!(glance.segments, image.segments().iter().map(Segment::load).collect::<Vec<_>>());
            }
            (Ok(None), _) | (Ok(Some(_)), Err(_)) => {}
        }
    }

    #[test]
    fn a_glance_at_this_program_tells_what_the_whole_of_it_tells() {
        let (found, read) = glance(own::bytes());
        assert!(found.expect("it is an image").is_some());
        assert!(read < 1 << 16, "{read} bytes read of {}", own::bytes().len());
        assert_agrees(own::bytes());
    }

    #[test]
    fn an_image_without_notes_has_no_build_id() {
        let bytes = Tiny::new(&[0xc3], &[0; 8]).build();
        let found = glance(&bytes).0.expect("it is an image").expect("a regular one");
        assert_eq!((found.build_id, found.segments.len()), (None, 3));
        assert_agrees(&bytes);
    }

    #[test]
    fn what_is_no_image_is_told_by_its_first_bytes() {
        assert_eq!(glance(&[b'#'; 100]).0, Err(ImageError::NotElf));
        assert_eq!(glance(b"\x7fELF").0, Ok(None), "too short for a glance");
    }

    proptest! {
        #[test]
        fn no_headers_panic_or_disagree(changes in proptest::collection::vec((0..1024usize, any::<u8>()), 0..16)) {
            let mut bytes = own::bytes()[..1 << 16].to_vec();
            let mut tiny = Tiny::new(&[0xc3], &[0; 8]).build();
            for (at, value) in changes {
                bytes[at] = value;
                let at = at % 512;
                tiny[at] = value;
            }
            let _ = glance(&bytes);
            assert_agrees(&tiny);
        }
    }
}
