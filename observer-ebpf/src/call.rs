//! A function of a task's vtable is entered, and returns.
//!
//! Does not know which function it is: the cookie tells user space.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use observer_common::{Counter, FLAG_SUBJECT_UNKNOWN, RECORD_FULL, RECORD_WITH_HEAD, RecordKind};

use crate::emit::{Draft, Hit};
use crate::header;
use crate::maps::{self, Call, ENTERED, Entered};

/// Bytes that a return has popped when its probe is hit: the return address.
const RETURN_ADDRESS: u64 = 8;

/// Reports the entry and remembers the header for the return.
#[uprobe]
pub fn enter(ctx: ProbeContext) -> u32 {
    let Some(hit) = Hit::take(&ctx, ctx.regs) else { return 0 };
    let subject = first_argument(&ctx);
    let call = Call { sp: hit.sp, tid: hit.tid(), point: hit.point() };
    let entered = Entered { subject, tgid: hit.tgid(), reserved: 0 };
    if ENTERED.insert(call, entered, u64::from(BPF_ANY)).is_err() {
        maps::count(Counter::EntriesForgotten);
    }
    report_entry(&ctx, &hit, subject);
    0
}

/// Reports the entry of a function whose return nobody asks for.
#[uprobe]
pub fn enter_only(ctx: ProbeContext) -> u32 {
    let Some(hit) = Hit::take(&ctx, ctx.regs) else { return 0 };
    report_entry(&ctx, &hit, first_argument(&ctx));
    0
}

/// Reports the return, with the memory that is now where the header was. Whether it is still the same task's is for
/// user space to see.
#[uretprobe]
pub fn leave(ctx: RetProbeContext) -> u32 {
    let Some(hit) = Hit::take(&ctx, ctx.regs) else { return 0 };
    let sp = hit.sp.wrapping_sub(RETURN_ADDRESS);
    let call = Call { sp, tid: hit.tid(), point: hit.point() };
    let mut draft = Draft::new();

    // SAFETY: the value is copied at once; only this thread writes or removes it.
    let Some(Entered { subject, .. }) = unsafe { ENTERED.get(call) }.copied() else {
        header::clear_head(draft.record());
        draft.describe(&hit, RecordKind::Leave, FLAG_SUBJECT_UNKNOWN, sp, 0, 0);
        draft.send::<RECORD_WITH_HEAD, _>(&ctx);
        return 0;
    };
    // It was there a moment ago and is this thread's own: removing cannot fail.
    let _ = ENTERED.remove(call);

    let far = header::far_word(subject, hit.far());
    let flags = header::copy_head(draft.record(), subject);
    if flags == 0 && header::is_complete(draft.record()) {
        let flags = header::copy_stage(draft.record(), subject);
        draft.describe(&hit.dated_now(), RecordKind::Leave, flags, sp, subject, far);
        draft.send::<RECORD_FULL, _>(&ctx);
    } else {
        draft.describe(&hit.dated_now(), RecordKind::Leave, flags, sp, subject, far);
        draft.send::<RECORD_WITH_HEAD, _>(&ctx);
    }
    0
}

#[inline(always)]
fn first_argument(ctx: &ProbeContext) -> u64 {
    // SAFETY: the program's own context, which is the registers.
    unsafe { (*ctx.regs).rdi }
}

#[inline(always)]
fn report_entry<C: EbpfContext>(ctx: &C, hit: &Hit, subject: u64) {
    let mut draft = Draft::new();
    let flags = header::copy_head(draft.record(), subject);
    if flags != 0 {
        header::say_unreadable(subject, hit.point(), hit.tid());
    }
    draft.describe(hit, RecordKind::Enter, flags, hit.sp, subject, header::far_word(subject, hit.far()));
    draft.send::<RECORD_WITH_HEAD, _>(ctx);
}
