//! One CPU's perf ring: memory that the kernel fills with records and this side empties.
//!
//! aya's own is not used, because it wakes its reader at every record, which costs the target more than the probe does;
//! this one wakes at a quarter of its size, and its reader polls in between. Does not know what a record says.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya_obj::generated::{perf_event_header, perf_event_mmap_page, perf_event_type};

use super::{AttachError, kernel};

/// Programs write whole 8-byte words; the kernel puts a 4-byte length before them and pads the sum to 8 bytes.
const RECORD_ALIGN: usize = 8;
/// Header of what the kernel puts into the ring.
const HEADER: usize = size_of::<perf_event_header>();
/// Where the number is in a "lost" entry: behind header and event id.
const LOST_AT: usize = HEADER + 8;

/// Rings are not made smaller than this: a record of a spawner with its stack takes up to eight pages.
const LEAST_PAGES: usize = 16;

/// One ring.
pub struct Ring {
    cpu: u32,
    fd: OwnedFd,
    /// One page of positions, then `size` bytes of ring.
    memory: NonNull<u8>,
    page: usize,
    size: usize,
    /// An entry that wraps around the end is put together here.
    joined: Vec<u8>,
}

// SAFETY: the mapping is this value's own, and reading it takes `&mut self`.
unsafe impl Send for Ring {}

impl Ring {
    /// Opens the ring of `cpu` with `pages` pages, a power of two.
    pub(super) fn open(cpu: u32, pages: usize) -> Result<Self, AttachError> {
        // SAFETY: no pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let size = match pages.checked_mul(page) {
            Some(size) if pages.is_power_of_two() && size <= 1 << 30 => size,
            _ => return Err(AttachError::RingSize { pages }),
        };
        let fd = kernel::open_bpf_output(cpu, (size / 4) as u32)
            .map_err(|error| AttachError::refused("open a perf ring", error))?;
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
            return Err(AttachError::LockedMemory { what: "map a perf ring", source });
        }
        let Some(memory) = NonNull::new(memory.cast()) else {
            return Err(AttachError::System { what: "map a perf ring", source: io::ErrorKind::InvalidData.into() });
        };
        Ok(Self { cpu, fd, memory, page, size, joined: Vec::new() })
    }

    /// The CPU it belongs to.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Gives every record there is to `sink`, oldest first, and its room back to the kernel. Returns how many there
    /// were, and how many the kernel says it had no room for.
    pub(super) fn drain(&mut self, sink: &mut dyn FnMut(u32, &[u8])) -> (u64, u64) {
        let (cpu, mut records, mut lost) = (self.cpu, 0, 0);
        // SAFETY: within the mapping; the kernel publishes with a release, so the entries before are readable after.
        let head = unsafe { AtomicU64::from_ptr(&raw mut (*self.positions()).data_head) }.load(Ordering::Acquire);
        // SAFETY: within the mapping; only this side writes it.
        let mut tail = unsafe { AtomicU64::from_ptr(&raw mut (*self.positions()).data_tail) }.load(Ordering::Relaxed);
        while tail < head {
            let unread = head - tail;
            let entry = Entry::at(self.bytes(tail, HEADER));
            // The kernel never writes such an entry; without this, one would stop us here for ever.
            if (entry.size as usize) < HEADER || u64::from(entry.size) > unread {
                tail = head;
                break;
            }
            let bytes = self.bytes(tail, entry.size as usize);
            if entry.kind == perf_event_type::PERF_RECORD_SAMPLE as u32 {
                if let Some(record) = sample(bytes) {
                    records += 1;
                    sink(cpu, record);
                }
            } else if entry.kind == perf_event_type::PERF_RECORD_LOST as u32 {
                lost += word(bytes, LOST_AT).unwrap_or(0);
            }
            tail += u64::from(entry.size);
            // Room is given back in parts, so that the kernel can go on writing while a long ring is read.
            if tail & (self.size as u64 / 4 - 1) < u64::from(entry.size) {
                self.give_back(tail);
            }
        }
        self.give_back(tail);
        (records, lost)
    }
}

impl Ring {
    fn positions(&self) -> *mut perf_event_mmap_page {
        self.memory.as_ptr().cast()
    }

    fn give_back(&mut self, tail: u64) {
        // SAFETY: within the mapping. Released, so that the kernel overwrites nothing that is still being read.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.positions()).data_tail) }.store(tail, Ordering::Release);
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

/// Opens a ring for each of these CPUs. Where so much memory may not be locked, in the largest size that may: gives the size,
/// pages, too.
pub(super) fn open_each(cpus: &[u32], pages: usize) -> Result<(Vec<Ring>, usize), AttachError> {
    let mut pages = pages;
    loop {
        let opened: Result<Vec<Ring>, AttachError> = cpus.iter().map(|cpu| Ring::open(*cpu, pages)).collect();
        match opened {
            Err(AttachError::LockedMemory { .. }) if pages > LEAST_PAGES => pages /= 2,
            opened => return opened.map(|rings| (rings, pages)),
        }
    }
}

/// What every entry of the ring begins with; mirrors `struct perf_event_header`.
struct Entry {
    kind: u32,
    size: u16,
}

impl Entry {
    /// From an entry's first [`HEADER`] bytes.
    fn at(bytes: &[u8]) -> Self {
        match *bytes {
            [a, b, c, d, _, _, e, f, ..] => {
                Self { kind: u32::from_ne_bytes([a, b, c, d]), size: u16::from_ne_bytes([e, f]) }
            }
            _ => Self { kind: 0, size: 0 },
        }
    }
}

/// The record in a sample entry: behind header and length, without the padding. `None` for an entry cut short.
fn sample(entry: &[u8]) -> Option<&[u8]> {
    let length: [u8; 4] = entry.get(HEADER..HEADER + 4)?.try_into().ok()?;
    let padded = u32::from_ne_bytes(length) as usize;
    entry.get(HEADER + 4..)?.get(..padded / RECORD_ALIGN * RECORD_ALIGN)
}

fn word(entry: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(entry.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut entry = kind.to_ne_bytes().to_vec();
        entry.extend(0u16.to_ne_bytes());
        entry.extend(((HEADER + body.len()) as u16).to_ne_bytes());
        entry.extend(body);
        entry
    }

    #[test]
    fn padding_behind_a_record_is_cut_off() {
        let mut body = 52u32.to_ne_bytes().to_vec();
        body.extend([7; 48]);
        body.extend([0; 4]);
        assert_eq!(sample(&entry(9, &body)), Some(&[7; 48][..]));
    }

    #[test]
    fn an_entry_that_is_shorter_than_it_says_gives_no_record() {
        let mut body = 4000u32.to_ne_bytes().to_vec();
        body.extend([7; 48]);
        assert_eq!(sample(&entry(9, &body)), None);
        assert_eq!(sample(&entry(9, &[1])), None);
        assert_eq!(word(&entry(2, &[0; 8]), LOST_AT), None);
    }

    #[test]
    fn a_ring_size_that_is_no_power_of_two_is_refused() {
        for pages in [0, 3, 1 << 40] {
            assert!(matches!(Ring::open(0, pages), Err(AttachError::RingSize { pages: said }) if said == pages));
        }
    }
}
