//! The dynamic section (`PT_DYNAMIC`): what the loader is told.
//!
//! Does not know: relocations themselves, other images.

use object::LittleEndian;
use object::elf;
use object::read::elf::{Dyn, ProgramHeader};

use super::Image;
use super::header::ProgramHeaders;
use crate::model::VirtAddr;

/// Longest name of a needed library that is believed.
const LONGEST_NAME: usize = 4096;

/// Its entries up to the closing one; empty where the image has none (static, at a fixed address).
#[derive(Clone, Copy, Default)]
pub(super) struct Dynamic<'d> {
    entries: &'d [elf::Dyn64<LittleEndian>],
}

impl<'d> Dynamic<'d> {
    pub(super) fn read(bytes: &'d [u8], headers: ProgramHeaders<'d>) -> Self {
        let entries = headers.iter().find_map(|h| h.dynamic(LittleEndian, bytes).ok().flatten()).unwrap_or_default();
        let end = entries.iter().position(|e| e.tag(LittleEndian) == elf::DT_NULL).unwrap_or(entries.len());
        Self { entries: entries.get(..end).unwrap_or_default() }
    }

    /// The value of the first entry with this tag.
    pub(super) fn value(&self, tag: elf::DynamicTag) -> Option<u64> {
        self.entries.iter().find(|e| e.tag(LittleEndian) == tag).map(|e| e.val(LittleEndian))
    }

    /// The file names of the libraries that the loader maps with the image.
    pub(super) fn needed(&self, image: &Image<'d>) -> Vec<&'d str> {
        let Some(strings) = self.value(elf::DT_STRTAB) else { return Vec::new() };
        let name = |offset: u64| {
            let bytes = image.slice_from(VirtAddr(strings.checked_add(offset)?))?;
            let end = bytes.iter().take(LONGEST_NAME).position(|&b| b == 0)?;
            std::str::from_utf8(bytes.get(..end)?).ok()
        };
        let needed = self.entries.iter().filter(|e| e.tag(LittleEndian) == elf::DT_NEEDED);
        needed.filter_map(|e| name(e.val(LittleEndian))).collect()
    }
}
