//! One CPU's perf ring: memory that the kernel fills with entries and this side empties.
//!
//! aya's own is not used, because it wakes its reader at every record, which costs the target more than the probe does;
//! this one wakes at a quarter of its size, and its reader polls in between. Does not know what an entry says.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::entry::{Entry, HEADER, Header, Kind};
use super::{PerfError, Source};

/// Where the kernel says how far it has written: `data_head` of `struct perf_event_mmap_page`, its first page.
const HEAD_AT: usize = 1024;
/// Where it is told how far was read: `data_tail`.
const TAIL_AT: usize = 1032;

/// One ring.
pub struct Ring {
    cpu: u32,
    fd: OwnedFd,
    /// How many entries were said to have had no room; `None` where the kernel does not tell when it is asked.
    lost: Option<u64>,
    /// It was so full that entries may have had no room.
    was_full: bool,
    /// One page of positions, then `size` bytes of ring.
    memory: NonNull<u8>,
    page: usize,
    size: usize,
    /// An entry that wraps around the end is put together here.
    joined: Vec<u8>,
}

// SAFETY: the mapping is this value's own, and reading it takes `&mut self`.
unsafe impl Send for Ring {}

/// Rings are not made smaller than this: a record of a spawner with its stack takes up to eight pages.
const LEAST_PAGES: usize = 16;

/// `PERF_EVENT_IOC_ENABLE` and `PERF_EVENT_IOC_DISABLE` of Linux's `include/uapi/linux/perf_event.h`: `_IO('$', 0)` and 1.
const ENABLE: libc::Ioctl = 0x2400;
const DISABLE: libc::Ioctl = 0x2401;

impl Ring {
    /// Opens a ring for each of these CPUs. Where so much memory may not be locked, in the largest size that may: gives the
    /// size, pages, too.
    pub fn open_each(source: Source, cpus: &[u32], pages: usize) -> Result<(Vec<Self>, usize), PerfError> {
        let mut pages = pages;
        loop {
            let opened: Result<Vec<Self>, PerfError> = cpus.iter().map(|cpu| Self::open(source, *cpu, pages)).collect();
            match opened {
                Err(PerfError::LockedMemory { .. }) if pages > LEAST_PAGES => pages /= 2,
                opened => return opened.map(|rings| (rings, pages)),
            }
        }
    }

    /// Opens the ring of `cpu` with `pages` pages, a power of two, for all processes.
    pub fn open(source: Source, cpu: u32, pages: usize) -> Result<Self, PerfError> {
        // SAFETY: no pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let size = match pages.checked_mul(page) {
            Some(size) if pages.is_power_of_two() && size <= 1 << 30 => size,
            _ => return Err(PerfError::RingSize { pages }),
        };
        let (fd, tells) =
            source.open(cpu, (size / 4) as u32).map_err(|error| PerfError::refused(source.what(), error))?;
        // SAFETY: a new mapping of the length that a perf event of this size has; nothing is overwritten.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                page + size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            let source = io::Error::last_os_error();
            // EPERM is what the kernel says to too many locked pages, too.
            return Err(PerfError::LockedMemory { what: "map a perf ring", source });
        }
        let Some(memory) = NonNull::new(memory.cast()) else {
            return Err(PerfError::System { what: "map a perf ring", source: io::ErrorKind::InvalidData.into() });
        };
        let lost = tells.then_some(0);
        Ok(Self { cpu, fd, lost, was_full: false, memory, page, size, joined: Vec::new() })
    }

    /// The CPU it belongs to.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Its event fills it from now on, or does not and costs nobody anything. From the first on it does.
    pub fn set_filling(&self, fills: bool) -> Result<(), PerfError> {
        let request = if fills { ENABLE } else { DISABLE };
        // SAFETY: the request takes no argument.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), request, 0) } {
            0 => Ok(()),
            _ => Err(PerfError::System { what: "begin or end an event", source: io::Error::last_os_error() }),
        }
    }

    /// Gives every entry there is to `sink`, oldest first, and its room back to the kernel.
    pub fn drain(&mut self, sink: &mut dyn FnMut(Entry<'_>)) {
        let head = self.head().load(Ordering::Acquire);
        // Only this side writes it.
        let mut tail = self.tail().load(Ordering::Relaxed);
        self.was_full |= (head - tail) * 2 > self.size as u64;
        while tail < head {
            let unread = head - tail;
            let header = Header::at(self.bytes(tail, HEADER));
            // The kernel never writes such an entry; without this, one would stop us here for ever.
            if (header.size as usize) < HEADER || u64::from(header.size) > unread {
                tail = head;
                break;
            }
            let bytes = self.bytes(tail, header.size as usize);
            sink(Entry { kind: Kind::from_number(header.kind), misc: header.misc, body: &bytes[HEADER..] });
            tail += u64::from(header.size);
            // Room is given back in parts, so that the kernel can go on writing while a long ring is read.
            if tail & (self.size as u64 / 4 - 1) < u64::from(header.size) {
                self.give_back(tail);
            }
        }
        self.give_back(tail);
    }
}

