//! The words that hold addresses once the image is loaded: relocated ones (`RELA`, `RELR`), and in images linked to a
//! fixed address those whose value is an address of the image.
//!
//! Does not know: what they point to.

use object::LittleEndian;
use object::elf;
use object::read::elf::RelrIterator;

use super::dynamic::Dynamic;
use super::{Image, ImageError};
use crate::model::VirtAddr;

/// One such word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer {
    /// Where the word is.
    pub at: VirtAddr,
    /// The link-time address it holds.
    pub to: VirtAddr,
}

/// All of an image, by place, one a place.
#[derive(Clone, Debug, Default)]
pub struct Pointers {
    sorted: Vec<Pointer>,
}

impl Pointers {
    /// The address held by the word at `at`.
    pub fn at(&self, at: VirtAddr) -> Option<VirtAddr> {
        let found = self.sorted.binary_search_by_key(&at, |p| p.at).ok()?;
        self.sorted.get(found).map(|p| p.to)
    }

    /// All, by place.
    pub fn as_slice(&self) -> &[Pointer] {
        &self.sorted
    }

    /// Those in a range of places.
    pub fn within(&self, places: std::ops::Range<VirtAddr>) -> &[Pointer] {
        let from = self.sorted.partition_point(|p| p.at < places.start);
        let to = self.sorted.partition_point(|p| p.at < places.end);
        self.sorted.get(from..to).unwrap_or_default()
    }

    pub(super) fn read(image: &Image<'_>, dynamic: Dynamic<'_>) -> Result<Self, ImageError> {
        let tables = Tables::read(dynamic);
        let mut found = Vec::new();
        tables.rela(image, &mut found)?;
        tables.relr(image, &mut found)?;
        if !image.is_pie() {
            fixed(image, &mut found);
        }
        found.sort_unstable();
        found.dedup_by_key(|p| p.at);
        Ok(Self { sorted: found })
    }
}

/// Where the dynamic section says that the relocations are: address and bytes.
#[derive(Default)]
struct Tables {
    rela: Option<(VirtAddr, usize)>,
    relr: Option<(VirtAddr, usize)>,
}

impl Tables {
    fn read(dynamic: Dynamic<'_>) -> Self {
        let table = |at, size| Some((VirtAddr(dynamic.value(at)?), usize::try_from(dynamic.value(size)?).ok()?));
        Self { rela: table(elf::DT_RELA, elf::DT_RELASZ), relr: table(elf::DT_RELR, elf::DT_RELRSZ) }
    }

    fn rela(&self, image: &Image<'_>, found: &mut Vec<Pointer>) -> Result<(), ImageError> {
        let Some((at, size)) = self.rela else { return Ok(()) };
        let table = image.slice_at(at, size).ok_or(ImageError::Truncated("relocations"))?;
        let (entries, _rest) = object::pod::slice_from_bytes::<elf::Rela64<LittleEndian>>(table, size / 24)
            .map_err(|()| ImageError::Malformed("its relocations are out of line"))?;
        found.extend(entries.iter().filter(|e| e.r_type(LittleEndian, false) == elf::R_X86_64_RELATIVE).map(|e| {
            Pointer {
                at: VirtAddr(e.r_offset.get(LittleEndian)),
                to: VirtAddr(e.r_addend.get(LittleEndian).cast_unsigned()),
            }
        }));
        Ok(())
    }

    fn relr(&self, image: &Image<'_>, found: &mut Vec<Pointer>) -> Result<(), ImageError> {
        let Some((at, size)) = self.relr else { return Ok(()) };
        let table = image.slice_at(at, size).ok_or(ImageError::Truncated("relocations"))?;
        let (entries, _rest) = object::pod::slice_from_bytes::<elf::Relr64<LittleEndian>>(table, size / 8)
            .map_err(|()| ImageError::Malformed("its relocations are out of line"))?;
        // Each entry stands for up to 63 words; a word takes 8 bytes of the file, so more than that is a lie.
        let most = found.len() + image.bytes().len() / 8;
        for place in RelrIterator::<super::header::Header>::new(LittleEndian, entries) {
            if found.len() >= most {
                return Err(ImageError::Malformed("it relocates more words than it has"));
            }
            let at = VirtAddr(place);
            if let Some(word) = image.word_at(at) {
                found.push(Pointer { at, to: VirtAddr(word) });
            }
        }
        Ok(())
    }
}

/// In an image linked to a fixed address the linker wrote the addresses itself: every aligned word that is one.
fn fixed(image: &Image<'_>, found: &mut Vec<Pointer>) {
    for segment in image.segments().iter().filter(|s| !s.is_executable()) {
        let addresses = segment.words(image).map(|(at, word)| Pointer { at, to: VirtAddr(word) });
        found.extend(addresses.filter(|p| image.segment_at(p.to).is_some()));
    }
}
