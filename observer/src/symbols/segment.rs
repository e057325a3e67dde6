//! One `PT_LOAD`: which file bytes are loaded where.
//!
//! Does not know: what they are.

use std::ops::Range;

use object::LittleEndian;
use object::elf;
use object::read::elf::ProgramHeader;

use super::header::ProgramHeaders;
use super::{Image, ImageError};
use crate::model::{FileOffset, LoadSegment, VirtAddr};

/// A loaded segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    start: u64,
    memory: u64,
    file: Range<usize>,
    executable: bool,
    writable: bool,
}

impl Segment {
    /// Every loaded segment, by address. Refuses what no linker writes: it would make later work unbounded.
    pub(super) fn loaded(headers: ProgramHeaders<'_>, file_len: usize) -> Result<Vec<Self>, ImageError> {
        let mut segments = headers
            .iter()
            .filter(|h| h.p_type(LittleEndian) == elf::PT_LOAD)
            .map(|h| Self::new(h, file_len))
            .collect::<Result<Vec<_>, _>>()?;
        segments.sort_by_key(|s| s.start);
        if segments.windows(2).any(|pair| pair[0].end() > pair[1].start()) {
            return Err(ImageError::Malformed("its segments overlap"));
        }
        // Linkers share a page between neighbours at most; more means the same bytes claimed again and again.
        let claimed = segments.iter().fold(0usize, |sum, s| sum.saturating_add(s.file.len()));
        if claimed > file_len.saturating_mul(2) {
            return Err(ImageError::Malformed("its segments claim the same bytes many times"));
        }
        Ok(segments)
    }

    fn new(header: &elf::ProgramHeader64<LittleEndian>, file_len: usize) -> Result<Self, ImageError> {
        let (offset, size) = header.file_range(LittleEndian);
        let start = header.p_vaddr(LittleEndian);
        let memory = header.p_memsz(LittleEndian).max(size);
        start.checked_add(memory).ok_or(ImageError::Malformed("a segment passes the end of memory"))?;
        let end = offset.checked_add(size).and_then(|end| usize::try_from(end).ok()).filter(|&end| end <= file_len);
        let (Some(end), Ok(offset)) = (end, usize::try_from(offset)) else {
            return Err(ImageError::Truncated("segments"));
        };
        let flags = header.p_flags(LittleEndian);
        Ok(Self {
            start,
            memory,
            file: offset..end,
            executable: flags.0 & elf::PF_X.0 != 0,
            writable: flags.0 & elf::PF_W.0 != 0,
        })
    }

    /// As the loader is told of it.
    pub fn load(&self) -> LoadSegment {
        LoadSegment { offset: FileOffset(self.file.start as u64), address: self.start(), executable: self.executable }
    }

    /// First address.
    pub fn start(&self) -> VirtAddr {
        VirtAddr(self.start)
    }

    /// First address behind it, zero-filled memory included.
    pub fn end(&self) -> VirtAddr {
        VirtAddr(self.start + self.memory)
    }

    /// Whether its memory holds the address.
    pub fn holds(&self, at: VirtAddr) -> bool {
        (self.start()..self.end()).contains(&at)
    }

    /// Its bytes in the file.
    pub fn file(&self) -> Range<usize> {
        self.file.clone()
    }

    /// Where the file has the byte of this address; `None` in the zero-filled part.
    pub fn offset_of(&self, at: VirtAddr) -> Option<FileOffset> {
        let inside = at.0.checked_sub(self.start).filter(|&n| n < self.file.len() as u64)?;
        Some(FileOffset(self.file.start as u64 + inside))
    }

    /// Every aligned word of its file part, with its place.
    pub fn words<'d>(&self, image: &Image<'d>) -> impl Iterator<Item = (VirtAddr, u64)> + use<'d> {
        let skipped = self.start.wrapping_neg() % 8;
        let first = self.start.saturating_add(skipped);
        let words = image.slice_from(VirtAddr(first)).unwrap_or_default().chunks_exact(8);
        words.enumerate().filter_map(move |(n, word)| {
            let at = first.checked_add(8 * n as u64)?;
            Some((VirtAddr(at), u64::from_le_bytes(word.try_into().ok()?)))
        })
    }

    /// May be executed.
    pub fn is_executable(&self) -> bool {
        self.executable
    }

    /// May be written (before `RELRO` takes a part of it back).
    pub fn is_writable(&self) -> bool {
        self.writable
    }
}
