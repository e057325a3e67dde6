//! Calls between their entry and their return.
//!
//! Does not know what they are given.

use crate::emit::{Hit, by_address};
use crate::maps::{Call, ENTERED, Entered};
use aya_ebpf::bindings::BPF_ANY;

/// More calls than this do not begin at one frame, one jumping to the next.
const DEEPEST: u32 = 4;

/// Remembers a call with its header; whether there was room.
#[inline(always)]
pub fn open(hit: &Hit, subject: u64) -> bool {
    let entered = Entered { subject, at: hit.at, tgid: hit.tgid(), target: hit.target(), ts: hit.ts };
    if !by_address() {
        let call = Call { sp: hit.sp, tid: hit.tid(), which: hit.point() };
        return ENTERED.insert(call, entered, u64::from(BPF_ANY)).is_ok();
    }
    for which in 0..DEEPEST {
        let call = Call { sp: hit.sp, tid: hit.tid(), which };
        // SAFETY: the value is copied at once; only this thread writes or removes it.
        match unsafe { ENTERED.get(call) }.copied() {
            // It has jumped here and returns after us, or its return was not seen.
            Some(Entered { at, .. }) if at != hit.at => {}
            found => {
                // The same function twice at one frame: the first has returned unseen, and those that it jumped to.
                if found.is_some() {
                    close_from(hit, which + 1);
                }
                return ENTERED.insert(call, entered, u64::from(BPF_ANY)).is_ok();
            }
        }
    }
    false
}

/// The call that returns, whose frame was this, and forgets it; `None` if it is not known, or another probe's.
#[inline(always)]
pub fn close(hit: &Hit, sp: u64) -> Option<Entered> {
    if !by_address() {
        let call = Call { sp, tid: hit.tid(), which: hit.point() };
        // SAFETY: the value is copied at once; only this thread writes or removes it.
        let entered = unsafe { ENTERED.get(call) }.copied()?;
        // It was there a moment ago and is this thread's own: removing cannot fail.
        let _ = ENTERED.remove(call);
        return Some(entered);
    }
    // The latest of those that began there returns first.
    let mut latest = None;
    for which in 0..DEEPEST {
        let call = Call { sp, tid: hit.tid(), which };
        // SAFETY: as above.
        match unsafe { ENTERED.get(call) }.copied() {
            Some(entered) => latest = Some((call, entered)),
            None => break,
        }
    }
    let (call, entered) = latest?;
    if entered.target != hit.target() {
        return None;
    }
    // As above.
    let _ = ENTERED.remove(call);
    Some(entered)
}

/// Forgets this frame's calls from this one on.
#[inline(always)]
fn close_from(hit: &Hit, first: u32) {
    for which in first..DEEPEST {
        // Where it is not there, nothing is to be removed.
        let _ = ENTERED.remove(Call { sp: hit.sp, tid: hit.tid(), which });
    }
}
