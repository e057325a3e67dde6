//! The rings, emptied by a thread of its own into memory that is bounded: a ring holds what a busy program writes in a few
//! milliseconds, and the event loop may be rendering for longer than that.
//!
//! Does not know what a record says.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::attach::Rings;
use crate::perf::{Ring, Waiting};
use crate::target::wake_soon;

use super::bell::Bell;
use super::budget::Bound;
use super::stream::TICK;

/// Records are kept in pieces of this many bytes.
const PIECE: usize = 1 << 20;
/// As many pieces are used again, rather than given back: what a quick loop leaves between two looks.
const SPARE: usize = 4;
/// What stands before each record: its ring's CPU and its length.
const FRAME: usize = 8;

/// The thread and what it has read.
pub(super) struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    held: Mutex<Held>,
    over: AtomicBool,
    /// There is a ring that is not waited for yet.
    joined: AtomicBool,
}

/// The rings, and what was read of them.
struct Held {
    rings: Rings,
    pieces: Vec<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    most: usize,
}

/// Records that were read, those of each ring in its order.
pub(super) struct Records {
    pieces: Vec<Vec<u8>>,
}

impl Reader {
    /// Begins. An eighth of the bound, 64 MiB at most, is for what nobody has taken yet; beyond that records stay in the rings,
    /// which lose what finds no room, and count it.
    pub(super) fn begin(rings: Rings, bound: Bound, bell: Bell) -> io::Result<Self> {
        let mut waiting = Waiting::on(rings.rings())?;
        let most = (bound.0 as usize / 8).min(64 << 20) / PIECE;
        let held = Held { rings, pieces: Vec::new(), spare: Vec::new(), most };
        let shared =
            Arc::new(Shared { held: Mutex::new(held), over: AtomicBool::new(false), joined: AtomicBool::new(false) });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("rings".to_owned()).spawn(move || {
            // Where the kernel does not know it, the thread is woken as any other.
            let _ = wake_soon();
            while !theirs.over.load(Ordering::Relaxed) {
                if theirs.joined.swap(false, Ordering::Relaxed)
                    && let Ok(all) = Waiting::on(theirs.lock().rings.rings())
                {
                    // Else the new one is emptied by the timer alone.
                    waiting = all;
                }
                let filled = waiting.wait(TICK);
                if theirs.lock().read() && filled {
                    bell.ring();
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Takes all that is there: what the rings hold now is in it, too.
    pub(super) fn take(&mut self) -> Records {
        let mut held = self.shared.lock();
        held.drain();
        if held.pieces.len() <= 1 {
            // A time of plenty is over.
            held.spare.truncate(1);
        }
        Records { pieces: std::mem::take(&mut held.pieces) }
    }

    /// Empties this ring, too, from now on.
    pub(super) fn join(&mut self, ring: Ring) {
        let mut held = self.shared.lock();
        held.drain();
        held.rings.join(ring);
        self.shared.joined.store(true, Ordering::Relaxed);
    }

    /// Gives the room of records that were taken back.
    pub(super) fn give_back(&mut self, records: Records) {
        let mut held = self.shared.lock();
        let room = SPARE.saturating_sub(held.spare.len());
        held.spare.extend(records.pieces.into_iter().take(room).map(|mut piece| {
            piece.clear();
            piece
        }));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // It panicked or it ended: either way nobody reads the rings any more.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Reads the rings if there is room. Whether anything is kept.
    fn read(&mut self) -> bool {
        if self.pieces.len() < self.most {
            self.drain();
        }
        !self.pieces.is_empty()
    }

    fn drain(&mut self) {
        let Self { rings, pieces, spare, .. } = self;
        rings.drain(&mut |cpu, record| keep(pieces, spare, cpu, record));
    }
}

fn keep(pieces: &mut Vec<Vec<u8>>, spare: &mut Vec<Vec<u8>>, cpu: u32, record: &[u8]) {
    let room = |piece: &Vec<u8>| piece.capacity() - piece.len() >= FRAME + record.len();
    if !pieces.last().is_some_and(room) {
        pieces.push(spare.pop().unwrap_or_else(|| Vec::with_capacity(PIECE)));
    }
    if let Some(piece) = pieces.last_mut() {
        piece.extend_from_slice(&cpu.to_ne_bytes());
        piece.extend_from_slice(&(record.len() as u32).to_ne_bytes());
        piece.extend_from_slice(record);
    }
}

impl Records {
    /// Each of them, with its ring's CPU.
    pub(super) fn each(&self, take: &mut dyn FnMut(u32, &[u8])) {
        for piece in &self.pieces {
            let mut rest = &piece[..];
            while let Some((frame, behind)) = rest.split_first_chunk::<FRAME>() {
                let [a, b, c, d, e, f, g, h] = *frame;
                let (cpu, length) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
                let (record, next) = behind.split_at(length as usize);
                take(cpu, record);
                rest = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in_across_pieces() {
        let (mut pieces, mut spare) = (Vec::new(), vec![Vec::with_capacity(PIECE)]);
        let record = |n: u32| vec![n as u8; 100 + n as usize % 300];
        (0..10_000).for_each(|n| keep(&mut pieces, &mut spare, n % 3, &record(n)));
        assert!(spare.is_empty() && pieces.len() > 1);
        assert!(pieces.iter().all(|piece| piece.capacity() == PIECE), "no piece grows");
        let mut n = 0;
        Records { pieces }.each(&mut |cpu, bytes| {
            assert_eq!((cpu, bytes), (n % 3, &record(n)[..]));
            n += 1;
        });
        assert_eq!(n, 10_000);
    }
}
