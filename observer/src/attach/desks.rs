//! Threads' desks, where they lie: the kernel's memory, seen from here while threads write to it.
//!
//! Does not know what a record or a call says.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use observer_common::{BATCH_ROOM, DESK, DESK_ROWS, Desk, OpenCall, Sign, Waiting};

use crate::model::{Ns, Pid, Tid};

/// Words of a desk, of one of its rows and of a sign.
const WORDS: usize = DESK / 8;
const ROW: usize = size_of::<OpenCall>() / 8;
const SIGN: usize = size_of::<Sign>() / 8;
/// Where a sign's owner stands, and what waits.
const OWNER: usize = 0;
const WAITING: usize = 1;
/// And what is counted there.
const HITS: usize = std::mem::offset_of!(Sign, hits) / 8;
const RETURNS: usize = std::mem::offset_of!(Sign, returns) / 8;
/// And the frame of the innermost call that the thread is amid.
const INNERMOST: usize = std::mem::offset_of!(Sign, innermost) / 8;
/// Where a desk's records begin.
const RECORDS: usize = WORDS - BATCH_ROOM / 8;
/// Where the time of a row's entry stands: see [`OpenCall`].
const SINCE: usize = std::mem::offset_of!(OpenCall, record.entry.ts) / 8;

const _: () = assert!(std::mem::offset_of!(Desk, records) == RECORDS * 8);

/// All desks of one session.
pub(super) struct Desks {
    signs: Mapped,
    desks: Mapped,
    count: usize,
}

/// A row of a desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    desk: usize,
    row: usize,
}

impl Desks {
    /// Those of these two maps, of so many entries.
    pub(super) fn map(signs: BorrowedFd<'_>, desks: BorrowedFd<'_>, count: u32) -> io::Result<Self> {
        let count = count as usize;
        Ok(Self { signs: Mapped::of(signs, count * SIGN)?, desks: Mapped::of(desks, count * WORDS)?, count })
    }

    /// Hits that were counted on desks, those at returns with them, and those at returns.
    pub(super) fn counted(&self) -> (u64, u64) {
        let sum = |which: usize| {
            let signs = self.signs.words().chunks_exact(SIGN);
            signs.map(|sign| sign[which].load(Ordering::Relaxed)).sum()
        };
        // Returns first: there are never more of them than hits.
        let returns = sum(RETURNS);
        (sum(HITS), returns)
    }

    /// Gives what waits on each desk, whoever's it was: its records up to this moment, which may have been sent since.
    pub(super) fn waiting(&self, take: &mut dyn FnMut(u32, Waiting, &[u8])) {
        let mut records = Vec::with_capacity(BATCH_ROOM);
        for desk in 0..self.count {
            let sign = &self.signs.words()[desk * SIGN + WAITING];
            loop {
                let waiting = Waiting::from_u64(sign.load(Ordering::Acquire));
                let bytes = (waiting.bytes as usize).min(BATCH_ROOM);
                if bytes == 0 {
                    break;
                }
                records.clear();
                for word in &self.words(desk)[RECORDS..][..bytes / 8] {
                    records.extend(word.load(Ordering::Relaxed).to_ne_bytes());
                }
                fence(Ordering::Acquire);
                // Records are only laid behind others until they are sent.
                if Waiting::from_u64(sign.load(Ordering::Relaxed)).generation == waiting.generation {
                    take(desk as u32, waiting, &records);
                    break;
                }
            }
        }
    }

    /// Gives each call in progress, of which all that was read is of that call alone: no thread has two calls of one time, and it is
    /// written last at an entry and taken away first.
    pub(super) fn calls(&self, take: &mut dyn FnMut(Row, OpenCall)) {
        for desk in (0..self.count).filter(|desk| self.owner(*desk) != 0) {
            for row in 0..DESK_ROWS {
                let words = self.row(Row { desk, row });
                let since = words[SINCE].load(Ordering::Acquire);
                if since == 0 {
                    continue;
                }
                let mut call = [0u64; ROW];
                for (to, from) in call.iter_mut().zip(words) {
                    *to = from.load(Ordering::Relaxed);
                }
                fence(Ordering::Acquire);
                if words[SINCE].load(Ordering::Relaxed) == since && call[SINCE] == since {
                    // SAFETY: both consist of as many words, every one of which may be any number.
                    take(Row { desk, row }, unsafe { std::mem::transmute::<[u64; ROW], OpenCall>(call) });
                }
            }
        }
    }

