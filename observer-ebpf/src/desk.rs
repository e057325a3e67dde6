//! Desks of threads: where a program finds its thread's, and how what waits there is sent.
//!
//! Only the thread itself writes to its desk, and its programs do not interrupt each other; user space reads besides, and when a thread
//! has ended, or its program, closes the calls that it was amid and takes the desk back. A thread that finds none free does without: it
//! sends its records one by one. Does not know what a record says.

use core::arch::asm;

use aya_ebpf::maps::PerfEventByteArray;
use aya_ebpf::{EbpfContext, Global};
use observer_common::{BATCH, BATCH_ENOUGH, BATCH_ROOM, BatchHead, FRAME, OpenCall, Sign, Waiting};

use crate::compiler::{barrier, opaque};
use crate::maps::{DESKS, PRICED_DESK, PRICED_SIGN, SIGNS};
use crate::ring;

/// How many desks there are, a power of two; 0: nobody has one. Constant once the programs are loaded.
#[unsafe(no_mangle)]
static DESK_COUNT: Global<u32> = Global::new(0);

/// Places where a thread's desk may be, one behind the other.
const TRIED: u32 = 4;
/// Spreads thread ids, which are given one behind the other.
const SPREAD: u32 = 0x9E37_79B1;

/// The number of no desk.
const NONE: u32 = u32::MAX;

/// One desk.
#[derive(Clone, Copy)]
pub struct Desk {
    sign: *mut Sign,
    place: *mut observer_common::Desk,
}

impl Desk {
    /// This thread's, as the helper packs it with its process; `None` where it has none and finds none free.
    #[inline(always)]
    pub fn of(pid_tgid: u64) -> Option<Self> {
        let desks = DESK_COUNT.load();
        if desks == 0 {
            return None;
        }
        let first = (pid_tgid as u32).wrapping_mul(SPREAD) >> 16;
        for n in 0..TRIED {
            let number = first.wrapping_add(n) & (desks - 1);
            let sign = SIGNS.get_ptr_mut(number)?;
            // SAFETY: the verifier has seen the null check; a row lives as long as the program.
            if unsafe { (&raw const (*sign).owner).read_volatile() } == pid_tgid {
                return Some(Self { sign, place: DESKS.get_ptr_mut(number)? });
            }
        }
        let number = take_one(pid_tgid, first, desks);
        Some(Self { sign: SIGNS.get_ptr_mut(number)?, place: DESKS.get_ptr_mut(number)? })
    }

    /// Counts a hit of a session; how many there have been then, whoever's the desk was.
    #[inline(always)]
    pub fn count_hit(&self) -> u64 {
        // SAFETY: the desk is this thread's own.
        unsafe {
            let hits = (*self.sign).hits + 1;
            (*self.sign).hits = hits;
            hits
        }
    }

    /// Says that the hit that was counted last is at a return.
    #[inline(always)]
    pub fn count_return(&self) {
        // SAFETY: the desk is this thread's own.
        unsafe { (*self.sign).returns += 1 };
    }

    /// The frame of the innermost call that the thread is amid; 0: none.
    #[inline(always)]
    pub fn innermost(&self) -> u64 {
        // SAFETY: the desk is this thread's own.
        unsafe { (*self.sign).innermost }
    }

    /// A call begins, whose frame this is; the one around it.
    #[inline(always)]
    pub fn go_into(&self, frame: u64) -> u64 {
        let around = self.innermost();
        // SAFETY: as above.
        unsafe { (*self.sign).innermost = frame };
        around
    }

    /// A call is over: the thread is amid this one again.
    #[inline(always)]
    pub fn come_back_to(&self, frame: u64) {
        // SAFETY: as above.
        unsafe { (*self.sign).innermost = frame };
    }

    /// That of who is priced.
    #[inline(always)]
    pub fn priced() -> Option<Self> {
        Some(Self { sign: PRICED_SIGN.get_ptr_mut(0)?, place: PRICED_DESK.get_ptr_mut(0)? })
    }

    /// The row with this number, which is below [`observer_common::DESK_ROWS`].
    #[inline(always)]
    pub fn row(&self, number: usize) -> *mut OpenCall {
        // SAFETY: a place on the desk.
        unsafe { (&raw mut (*self.place).rows).cast::<OpenCall>().add(number) }
    }

