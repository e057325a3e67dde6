//! Programs that do what ours do at a hit, and leave nothing behind but a record that nobody reads: what that costs here. For
//! measuring only, on the observer itself.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use observer_common::{RECORD_WITH_HEAD, RecordKind};

use crate::call::first_argument;
use crate::emit::{Draft, Hit};
use crate::header;
use crate::rows::Row;

/// What an entry or a return does.
#[uprobe]
pub fn pretend(ctx: ProbeContext) -> u32 {
    let (mut draft, hit) = (Draft::new(), Hit::of_own(&ctx, ctx.regs));
    work(&mut draft, &hit, first_argument(&ctx));
    hit.dated_now();
    0
}

/// The same, and a record.
#[uprobe]
pub fn pretend_and_write(ctx: ProbeContext) -> u32 {
    let (mut draft, hit) = (Draft::new(), Hit::of_own(&ctx, ctx.regs));
    let subject = first_argument(&ctx);
    work(&mut draft, &hit, subject);
    draft.describe(&hit.dated_now(), RecordKind::Enter, 0, hit.sp, subject, 0);
    draft.send_priced::<RECORD_WITH_HEAD, _>(&ctx);
    0
}

/// Copies a head and looks for the call's row.
#[inline(always)]
fn work(draft: &mut Draft, hit: &Hit, subject: u64) {
    // Whether it could be read does not matter, nor whether there is a row.
    let _ = header::copy_head(draft.head(), subject);
    let _ = Row::that_ends(hit, hit.sp);
}
