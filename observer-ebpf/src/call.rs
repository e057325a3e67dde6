//! A function of a task's vtable is entered, and returns.
//!
//! Does not know which function it is: the cookie tells user space.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use observer_common::{Counter, FLAG_SUBJECT_UNKNOWN, RECORD_FULL, RECORD_WITH_HEAD, RecordKind};

use crate::emit::{Draft, Hit, by_address};
use crate::maps::{self, Entered};
use crate::{header, lap, open_calls};

/// Bytes that a return has popped when its probe is hit: the return address.
pub const RETURN_ADDRESS: u64 = 8;

/// Reports the entry and remembers the header for the return.
#[uprobe]
pub fn enter(ctx: ProbeContext) -> u32 {
    let Some(hit) = Hit::take(&ctx, ctx.regs) else { return 0 };
    let subject = first_argument(&ctx);
    let hit = report_entry(&ctx, hit, subject);
    if !open_calls::open(&hit, subject) {
        maps::count(Counter::EntriesForgotten);
    }
    lap::end(&hit);
    0
}

/// Reports the entry of a function whose return nobody asks for.
#[uprobe]
pub fn enter_only(ctx: ProbeContext) -> u32 {
    let Some(hit) = Hit::take(&ctx, ctx.regs) else { return 0 };
    lap::end(&report_entry(&ctx, hit, first_argument(&ctx)));
    0
}

/// Reports the return, with the memory that is now where the header was. Whether it is still the same task's is for
/// user space to see.
#[uretprobe]
pub fn leave(ctx: RetProbeContext) -> u32 {
    let Some(hit) = Hit::take_return(&ctx, ctx.regs) else { return 0 };
    report_return(&ctx, hit);
    lap::end(&hit);
    0
}

#[inline(always)]
fn report_return(ctx: &RetProbeContext, hit: Hit) {
    let sp = hit.sp.wrapping_sub(RETURN_ADDRESS);
    let Some(Entered { subject, at, .. }) = open_calls::close(&hit, sp) else {
        if !by_address() {
            let mut draft = Draft::new();
            header::clear_head(draft.head());
            let hit = hit.dated_now();
            draft.describe(&hit, RecordKind::Leave, FLAG_SUBJECT_UNKNOWN, sp, 0, 0);
            draft.send::<RECORD_WITH_HEAD, _>(ctx, &hit);
        }
        // Else nobody knows which function has returned, and there is nothing to say.
        return;
    };
    let hit = Hit { at, ..hit };
    let mut draft = Draft::new();

    let far = header::far_word(subject, hit.far());
    let flags = header::copy_head(draft.head(), subject);
    if flags == 0 && header::is_complete(draft.head()) {
        let flags = header::copy_stage(draft.stage(), draft.head(), subject);
        let hit = hit.dated_now();
        draft.describe(&hit, RecordKind::Leave, flags, sp, subject, far);
        draft.send::<RECORD_FULL, _>(ctx, &hit);
    } else {
        let hit = hit.dated_now();
        draft.describe(&hit, RecordKind::Leave, flags, sp, subject, far);
        draft.send::<RECORD_WITH_HEAD, _>(ctx, &hit);
    }
}

/// What the function was given first: a header.
#[inline(always)]
pub fn first_argument(ctx: &ProbeContext) -> u64 {
    // SAFETY: the program's own context, which is the registers.
    unsafe { (*ctx.regs).rdi }
}

/// Reports an entry at once; the hit with its time.
#[inline(always)]
pub fn report_entry<C: EbpfContext>(ctx: &C, hit: Hit, subject: u64) -> Hit {
    let mut draft = Draft::new();
    let flags = header::copy_head(draft.head(), subject);
    if flags != 0 {
        header::say_unreadable(subject, hit.point(), hit.tid());
    }
    let far = header::far_word(subject, hit.far());
    let hit = hit.dated_now();
    draft.describe(&hit, RecordKind::Enter, flags, hit.sp, subject, far);
    draft.send::<RECORD_WITH_HEAD, _>(ctx, &hit);
    hit
}
