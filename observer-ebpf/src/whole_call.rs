//! A function of a task's vtable has been entered and returns: one record of both, at the return, or none.
//!
//! What has not returned yet is for user space to find among the calls in progress. Does not know addresses: where
//! records must say them, `call` reports each moment by itself.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::bpf_get_func_ip;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use observer_common::{CALL_FULL, CALL_WITH_HEAD, Counter, FLAG_SUBJECT_UNKNOWN, RECORD_WITH_HEAD, Record, RecordKind};

use crate::call::{RETURN_ADDRESS, first_argument, report_entry};
use crate::emit::{self, Hit};
use crate::rows::Row;
use crate::{header, lap, maps, quiet};

/// What a program of a session says at an entry: the return is wanted, or it is not.
const WANTED: u32 = 0;
const UNWANTED: u32 = 1;

/// Remembers what there is to report.
#[uprobe]
pub fn begin_call(ctx: ProbeContext) -> u32 {
    begin(&ctx);
    0
}

/// Reports the call, with the memory that is now where the header was.
#[uretprobe]
pub fn end_call(ctx: RetProbeContext) -> u32 {
    end(&ctx, ctx.regs);
    0
}

/// Both, where the kernel calls one program at both moments (a session, since Linux 6.13): the second is told by the thread
/// being elsewhere than where the function begins. Written out, because the macro for it answers 0 whatever the program says, and
/// a return that nobody wants would be trapped.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
extern "C" fn whole_call(ctx: *mut c_void) -> u32 {
    let ctx = ProbeContext::new(ctx);
    // SAFETY: the program's own context, which is the registers.
    let (begins, is_at) = unsafe { (bpf_get_func_ip(ctx.as_ptr()), (*ctx.regs).rip) };
    if begins == is_at {
        return begin(&ctx);
    }
    end(&ctx, ctx.regs);
    WANTED
}

#[inline(always)]
fn begin(ctx: &ProbeContext) -> u32 {
    let Some(hit) = Hit::take(ctx, ctx.regs) else { return UNWANTED };
    remember(ctx, hit);
    lap::end(&hit);
    WANTED
}

#[inline(always)]
fn remember(ctx: &ProbeContext, hit: Hit) {
    let subject = first_argument(ctx);
    let Some(row) = Row::to_begin(&hit) else {
        maps::count(Counter::EntriesForgotten);
        report_entry(ctx, hit, subject);
        return;
    };
    let record = row.record();
    // SAFETY: the row is this thread's own, and over.
    unsafe {
        let flags = header::copy_head(&raw mut (*record).entry.head, subject);
        if flags != 0 {
            header::say_unreadable(subject, hit.point(), hit.tid());
        }
        (*record).entry.far = header::far_word(subject, hit.far());
        (*record).entry.flags = u64::from(flags);
        (*record).name(hit.cookie, hit.sp, subject, hit.tid(), hit.tgid());
    }
    let hit = hit.dated_now();
    row.open(hit.ts);
    lap::entry(&hit);
}

#[inline(always)]
fn end<C: EbpfContext>(ctx: &C, regs: *const pt_regs) {
    let Some(hit) = Hit::take_return(ctx, regs) else { return };
    report(ctx, hit);
    lap::end(&hit);
}

#[inline(always)]
fn report<C: EbpfContext>(ctx: &C, hit: Hit) {
    let sp = hit.sp.wrapping_sub(RETURN_ADDRESS);
    let Some(row) = Row::that_ends(&hit, sp) else {
        let mut record = MaybeUninit::<Record>::uninit();
        let place = record.as_mut_ptr();
        // SAFETY: memory of this program's own, longer than what is written and sent.
        unsafe {
            header::clear_head(&raw mut (*place).head);
            emit::describe(place, &hit.dated_now(), RecordKind::Leave, FLAG_SUBJECT_UNKNOWN, sp, 0, 0);
            emit::send(ctx, place.cast(), RECORD_WITH_HEAD as u64);
        }
        return;
    };
    let record = row.record();
    // SAFETY: the row is this thread's own until it is closed below; of what is sent all is written.
    unsafe {
        let subject = (*record).subject();
        let far = header::far_word(subject, hit.far());
        let mut flags = header::copy_head(&raw mut (*record).head, subject);
        let hit = hit.dated_now();
        if !row.is_loud() && flags == 0 && quiet::is_unsaid(&hit, record, far) {
            row.close();
            return;
        }
        let is_full = flags == 0 && header::is_complete(&raw const (*record).head);
        let hit = if is_full {
            flags = header::copy_stage(&raw mut (*record).stage, &raw const (*record).head, subject);
            hit.dated_now()
        } else {
            hit
        };
        emit::describe(record.cast(), &hit, RecordKind::Call, flags, sp, subject, far);
        let len = if is_full { CALL_FULL } else { CALL_WITH_HEAD };
        emit::send(ctx, record.cast(), len as u64);
        lap::record(&hit);
    }
    // After it was reported: who reads the calls in progress first and the records then misses none.
    row.close();
}