    /// Whether the call that has begun then is still the one in this row.
    pub(super) fn is_since(&self, row: Row, since: u64) -> bool {
        self.row(row)[SINCE].load(Ordering::Acquire) == since
    }

    /// Takes the desk of a thread back that ended at this moment. Its number may be another's by now: where a call has begun on the desk
    /// since, that one's it is.
    pub(super) fn forget_thread(&self, pid: Pid, tid: Tid, ended: Ns) {
        let whose = u64::from(pid.0) << 32 | u64::from(tid.0);
        self.free(|desk, owner| owner == whose && !self.began_since(desk, ended));
    }

    /// Takes the desks back of a process's threads that are not there any more: its number may be another's by now.
    pub(super) fn forget_process(&self, pid: Pid) {
        self.free(|_, owner| (owner >> 32) as u32 == pid.0 && !is_there(owner));
    }

    /// Forgets each call in progress of which this is true, by its owner and time: its thread has ended, or its program (no other call
    /// takes the row of one that is open), or no probe is there any more that would see it return.
    pub(super) fn forget_calls(&self, is_one: impl Fn(u64, u64) -> bool) {
        for desk in 0..self.count {
            let owner = self.owner(desk);
            for row in 0..DESK_ROWS {
                let since = &self.row(Row { desk, row })[SINCE];
                let began = since.load(Ordering::Acquire);
                if owner != 0 && began != 0 && is_one(owner, began) {
                    // Else it is another call's by now.
                    if since.compare_exchange(began, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                        self.signs.words()[desk * SIGN + INNERMOST].store(0, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    fn began_since(&self, desk: usize, moment: Ns) -> bool {
        (0..DESK_ROWS).any(|row| self.row(Row { desk, row })[SINCE].load(Ordering::Acquire) > moment.0)
    }

    fn free(&self, is_one: impl Fn(usize, u64) -> bool) {
        for desk in 0..self.count {
            let owner = self.owner(desk);
            if owner != 0 && is_one(desk, owner) {
                (0..DESK_ROWS).for_each(|row| self.row(Row { desk, row })[SINCE].store(0, Ordering::Relaxed));
                self.signs.words()[desk * SIGN + OWNER].store(0, Ordering::Release);
            }
        }
    }

    fn owner(&self, desk: usize) -> u64 {
        self.signs.words()[desk * SIGN + OWNER].load(Ordering::Acquire)
    }

    fn words(&self, desk: usize) -> &[AtomicU64] {
        &self.desks.words()[desk * WORDS..][..WORDS]
    }

    fn row(&self, Row { desk, row }: Row) -> &[AtomicU64] {
        &self.words(desk)[row * ROW..][..ROW]
    }
}

/// Whether there is such a thread.
fn is_there(owner: u64) -> bool {
    // SAFETY: plain numbers, and no signal is sent.
    let asked = unsafe { libc::syscall(libc::SYS_tgkill, (owner >> 32) as i32, owner as i32, 0) };
    asked == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// A map's values, in our memory as well.
struct Mapped {
    memory: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping is this value's own until its drop, and is only read and written by atomic steps.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Of an array whose values are so many words together, made with `BPF_F_MMAPABLE`.
    fn of(map: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping; the kernel refuses one that is longer than the map.
        let memory =
            unsafe { libc::mmap(std::ptr::null_mut(), words * 8, access, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { memory, words })
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: so many words were mapped, and are until the drop.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.words) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: as it was mapped; nobody holds a part of it any more. It fails for wrong numbers only.
        let _ = unsafe { libc::munmap(self.memory.as_ptr().cast(), self.words * 8) };
    }
}