    /// Lays a record of `LEN` bytes onto the desk, and sends what waits there if that is enough. Whether it found room: none, where
    /// what waits finds none in this CPU's ring.
    ///
    /// # Safety
    /// `record` must point to as many written bytes of the program's own.
    #[inline(always)]
    pub unsafe fn lay<const LEN: usize, C: EbpfContext>(
        &self,
        ctx: &C,
        rings: &'static PerfEventByteArray,
        record: *const u64,
    ) -> bool {
        const { assert!(LEN % 8 == 0 && LEN <= observer_common::CALL_FULL) };
        // SAFETY: the desk is this thread's own; what is written stays within it, because less than enough waits there; the record is
        // the caller's promise.
        unsafe {
            let mut waiting = (&raw const (*self.sign).waiting).read_volatile();
            let mut bytes = opaque(waiting & u64::from(u32::MAX));
            if bytes >= BATCH_ENOUGH as u64 {
                let Some(sent) = self.send(ctx, rings, waiting) else { return false };
                (waiting, bytes) = (sent, 0);
            }
            let place = (&raw mut (*self.place).records).cast::<u8>().add(bytes as usize).cast::<u64>();
            place.write(LEN as u64);
            for n in 0..LEN / 8 {
                place.add(1 + n).write(record.add(n).read());
            }
            barrier();
            waiting += (FRAME + LEN) as u64;
            (&raw mut (*self.sign).waiting).write_volatile(waiting);
            if bytes + (FRAME + LEN) as u64 >= BATCH_ENOUGH as u64 {
                // If there is no room now, there may be at the next record.
                let _ = self.send(ctx, rings, waiting);
            }
        }
        true
    }

    /// Sends what waits; what waits then. `None` where that found no room.
    ///
    /// # Safety
    /// The desk must be this thread's own.
    #[inline(always)]
    unsafe fn send<C: EbpfContext>(&self, ctx: &C, rings: &'static PerfEventByteArray, waiting: u64) -> Option<u64> {
        let sent = Waiting::from_u64(waiting);
        let bytes = opaque(u64::from(sent.bytes));
        if bytes > BATCH_ROOM as u64 {
            return None;
        }
        // SAFETY: the caller's promise; the head stands right before the records.
        unsafe {
            (*self.place).head.generation = sent.generation;
            let batch = (&raw mut (*self.place).head).cast();
            if !ring::put(ctx, rings, batch, size_of::<BatchHead>() as u64 + bytes) {
                return None;
            }
            let next = sent.sent().to_u64();
            (&raw mut (*self.sign).waiting).write_volatile(next);
            Some(next)
        }
    }
}

/// Takes a free desk for this thread; its number, or one that no desk has. A function of its own, because it is called once a thread, with
/// a plain name, because a mangled one changes with the path of the checkout.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn take_one(pid_tgid: u64, first: u32, desks: u32) -> u32 {
    for n in 0..TRIED {
        let number = first.wrapping_add(n) & desks.wrapping_sub(1);
        let (Some(sign), Some(place)) = (SIGNS.get_ptr_mut(number), DESKS.get_ptr_mut(number)) else { return NONE };
        // SAFETY: the verifier has seen the null checks; rows live as long as the program.
        let is_free = unsafe { (&raw const (*sign).owner).read_volatile() } == 0;
        // SAFETY: as above.
        if is_free && unsafe { take_if_free(&raw mut (*sign).owner, pid_tgid) } {
            // SAFETY: as above, and it is this thread's now.
            unsafe {
                (*place).head = BatchHead { mark: BATCH, desk: number, generation: 0 };
                (*sign).innermost = 0;
            }
            return number;
        }
    }
    NONE
}

/// Makes the owner this one, if there is none; whether it did. In assembly, because this target has no compare-and-swap by itself;
/// every kernel's programs that have desks do.
///
/// # Safety
/// `owner` must point to a word of a map.
#[inline(always)]
unsafe fn take_if_free(owner: *mut u64, new: u64) -> bool {
    let was: u64;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({owner} + 0, r0, {new})",
            owner = in(reg) owner,
            new = in(reg) new,
            inout("r0") 0u64 => was,
        );
    }
    was == 0
}
