//! Programs that do what ours do at a hit, and leave nothing behind but a record that nobody reads: what that costs here. For
//! measuring only, on the observer itself.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use observer_common::{RECORD_WITH_HEAD, RecordKind};

use crate::call::first_argument;
use crate::desk::Desk;
use crate::emit::{Draft, Hit};
use crate::rows::Row;
use crate::{header, lap};

/// What an entry or a return does.
#[uprobe]
pub fn pretend(ctx: ProbeContext) -> u32 {
    work(&ctx, &mut Draft::new());
    0
}

/// The same, and a record.
#[uprobe]
pub fn pretend_and_write(ctx: ProbeContext) -> u32 {
    let mut draft = Draft::new();
    let hit = work(&ctx, &mut draft);
    draft.describe(&hit, RecordKind::Enter, 0, hit.sp, first_argument(&ctx), 0);
    draft.send_priced::<RECORD_WITH_HEAD, _>(&ctx, &hit);
    0
}

/// Looks for the call's row and copies a head. Its parts are timed where the caller asks for that, by its second argument.
#[inline(always)]
fn work(ctx: &ProbeContext, draft: &mut Draft) -> Hit {
    // SAFETY: the program's own context, which is the registers.
    let timed = unsafe { (*ctx.regs).rsi } & 0xff != 0;
    let hit = Hit::of_own(ctx, ctx.regs, timed);
    // Whether there is room for a row does not matter, nor whether the head could be read. The row is nobody's: none is opened.
    let _ = Row::to_begin(&hit, Desk::priced().as_ref());
    let _ = header::copy_head(draft.head(), first_argument(ctx));
    let hit = hit.dated_now();
    lap::entry(&hit);
    hit
}
