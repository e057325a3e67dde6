//! A function of a task's vtable has been entered and returns: one record of both, at the return, or none.
//!
//! What has not returned yet is for user space to find among the calls in progress. Does not know addresses: where
//! records must say them, `call` reports each moment by itself.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_func_ip;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use observer_common::{
    CALL_ENTRY, CALL_FULL, CALL_WITH_HEAD, Cookie, Counter, FLAG_SUBJECT_UNKNOWN, RECORD_WITH_HEAD, Record, RecordKind,
};

use crate::call::{RETURN_ADDRESS, first_argument, report_entry};
use crate::desk::Desk;
use crate::emit::{self, Hit};
use crate::rows::Row;
use crate::{header, lap, maps, quiet};

/// What a program of a session says at an entry: the return is wanted, or it is not.
const WANTED: u32 = 0;
const UNWANTED: u32 = 1;

/// Remembers what there is to report.
#[uprobe]
pub fn begin_call(ctx: ProbeContext) -> u32 {
    if let Some(hit) = Hit::take(&ctx, ctx.regs) {
        begin(&ctx, hit, Desk::of(hit.pid_tgid), false);
    }
    0
}

/// Reports the call, with the memory that is now where the header was.
#[uretprobe]
pub fn end_call(ctx: RetProbeContext) -> u32 {
    if let Some(hit) = Hit::take_return(&ctx, ctx.regs) {
        end(&ctx, hit, Desk::of(hit.pid_tgid));
    }
    0
}

/// Both, where the kernel calls one program at both moments (a session, since Linux 6.13): the second is told by the thread
/// being elsewhere than where the function begins. That is asked of the kernel only where the desk does not show it: asking costs the target
/// a twentieth of what the hits cost. Written out, because the macro for it answers 0 whatever the program says, and
/// a return that nobody wants would be trapped.
#[unsafe(no_mangle)]
#[unsafe(link_section = "uprobe")]
extern "C" fn whole_call(ctx: *mut c_void) -> u32 {
    let ctx = ProbeContext::new(ctx);
    let Some((hit, desk)) = Hit::of_either(&ctx, ctx.regs) else { return UNWANTED };
    let seen = desk.as_ref().and_then(|desk| Row::is_at_return(&hit, desk, hit.sp.wrapping_sub(RETURN_ADDRESS)));
    // SAFETY: the program's own context.
    let is_at_return = seen.unwrap_or_else(|| unsafe { bpf_get_func_ip(ctx.as_ptr()) } != hit.at);
    if is_at_return {
        match &desk {
            Some(desk) => desk.count_return(),
            None => drop(maps::count(Counter::Returns)),
        }
        end(&ctx, hit, desk);
        return WANTED;
    }
    if desk.is_none() {
        maps::count(Counter::Hits);
    }
    begin(&ctx, hit, desk, true)
}

/// Whether the return is wanted; where it comes all the same (`may_do_without` is not said), it is.
#[inline(always)]
fn begin(ctx: &ProbeContext, hit: Hit, desk: Option<Desk>, may_do_without: bool) -> u32 {
    let answer = remember(ctx, hit, desk.as_ref(), may_do_without);
    lap::end(&hit);
    answer
}

#[inline(always)]
fn remember(ctx: &ProbeContext, hit: Hit, desk: Option<&Desk>, may_do_without: bool) -> u32 {
    if may_do_without && desk.is_some_and(|desk| Row::is_elsewhere(&hit, desk)) {
        maps::count(Counter::Elsewhere);
        return UNWANTED;
    }
    let subject = first_argument(ctx);
    let Some(row) = Row::to_begin(&hit, desk) else {
        maps::count(Counter::EntriesForgotten);
        report_entry(ctx, hit, subject);
        return WANTED;
    };
    row.set_at(hit.at);
    let record = row.record();
    // SAFETY: the row is this thread's own, and over.
    let (flags, far) = unsafe {
        let flags = header::copy_head(&raw mut (*record).entry.head, subject);
        if flags != 0 {
            header::say_unreadable(subject, hit.point(), hit.tid());
        }
        let far = header::far_word(subject, hit.far());
        (*record).entry.far = far;
        (*record).entry.flags = u64::from(flags);
        (*record).name(hit.cookie, hit.sp, subject, hit.tid(), hit.tgid());
        (flags, far)
    };
    let hit = hit.dated_now();
    // SAFETY: as above; the head was written.
    let is_held_once = unsafe { header::is_held_once(&raw const (*record).entry.head) };
    if may_do_without && hit.register() == Cookie::GIVES_UP && flags == 0 && is_held_once {
        // SAFETY: as above; all of what is sent was written but the entry's time, which stays 0: the row is not opened.
        unsafe {
            emit::describe(record.cast(), &hit, RecordKind::Release, flags, hit.sp, subject, far);
            emit::send::<CALL_ENTRY, _>(ctx, desk, record.cast());
        }
        row.leave();
        lap::record(&hit);
        return UNWANTED;
    }
    row.open(desk, hit.sp, hit.ts);
    lap::entry(&hit);
    WANTED
}

#[inline(always)]
fn end<C: EbpfContext>(ctx: &C, hit: Hit, desk: Option<Desk>) {
    report(ctx, hit, desk.as_ref());
    lap::end(&hit);
}

#[inline(always)]
fn report<C: EbpfContext>(ctx: &C, hit: Hit, desk: Option<&Desk>) {
    let sp = hit.sp.wrapping_sub(RETURN_ADDRESS);
    let Some(row) = Row::that_ends(&hit, desk, sp) else {
        let mut record = MaybeUninit::<Record>::uninit();
        let place = record.as_mut_ptr();
        // SAFETY: memory of this program's own, longer than what is written and sent.
        unsafe {
            header::clear_head(&raw mut (*place).head);
            emit::describe(place, &hit.dated_now(), RecordKind::Leave, FLAG_SUBJECT_UNKNOWN, sp, 0, 0);
            emit::send::<RECORD_WITH_HEAD, _>(ctx, desk, place.cast());
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
            row.close(desk);
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
        if is_full {
            emit::send::<CALL_FULL, _>(ctx, desk, record.cast());
        } else {
            emit::send::<CALL_WITH_HEAD, _>(ctx, desk, record.cast());
        }
        lap::record(&hit);
    }
    // After it was reported: who reads the calls in progress first and the records then misses none.
    row.close(desk);
}
