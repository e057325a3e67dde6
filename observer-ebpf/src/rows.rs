//! Rows of the calls that threads are amid: each thread has a few on its desk that it writes again and again, because putting a row in
//! and taking it out at each call would cost the target a tenth of all that a call costs it.
//!
//! Does not know what is in a row, save which call it is and whether that is in progress.

use aya_ebpf::bindings::BPF_ANY;
use observer_common::{CallRecord, DESK_ROWS, OpenCall};

use crate::compiler::{barrier, opaque};
use crate::desk::Desk;
use crate::emit::Hit;
use crate::maps::{CALLS, NO_CALL};

/// Of a desk's rows, how many one frame may have: what tells them apart is a few bits of the stack pointer.
const TRIED: u32 = 2;

/// A row, and whether it goes with its call.
#[derive(Clone, Copy)]
pub struct Row {
    place: *mut OpenCall,
    key: u64,
    passing: bool,
}

impl Row {
    /// For a call that begins now; `None` where there is no room. What is in it is over, or is a call that began at the
    /// same frame and was not seen to return; the caller writes all of it and then [`Self::open`]s it.
    #[inline(always)]
    pub fn to_begin(hit: &Hit, desk: Option<&Desk>) -> Option<Self> {
        if let Some(desk) = desk {
            for n in 0..TRIED {
                let row = Self::kept(desk, hit.sp, n);
                if !row.is_open() {
                    return Some(row);
                }
                if row.is_of(hit, hit.sp) {
                    // It was not seen to return: what it was in the middle of is what the new one is in the middle of.
                    row.close(Some(desk));
                    return Some(row);
                }
            }
        }
        let key = passing(hit, hit.sp);
        let row = Self { place: there_or_new(key)?, key, passing: true };
        if row.is_open() {
            if !row.is_of(hit, hit.sp) {
                return None;
            }
            row.close_kept();
        }
        Some(row)
    }

    /// That of the call that returns, whose frame was this.
    #[inline(always)]
    pub fn that_ends(hit: &Hit, desk: Option<&Desk>, sp: u64) -> Option<Self> {
        if let Some(desk) = desk {
            for n in 0..TRIED {
                let row = Self::kept(desk, sp, n);
                if row.is_open() && row.is_of(hit, sp) {
                    return Some(row);
                }
            }
        }
        let key = passing(hit, sp);
        let row = Self { place: CALLS.get_ptr_mut(key)?, key, passing: true };
        (row.is_open() && row.is_of(hit, sp)).then_some(row)
    }

    /// Whether a hit is at a return, by what the desk shows: the call that it would end is open there and has not begun at this
    /// instruction, or one of the same point has and it begins. `None` where neither is there to see.
    #[inline(always)]
    pub fn is_at_return(hit: &Hit, desk: &Desk, sp: u64) -> Option<bool> {
        let ending = Self::kept(desk, sp, 0);
        if ending.is_open() && ending.is_of(hit, sp) && ending.at() != hit.at {
            return Some(true);
        }
        let beginning = Self::kept(desk, hit.sp, 0);
        // SAFETY: the row is this thread's own.
        let is_same_point = unsafe { (*beginning.record()).cookie() == hit.cookie };
        (is_same_point && beginning.at() == hit.at).then_some(false)
    }

    /// Whether a call that begins here is on another stack than the innermost that the thread is amid: those on one stack lie deeper
    /// the later they begin. The kernel drops what it keeps of a call's return when another is to be waited for
    /// that lies above it, and ends the program when the former returns all the same. A call at the very frame of one that is open shows that
    /// that one, and all deeper, are over without having been seen to return.
    #[inline(always)]
    pub fn is_elsewhere(hit: &Hit, desk: &Desk) -> bool {
        let innermost = desk.innermost();
        if innermost == 0 || hit.sp <= innermost {
            return false;
        }
        for n in 0..TRIED {
            let row = Self::kept(desk, hit.sp, n);
            // SAFETY: the row is this thread's own.
            if row.is_open() && unsafe { (*row.record()).sp() } == hit.sp {
                // SAFETY: as above.
                desk.come_back_to(unsafe { (*row.place).around } & !OpenCall::LOUD);
                return false;
            }
        }
        true
    }

