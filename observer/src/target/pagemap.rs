//! `/proc/PID/pagemap`: which pages of a range are there at all, so that a large reservation costs nothing to skip.
//!
//! Does not know: what is in the pages.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::syscall::page_size;
use crate::model::{AddressRange, ProcAddr};

/// Bits of an entry, `Documentation/admin-guide/mm/pagemap.rst`.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// Nobody can read it or write to it (`MADV_GUARD_INSTALL`, which glibc 2.42 makes its stacks' ends with; said since 6.15).
const GUARD: u64 = 1 << 58;
/// Entries read at once: half a megabyte, for 256 MiB of addresses with 4 KiB pages.
const BATCH: usize = 1 << 16;

/// The file, opened.
#[derive(Debug)]
pub struct Pagemap {
    file: File,
    page: u64,
}

impl Pagemap {
    pub(super) fn new(file: File) -> Self {
        Self { file, page: page_size() }
    }

    /// Gives every stretch of the range whose pages are in memory or swapped out, in order; guards are neither. Where the file cannot be
    /// read, gives all that is left of the range: reading an absent page is slow, missing a present one is wrong.
    pub fn populated(&self, range: AddressRange, mut each: impl FnMut(AddressRange)) {
        let mut runs = Runs { page: self.page, open: None };
        let mut bytes = vec![0; 8 * BATCH];
        let (mut next, end) = (range.start.0 / self.page, range.end.0.div_ceil(self.page));
        while next < end {
            let wanted = usize::try_from(end - next).unwrap_or(BATCH).min(BATCH);
            let read = self.file.read_at(&mut bytes[..8 * wanted], next * 8).unwrap_or(0) / 8;
            if read == 0 {
                runs.close(&mut each);
                return each(AddressRange { start: ProcAddr(next * self.page), end: range.end });
            }
            let entries = bytes.chunks_exact(8).take(read).map(|entry| entry.try_into().unwrap_or_default());
            for (page, entry) in (next..).zip(entries.map(u64::from_ne_bytes)) {
                runs.add(page, entry, &mut each);
            }
            next += read as u64;
        }
        runs.close(&mut each);
    }
}

/// Joins neighbouring populated pages.
struct Runs {
    page: u64,
    open: Option<AddressRange>,
}

impl Runs {
    fn add(&mut self, page: u64, entry: u64, each: &mut impl FnMut(AddressRange)) {
        let at = ProcAddr(page * self.page);
        let is_there = entry & (PRESENT | SWAPPED) != 0 && entry & GUARD == 0;
        match (&mut self.open, is_there) {
            (Some(open), true) if open.end == at => open.end.0 += self.page,
            (_, true) => {
                self.close(each);
                self.open = Some(AddressRange { start: at, end: ProcAddr(at.0 + self.page) });
            }
            (_, false) => self.close(each),
        }
    }

    fn close(&mut self, each: &mut impl FnMut(AddressRange)) {
        if let Some(open) = self.open.take() {
            each(open);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pid;
    use crate::target::Process;

    fn runs_of(entries: &[u64]) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        let mut each = |range: AddressRange| found.push((range.start.0, range.end.0));
        let mut runs = Runs { page: 0x1000, open: None };
        for (page, entry) in (16..).zip(entries) {
            runs.add(page, *entry, &mut each);
        }
        runs.close(&mut each);
        found
    }

    #[test]
    fn neighbouring_present_and_swapped_pages_are_one_stretch() {
        assert_eq!(runs_of(&[]), []);
        assert_eq!(runs_of(&[0, 0]), []);
        assert_eq!(runs_of(&[PRESENT, SWAPPED, 0, PRESENT]), [(0x10000, 0x12000), (0x13000, 0x14000)]);
        assert_eq!(runs_of(&[0, PRESENT | 5, PRESENT]), [(0x11000, 0x13000)]);
        assert_eq!(runs_of(&[PRESENT, SWAPPED | GUARD, PRESENT]), [(0x10000, 0x11000), (0x12000, 0x13000)]);
    }

    #[test]
    fn of_a_large_reservation_only_the_touched_pages_are_given() {
        // Zeroed pages that the allocator takes fresh from the kernel, and that nobody has touched.
        let (size, page) = (64 << 20, page_size());
        let mut memory = vec![0u8; size];
        let first = (memory.as_ptr() as u64).next_multiple_of(page);
        let inside = |page_index: u64| (first - memory.as_ptr() as u64 + page_index * page) as usize;
        let touched = [3u64, 4, 5, 9000];
        for offset in touched.map(inside) {
            std::hint::black_box(&mut memory)[offset] = 1;
        }
        let range = AddressRange { start: ProcAddr(first), end: ProcAddr(first + 10_000 * page) };
        let mut found = 0;
        let mut covered: Vec<u64> = Vec::new();
        let us = Process::open(Pid(std::process::id())).unwrap();
        us.pagemap().unwrap().populated(range, |run| {
            found += run.len() / page;
            covered.extend(touched.iter().filter(|index| run.contains(ProcAddr(first + **index * page))));
        });
        assert_eq!(covered, touched);
        // With transparent huge pages a touch brings in 512 pages.
        assert!(found <= 3 * 512, "{found} pages");
    }
}
