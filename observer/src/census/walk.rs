//! Walking over all memory that only the process itself writes, in pieces, past what is not there.
//!
//! Does not know: what is looked for.

use crate::model::ProcAddr;
use crate::target::{AddressRange, Mapping, Memory, MemoryError, Pagemap, page_size};

/// Bytes read at once: what is copied is still in the cache when it is looked at.
const PIECE: usize = 512 << 10;
/// Below this a second thread does not pay.
const WORTH_TWO: u64 = 32 << 20;
/// Without a pagemap no more than this is read of one mapping, and in all: absent pages are read as zeros, slowly.
const BLIND_MAPPING: u64 = 1 << 30;
const BLIND_TOTAL: u64 = 8 << 30;
/// Pages in a row that cannot be read before the rest of a stretch is given up (a device's memory).
const PATIENCE: u64 = 1 << 16;

/// What a walk went over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Bytes read.
    pub bytes: u64,
    /// What is mapped and could not be read, or was left out for its size.
    pub unread: Vec<AddressRange>,
}

/// The stretches to walk over.
#[derive(Clone, Debug)]
pub struct Walk {
    stretches: Vec<AddressRange>,
    left_out: Vec<AddressRange>,
}

impl Walk {
    /// Over all private writable mappings, as far as their pages are there.
    pub fn new(maps: &[Mapping], pagemap: Option<&Pagemap>) -> Self {
        let mut walk = Self { stretches: Vec::new(), left_out: Vec::new() };
        let mut blind = 0;
        for range in maps.iter().filter(|mapping| mapping.is_private_writable()).map(|mapping| mapping.range) {
            match pagemap {
                Some(pagemap) => pagemap.populated(range, |run| walk.stretches.push(run)),
                None => {
                    let bytes = range.len().min(BLIND_MAPPING).min(BLIND_TOTAL - blind);
                    let middle = ProcAddr(range.start.0 + bytes);
                    blind += bytes;
                    walk.stretches.push(AddressRange { end: middle, ..range });
                    walk.left_out.push(AddressRange { start: middle, ..range });
                }
            }
        }
        walk.left_out.retain(|range| !range.is_empty());
        walk
    }

    /// Over these ranges only.
    pub fn over(ranges: impl IntoIterator<Item = AddressRange>) -> Self {
        Self { stretches: ranges.into_iter().collect(), left_out: Vec::new() }
    }

    /// In two parts of equal size, one behind the other, where that pays.
    pub fn parts(&self) -> Vec<Self> {
        let all: u64 = self.stretches.iter().map(AddressRange::len).sum();
        if all < WORTH_TWO {
            return vec![self.clone()];
        }
        let mut first = Self { stretches: Vec::new(), left_out: self.left_out.clone() };
        let mut second = Self { stretches: Vec::new(), left_out: Vec::new() };
        let mut room = all / 2 / page_size() * page_size();
        for stretch in &self.stretches {
            let middle = ProcAddr(stretch.start.0 + stretch.len().min(room));
            room -= middle.0 - stretch.start.0;
            first.stretches.push(AddressRange { end: middle, ..*stretch });
            second.stretches.push(AddressRange { start: middle, ..*stretch });
        }
        first.stretches.retain(|range| !range.is_empty());
        second.stretches.retain(|range| !range.is_empty());
        vec![first, second]
    }

    /// Gives every readable piece, in order of address. A piece is at most 512 KiB and never crosses a gap.
    pub fn run(&self, memory: &Memory<'_>, mut each: impl FnMut(ProcAddr, &[u8])) -> Result<Walked, MemoryError> {
        let mut walked = Walked { bytes: 0, unread: self.left_out.clone() };
        let longest = self.stretches.iter().map(AddressRange::len).max().unwrap_or(0);
        let mut bytes = vec![0; PIECE.min(usize::try_from(longest).unwrap_or(PIECE))];
        for stretch in &self.stretches {
            walk_stretch(*stretch, memory, &mut bytes, &mut walked, &mut each)?;
        }
        Ok(walked)
    }
}

