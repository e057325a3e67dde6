//! How long our programs take, of a few hits, and parts of them: the same parts on the observer itself and in a target tell how much
//! slower the kernel's code for a hit is there, where other things are in the caches.
//!
//! Does not know what that is compared with.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use observer_common::Counter;

use crate::emit::Hit;
use crate::maps;

/// Of so many hits one is timed, roughly, a power of two.
const EVERY: u32 = 64;
/// Spreads what is counted, so that a pattern of hits that repeats itself is not met at one of its places again and again.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
/// What took longer, nanoseconds, was preempted: that is nothing of ours. Copying a stack takes a tenth of it.
const LONGEST: u64 = 1 << 16;

/// Whether the hit that was counted as this is timed.
#[inline(always)]
pub fn is_timed(nth: u64) -> bool {
    nth.wrapping_mul(SPREAD) >> (64 - EVERY.ilog2()) == 0
}

/// The time, for a hit that is timed; else 0.
#[inline(always)]
pub fn begin(timed: bool) -> u64 {
    // SAFETY: the helper takes nothing.
    if timed { unsafe { bpf_ktime_get_ns() } } else { 0 }
}

/// What an entry does is done; the hit is dated.
#[inline(always)]
pub fn entry(hit: &Hit) {
    if hit.began != 0 {
        took(Counter::EntriesTimed, Counter::EntriesTook, hit.ts.wrapping_sub(hit.began));
    }
}

/// The program is at its end.
#[inline(always)]
pub fn end(hit: &Hit) {
    since(hit.began);
}

/// A program that began then is at its end.
#[inline(always)]
pub fn since(began: u64) {
    if began != 0 {
        // SAFETY: as above.
        let now = unsafe { bpf_ktime_get_ns() };
        took(Counter::Timed, Counter::Took, now.wrapping_sub(began));
    }
}

/// A record has been written, since the hit was dated.
#[inline(always)]
pub fn record(hit: &Hit) {
    if hit.began != 0 {
        // SAFETY: as above.
        let now = unsafe { bpf_ktime_get_ns() };
        took(Counter::RecordsTimed, Counter::RecordsTook, now.wrapping_sub(hit.ts));
    }
}

/// A function of its own, because it is called seldom and from many places, with a plain name, because a mangled one changes with the
/// path of the checkout.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_lap(timed: u32, all: u32, ns: u64) -> u32 {
    if ns < LONGEST {
        maps::add_at(timed, 1);
        maps::add_at(all, ns);
    }
    0
}

#[inline(always)]
fn took(timed: Counter, all: Counter, ns: u64) {
    count_lap(timed as u32, all as u32, ns);
}