    /// Each call that the thread is amid must be reported, whatever becomes of it: those that are not on its desk are.
    #[inline(always)]
    pub fn make_loud(hit: &Hit) {
        let Some(desk) = Desk::of(hit.pid_tgid) else { return };
        for n in 0..DESK_ROWS {
            // SAFETY: the row is this thread's own.
            unsafe { (*desk.row(n)).around |= OpenCall::LOUD };
        }
    }

    /// The `n`th that this frame may have.
    #[inline(always)]
    fn kept(desk: &Desk, sp: u64, n: u32) -> Self {
        // Frames are 16 bytes apart at least.
        let number = opaque((sp >> 4).wrapping_add(u64::from(n))) as usize % DESK_ROWS;
        Self { place: desk.row(number), key: 0, passing: false }
    }

    /// What is to be reported.
    #[inline(always)]
    pub fn record(&self) -> *mut CallRecord {
        // SAFETY: a place in the row.
        unsafe { &raw mut (*self.place).record }
    }

    /// The instruction where the call began, to be set before it is opened.
    #[inline(always)]
    pub fn set_at(&self, at: u64) {
        // SAFETY: the row is this thread's own.
        unsafe { (*self.place).at = at };
    }

    #[inline(always)]
    fn at(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.place).at }
    }

    /// Whether it must be reported in any case. Rows that go with their call always are: nobody finds them to say so.
    #[inline(always)]
    pub fn is_loud(&self) -> bool {
        // SAFETY: the row is this thread's own.
        self.passing || unsafe { (*self.place).is_loud() }
    }

    /// The call, whose frame this is, is in progress since then. All else must have been written: who reads the row in the middle of it
    /// would take the words of two calls for one.
    #[inline(always)]
    pub fn open(&self, desk: Option<&Desk>, sp: u64, since: u64) {
        let around = match desk {
            Some(desk) => desk.go_into(sp),
            None => 0,
        };
        // SAFETY: the row is this thread's own; who reads it besides looks at the time first and last.
        unsafe {
            (*self.place).around = around & !OpenCall::LOUD | u64::from(self.passing);
            barrier();
            (&raw mut (*self.record()).entry.ts).write_volatile(since);
        }
    }

    /// It is over.
    #[inline(always)]
    pub fn close(&self, desk: Option<&Desk>) {
        if let Some(desk) = desk {
            // SAFETY: as above.
            desk.come_back_to(unsafe { (*self.place).around } & !OpenCall::LOUD);
        }
        self.leave();
    }

    /// The row is free again, whose call was not opened, or is over.
    #[inline(always)]
    pub fn leave(&self) {
        if self.passing {
            // It was there a moment ago and is this thread's own: removing cannot fail.
            let _ = CALLS.remove(self.key);
        } else {
            self.close_kept();
        }
    }

    #[inline(always)]
    fn close_kept(&self) {
        // SAFETY: as in `open`.
        unsafe {
            barrier();
            (&raw mut (*self.record()).entry.ts).write_volatile(0);
            barrier();
        }
    }

    #[inline(always)]
    fn is_open(&self) -> bool {
        // SAFETY: the row is this thread's own.
        unsafe { (*self.record()).entry.ts != 0 }
    }

    /// Two calls at one frame are possible: a function that begins with a jump to another probed one.
    #[inline(always)]
    fn is_of(&self, hit: &Hit, sp: u64) -> bool {
        // SAFETY: as above.
        unsafe { (*self.record()).sp() == sp && (*self.record()).cookie() == hit.cookie }
    }
}

#[inline(always)]
fn passing(hit: &Hit, sp: u64) -> u64 {
    // What two calls have in common by chance is found out by looking into the row.
    u64::from(hit.tid()) << 32 | u64::from(sp as u32 ^ hit.point().wrapping_mul(0x9E37_79B1))
}

#[inline(always)]
fn there_or_new(key: u64) -> Option<*mut OpenCall> {
    if let Some(place) = CALLS.get_ptr_mut(key) {
        return Some(place);
    }
    let nothing = NO_CALL.get_ptr(0)?;
    // SAFETY: the array's one row, which nobody writes.
    CALLS.insert(key, unsafe { &*nothing }, u64::from(BPF_ANY)).ok()?;
    CALLS.get_ptr_mut(key)
}
