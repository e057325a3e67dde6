//! One section of an image of any size, of which nothing else is read but headers and the names of sections.
//!
//! Does not know: what is in it, where the image comes from.

use std::ops::Range;

use object::LittleEndian;
use object::elf;
use object::read::elf::SectionHeader;

use super::header::{Header, checked_header};

/// An image with more sections, or longer names of them, has none that is looked for; linkers write some forty.
const MOST_SECTIONS: u16 = 4096;
pub(super) const LONGEST_NAMES: u64 = 1 << 20;

/// The first section of this name, if it is no longer than that; `read` gives a range of the file, whole or not at all, and is never
/// asked for more than the longest of these.
pub(super) fn section(
    mut read: impl FnMut(Range<u64>) -> Option<Vec<u8>>,
    name: &[u8],
    longest: u64,
) -> Option<Vec<u8>> {
    let head = read(0..size_of::<Header>() as u64)?;
    let header = checked_header(&head).ok()?;
    let (start, count) = (header.e_shoff.get(LittleEndian), header.e_shnum.get(LittleEndian));
    let size = size_of::<elf::SectionHeader64<LittleEndian>>();
    let regular = usize::from(header.e_shentsize.get(LittleEndian)) == size && (1..=MOST_SECTIONS).contains(&count);
    let end = start.checked_add(u64::from(count) * size as u64).filter(|_| regular)?;
    let table = read(start..end)?;
    let (sections, _) =
        object::pod::slice_from_bytes::<elf::SectionHeader64<LittleEndian>>(&table, usize::from(count)).ok()?;
    let names = sections.get(usize::from(header.e_shstrndx.get(LittleEndian).0))?;
    let names = read(within(names, LONGEST_NAMES)?)?;
    let is_it = |section: &&elf::SectionHeader64<LittleEndian>| {
        let own = names.get(section.sh_name(LittleEndian) as usize..).unwrap_or_default();
        own.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0))
    };
    read(within(sections.iter().find(is_it)?, longest)?)
}

/// Where the section lies in the file, if it is no longer than that.
fn within(section: &elf::SectionHeader64<LittleEndian>, longest: u64) -> Option<Range<u64>> {
    let (start, size) = section.file_range(LittleEndian)?;
    Some(start..start.checked_add(size).filter(|_| size <= longest)?)
}
