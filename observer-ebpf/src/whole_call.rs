//! A function of a task's vtable has been entered and returns: one record of both, at the return.
//!
//! What has not returned yet is for user space to find among the calls in progress. Does not know addresses: where
//! records must say them, `call` reports each moment by itself.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use observer_common::{
    CALL_FULL, CALL_WITH_HEAD, CallRecord, Counter, FLAG_SUBJECT_UNKNOWN, RECORD_WITH_HEAD, Record, RecordKind,
};

use crate::call::{RETURN_ADDRESS, first_argument, report_entry};
use crate::emit::{self, Hit};
use crate::header;
use crate::maps::{self, Call, ENTERED, Entered};

/// Remembers what there is to report.
#[uprobe]
pub fn begin_call(ctx: ProbeContext) -> u32 {
    let Some(hit) = Hit::take(&ctx, ctx.regs) else { return 0 };
    let subject = first_argument(&ctx);
    let mut entered = MaybeUninit::<Entered>::uninit();
    let place = entered.as_mut_ptr();
    // SAFETY: memory of this program's own, every field of which is plain and written here.
    let entered = unsafe {
        let flags = header::copy_head(&raw mut (*place).entry.head, subject);
        if flags != 0 {
            header::say_unreadable(subject, hit.point(), hit.tid());
        }
        (*place).entry.ts = hit.ts;
        (*place).entry.far = header::far_word(subject, hit.far());
        (*place).entry.flags = u64::from(flags);
        (*place).subject = subject;
        (*place).at = hit.at;
        (*place).tgid = hit.tgid();
        (*place).target = hit.target();
        &*place
    };
    let call = Call { sp: hit.sp, tid: hit.tid(), which: hit.point() };
    if ENTERED.insert(call, entered, u64::from(BPF_ANY)).is_err() {
        maps::count(Counter::EntriesForgotten);
        report_entry(&ctx, &hit, subject);
    }
    0
}

/// Reports the call, with the memory that is now where the header was.
#[uretprobe]
pub fn end_call(ctx: RetProbeContext) -> u32 {
    let Some(hit) = Hit::take_undated(&ctx, ctx.regs) else { return 0 };
    let sp = hit.sp.wrapping_sub(RETURN_ADDRESS);
    let call = Call { sp, tid: hit.tid(), which: hit.point() };
    let mut record = MaybeUninit::<CallRecord>::uninit();
    let place = record.as_mut_ptr();
    let Some(entered) = ENTERED.get_ptr(call) else {
        // A plain return, in the same memory: a program's stack has no room for two records.
        let place = place.cast::<Record>();
        // SAFETY: memory of this program's own, longer than what is written and sent.
        unsafe {
            header::clear_head(&raw mut (*place).head);
            emit::describe(place, &hit.dated_now(), RecordKind::Leave, FLAG_SUBJECT_UNKNOWN, sp, 0, 0);
            emit::send(&ctx, place.cast(), RECORD_WITH_HEAD as u64);
        }
        return 0;
    };
    // SAFETY: the value is this thread's own until it is removed below; the record is memory of this program's own, of
    // which what is sent is written.
    unsafe {
        let subject = (*entered).subject;
        (*place).entry = (*entered).entry;
        let far = header::far_word(subject, hit.far());
        let mut flags = header::copy_head(&raw mut (*place).head, subject);
        let is_full = flags == 0 && header::is_complete(&raw const (*place).head);
        if is_full {
            flags = header::copy_stage(&raw mut (*place).stage, subject);
        }
        emit::describe(place.cast(), &hit.dated_now(), RecordKind::Call, flags, sp, subject, far);
        let len = if is_full { CALL_FULL } else { CALL_WITH_HEAD };
        emit::send(&ctx, place.cast(), len as u64);
    }
    // After it was reported: who reads the calls in progress first and the records then misses none. It was there a
    // moment ago and is this thread's own: removing cannot fail.
    let _ = ENTERED.remove(call);
    0
}