impl Ring {
    /// Whether [`Ring::lost`] tells.
    pub fn tells_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// How many entries have had no room since this was last asked; `None` where only entries that come later tell.
    ///
    /// Asked of the kernel only when the ring was half full: its answer may wake the ring's CPU.
    pub fn lost(&mut self) -> Option<u64> {
        let known = self.lost?;
        if !std::mem::take(&mut self.was_full) {
            return Some(0);
        }
        let mut words = [0u64; 2];
        // SAFETY: the call writes at most as many bytes as there are.
        let read = unsafe { libc::read(self.fd.as_raw_fd(), words.as_mut_ptr().cast(), size_of_val(&words)) };
        if usize::try_from(read) != Ok(size_of_val(&words)) {
            self.was_full = true;
            return Some(0);
        }
        // The event's count, then that of what it lost.
        let [_, all] = words;
        self.lost = Some(all);
        Some(all.saturating_sub(known))
    }
}

impl Ring {
    /// How far the kernel has written. It publishes with a release: the entries before are readable after an acquire.
    fn head(&self) -> &AtomicU64 {
        // SAFETY: aligned and within the mapping, which lives as long as the borrow; the kernel writes it as a whole.
        unsafe { AtomicU64::from_ptr(self.memory.as_ptr().add(HEAD_AT).cast()) }
    }

    /// How far was read.
    fn tail(&self) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.memory.as_ptr().add(TAIL_AT).cast()) }
    }

    fn give_back(&mut self, tail: u64) {
        // Released, so that the kernel overwrites nothing that is still being read.
        self.tail().store(tail, Ordering::Release);
    }

    /// The `length` published bytes at `position`, in one piece. `length` is at most the ring's size.
    fn bytes(&mut self, position: u64, length: usize) -> &[u8] {
        let from = position as usize & (self.size - 1);
        let first = length.min(self.size - from);
        // SAFETY: the ring begins behind the first page and is `size` long; the kernel leaves published bytes alone
        // until `give_back`, which takes `&mut self` and so waits for this borrow.
        let (piece, rest) = unsafe {
            let ring = self.memory.as_ptr().add(self.page);
            (std::slice::from_raw_parts(ring.add(from), first), std::slice::from_raw_parts(ring, length - first))
        };
        if rest.is_empty() {
            return piece;
        }
        self.joined.clear();
        self.joined.extend_from_slice(piece);
        self.joined.extend_from_slice(rest);
        &self.joined
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: this mapping, with the length it was made with; nothing borrows from it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.page + self.size) };
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_size_that_is_no_power_of_two_is_refused() {
        for pages in [0, 3, 1 << 40] {
            for source in [Source::BpfOutput, Source::SideBand] {
                let refused = Ring::open(source, 0, pages);
                assert!(matches!(refused, Err(PerfError::RingSize { pages: said }) if said == pages));
            }
        }
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        for source in [Source::BpfOutput, Source::SideBand] {
            assert!(Ring::open(source, u32::MAX, 1).is_err());
            assert!(Ring::open(source, 1 << 20, 1).is_err());
        }
    }
}
