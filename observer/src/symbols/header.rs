//! What stands first in an ELF file: its header, and the program headers that tell what of it is loaded where.
//!
//! Does not know: what is loaded.

use std::ops::Range;

use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, elf};

use super::error::ImageError;
use crate::model::VirtAddr;

pub(super) type Header = elf::FileHeader64<LittleEndian>;
pub(super) type ProgramHeaders<'d> = &'d [elf::ProgramHeader64<LittleEndian>];

/// The file header, if it is one of x86-64: a file of debug information that programs share is not to be loaded (`dwz` calls it
/// relocatable).
pub(super) fn checked_header(bytes: &[u8]) -> Result<&Header, ImageError> {
    if bytes.get(..4) != Some(&elf::ELFMAG) {
        return Err(ImageError::NotElf);
    }
    match bytes.get(4) {
        Some(2) => {}
        Some(1) => return Err(ImageError::Not64Bit),
        Some(_) => return Err(ImageError::Malformed("its class is neither 32 nor 64 bit")),
        None => return Err(ImageError::Truncated("file header")),
    }
    match bytes.get(5) {
        Some(1) => {}
        Some(_) => return Err(ImageError::NotLittleEndian),
        None => return Err(ImageError::Truncated("file header")),
    }
    if bytes.len() < size_of::<Header>() {
        return Err(ImageError::Truncated("file header"));
    }
    let header = Header::parse(bytes).map_err(|_| ImageError::Malformed("its file header"))?;
    let machine = header.e_machine(LittleEndian);
    if machine != elf::EM_X86_64 {
        return Err(ImageError::OtherMachine(machine.0));
    }
    Ok(header)
}

/// The same of an image that can be loaded.
pub(super) fn loadable_header(bytes: &[u8]) -> Result<&Header, ImageError> {
    let header = checked_header(bytes)?;
    let kind = header.e_type(LittleEndian);
    if kind != elf::ET_DYN && kind != elf::ET_EXEC {
        return Err(ImageError::NotLoadable(kind.0));
    }
    Ok(header)
}

/// What the loader makes read-only after relocation (`PT_GNU_RELRO`); empty where nothing is.
pub(super) fn frozen(headers: ProgramHeaders<'_>) -> Range<VirtAddr> {
    let header = headers.iter().find(|h| h.p_type(LittleEndian) == elf::PT_GNU_RELRO);
    let range = header.map(|h| {
        let start = h.p_vaddr(LittleEndian);
        VirtAddr(start)..VirtAddr(start.saturating_add(h.p_memsz(LittleEndian)))
    });
    range.unwrap_or_default()
}

/// Address and file range of the first program header of this type.
pub(super) fn header_range(headers: ProgramHeaders<'_>, kind: elf::ProgramType) -> Option<(VirtAddr, Range<u64>)> {
    let header = headers.iter().find(|h| h.p_type(LittleEndian) == kind)?;
    let (start, size) = header.file_range(LittleEndian);
    Some((VirtAddr(header.p_vaddr(LittleEndian)), start..start.checked_add(size)?))
}
