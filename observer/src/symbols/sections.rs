//! The sections of an ELF file that debug information is in, unfolded where they are compressed.
//!
//! Does not know: what is in them.

use std::borrow::Cow;
use std::cell::Cell;

use gimli::EndianSlice;
use object::read::elf::ElfFile64;
use object::{CompressedData, CompressionFormat, LittleEndian, Object, ObjectSection};

/// What is read of a section.
pub(super) type Bytes<'a> = EndianSlice<'a, gimli::LittleEndian>;

/// Most bytes that one compressed section may unfold to, and all that are read together.
const LONGEST: u64 = 256 << 20;
const MOST: u64 = 512 << 20;
/// So many times its own size at most: compilers' sections become 3 to 13 times as long, made ones a thousand times.
const STEEPEST: u64 = 64;
/// Below this it does not matter.
const SHORT: u64 = 1 << 20;

/// What compressed sections may still unfold to.
pub(super) struct Room(Cell<u64>);

impl Room {
    pub(super) fn new() -> Self {
        Self(Cell::new(MOST))
    }

    /// Takes what a section unfolds to; `None` where it is too much.
    fn take(&self, section: &CompressedData<'_>) -> Option<()> {
        let (folded, size) = (section.data.len() as u64, section.uncompressed_size);
        if section.format == CompressionFormat::None {
            return Some(());
        }
        let most = folded.saturating_mul(STEEPEST).clamp(SHORT, LONGEST);
        let left = self.0.get().checked_sub(size).filter(|_| size <= most)?;
        self.0.set(left);
        Some(())
    }
}

/// The sections of one file.
pub(super) struct Sections<'d, 'r> {
    file: ElfFile64<'d, LittleEndian>,
    room: &'r Room,
}

impl<'d, 'r> Sections<'d, 'r> {
    /// `None` where the bytes are no ELF file.
    pub(super) fn of(bytes: &'d [u8], room: &'r Room) -> Option<Self> {
        Some(Self { file: ElfFile64::parse(bytes).ok()?, room })
    }

    /// Whether there is a section of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.file.section_by_name(name).is_some()
    }

    /// The content of a section; nothing where there is none that can be read, or it is too long.
    pub(super) fn named(&self, name: &str) -> Cow<'d, [u8]> {
        let section = self.compressed(name).filter(|section| self.room.take(section).is_some());
        section.and_then(|section| section.decompress().ok()).unwrap_or_default()
    }

    /// Whether a section is not read because it is compressed and becomes too long.
    pub(super) fn is_too_long(&self, name: &str) -> bool {
        self.compressed(name).is_some_and(|section| self.room.take(&section).is_none())
    }

    fn compressed(&self, name: &str) -> Option<CompressedData<'d>> {
        self.file.section_by_name(name)?.compressed_data().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(data: &[u8], uncompressed_size: u64) -> CompressedData<'_> {
        CompressedData { format: CompressionFormat::Zlib, data, uncompressed_size }
    }

    #[test]
    fn what_unfolds_to_more_than_a_section_or_all_of_them_may_is_not_unfolded() {
        let data = vec![0; 8 << 20];
        let (room, whole) = (Room::new(), 256 << 20);
        assert_eq!(room.take(&folded(&data, whole + 1)), None, "longer than any");
        assert_eq!(room.take(&folded(&data[..2 << 20], (128 << 20) + 1)), None, "steeper than any");
        assert_eq!([(); 2].map(|()| room.take(&folded(&data, whole))), [Some(()); 2]);
        assert_eq!(room.take(&folded(&data, 1)), None, "no room is left");
        assert_eq!(room.take(&CompressedData::none(&data)), Some(()), "which is no matter of what is there as it is");
    }

    #[test]
    fn a_short_section_may_be_all_of_one_byte() {
        assert_eq!(Room::new().take(&folded(&[0; 100], 1 << 20)), Some(()));
    }
}