fn walk_stretch(
    stretch: AddressRange,
    memory: &Memory<'_>,
    bytes: &mut [u8],
    walked: &mut Walked,
    each: &mut impl FnMut(ProcAddr, &[u8]),
) -> Result<(), MemoryError> {
    let page = page_size();
    let (mut at, mut failed) = (stretch.start, 0);
    while at < stretch.end {
        let rest = AddressRange { start: at, end: stretch.end };
        let wanted = usize::try_from(rest.len()).unwrap_or(bytes.len()).min(bytes.len());
        let read = memory.read(at, &mut bytes[..wanted])?;
        if read > 0 {
            each(at, &bytes[..read]);
            walked.bytes += read as u64;
            at.0 += read as u64;
            failed = 0;
        }
        if read < wanted {
            failed += 1;
            let skip = if failed >= PATIENCE { u64::MAX } else { page - at.0 % page };
            let end = ProcAddr(at.0.saturating_add(skip).min(stretch.end.0));
            match walked.unread.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => walked.unread.push(AddressRange { start: at, end }),
            }
            at = end;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pid;
    use crate::target::{Process, parse_maps};

    fn us() -> Process {
        Process::open(Pid(std::process::id())).unwrap()
    }

    #[test]
    fn goes_over_every_byte_once_in_pieces_of_bounded_size() {
        let bytes: Vec<u8> = (0..3 * PIECE + 12_345).map(|n| (n % 251) as u8).collect();
        let start = ProcAddr(bytes.as_ptr() as u64);
        let range = AddressRange { start, end: ProcAddr(start.0 + bytes.len() as u64) };
        let mut next = start;
        let each = |at: ProcAddr, piece: &[u8]| {
            assert!(at == next && piece.len() <= PIECE);
            let offset = (at.0 - start.0) as usize;
            assert!(piece == &bytes[offset..offset + piece.len()]);
            next.0 += piece.len() as u64;
        };
        let walked = Walk::over([range]).run(&us().memory(), each).unwrap();
        assert_eq!((walked.bytes, walked.unread.len(), next), (range.len(), 0, range.end));
    }

    #[test]
    fn what_cannot_be_read_is_passed_over_and_told() {
        let us = us();
        let page = page_size();
        let maps = us.maps().unwrap();
        // The last page of one mapping, three that are not there, and the first of the next.
        let gap = maps.windows(2).find(|pair| {
            let anonymous = |mapping: &Mapping| mapping.is_private_writable() && mapping.file.is_none();
            anonymous(&pair[0]) && pair[0].range.end.0 + 3 * page <= pair[1].range.start.0
        });
        let end = gap.unwrap()[0].range.end.0;
        let range = AddressRange { start: ProcAddr(end - page), end: ProcAddr(end + 3 * page) };
        let mut seen = Vec::new();
        let walked = Walk::over([range]).run(&us.memory(), |at, piece| seen.push((at, piece.len()))).unwrap();
        assert_eq!(seen, [(range.start, page as usize)]);
        let unread = AddressRange { start: ProcAddr(end), end: ProcAddr(end + 3 * page) };
        assert_eq!((walked.bytes, walked.unread), (page, vec![unread]));
    }

    #[test]
    fn only_private_writable_memory_is_walked_and_without_a_pagemap_no_more_than_the_bound() {
        let text = "\
10000-20000 r-xp 0 fe:00 7 /a
20000-30000 rw-p 0 fe:00 7 /a
30000-40000 rw-s 0 00:01 8 /memfd:x (deleted)
100000000-200000000 rw-p 0 00:00 0
";
        let walk = Walk::new(&parse_maps(text).unwrap(), None);
        let range = |start, end| AddressRange { start: ProcAddr(start), end: ProcAddr(end) };
        assert_eq!(walk.stretches, [range(0x20000, 0x30000), range(0x1_0000_0000, 0x1_4000_0000)]);
        assert_eq!(walk.left_out, [range(0x1_4000_0000, 0x2_0000_0000)]);
    }
}
