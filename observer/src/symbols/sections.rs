//! The sections of an ELF file that debug information is in, unfolded where they are compressed.
//!
//! Does not know: what is in them.

use std::borrow::Cow;
use std::cell::Cell;

use gimli::EndianSlice;
use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection};

/// What is read of a section.
pub(super) type Bytes<'a> = EndianSlice<'a, gimli::LittleEndian>;

/// Most bytes that one compressed section may unfold to, and all that are read together.
const LONGEST: u64 = 1 << 30;
const MOST: u64 = 4 << 30;

/// What compressed sections may still unfold to.
pub(super) struct Room(Cell<u64>);

impl Room {
    pub(super) fn new() -> Self {
        Self(Cell::new(MOST))
    }

    fn take(&self, size: u64) -> Option<()> {
        let left = self.0.get().checked_sub(size).filter(|_| size <= LONGEST)?;
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

    /// The content of a section; nothing where there is none that can be read.
    pub(super) fn named(&self, name: &str) -> Cow<'d, [u8]> {
        let section = self.file.section_by_name(name).and_then(|section| section.compressed_data().ok());
        let section = section.filter(|section| {
            section.format == object::CompressionFormat::None || self.room.take(section.uncompressed_size).is_some()
        });
        section.and_then(|section| section.decompress().ok()).unwrap_or_default()
    }
}
