//! A Rust panic begins to unwind.
//!
//! Does not know which task it hits: the thread's innermost poll tells user space.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use observer_common::{RECORD_BARE, RecordKind};

use crate::emit::{Draft, Hit};
use crate::{lap, quiet};

/// Reports it.
#[uprobe]
pub fn raise(ctx: ProbeContext) -> u32 {
    let Some(hit) = Hit::take(&ctx, ctx.regs).map(Hit::dated_now) else { return 0 };
    quiet::disturb(&hit);
    let mut draft = Draft::new();
    draft.describe(&hit, RecordKind::Raise, 0, hit.sp, 0, 0);
    draft.send::<RECORD_BARE, _>(&ctx, &hit);
    lap::end(&hit);
    0
}
