//! A Rust panic is told to the program's hook, and begins to unwind.
//!
//! Does not know which task it hits: the thread's innermost poll tells user space. Nor what the arguments point to.

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

/// Reports where the panic is said to have been: which of two registers points there depends on the compiler's version.
#[uprobe]
pub fn hook(ctx: ProbeContext) -> u32 {
    let Some(hit) = Hit::take(&ctx, ctx.regs).map(Hit::dated_now) else { return 0 };
    // SAFETY: the program's own context, which is the registers.
    let (third, fourth) = unsafe { ((*ctx.regs).rdx, (*ctx.regs).rcx) };
    let mut draft = Draft::new();
    draft.describe(&hit, RecordKind::Hook, 0, hit.sp, third, fourth);
    draft.send::<RECORD_BARE, _>(&ctx, &hit);
    lap::end(&hit);
    0
}
