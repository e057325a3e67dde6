//! A task comes to life: its id is minted, then its vtable is taken.
//!
//! Does not know the task's header; at this moment there may be none yet.

use core::arch::asm;
use core::mem::offset_of;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_ANY, pt_regs};
use aya_ebpf::helpers::{bpf_get_attach_cookie, bpf_get_current_pid_tgid};
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use observer_common::{Cookie, Counter, RECORD_BARE, RecordKind};

use crate::audience;
use crate::emit::{Draft, Hit};
use crate::maps::{self, MINTED};
use crate::{header, lap, quiet};

/// Remembers the id that the cookie's register holds, for this thread's next birth.
#[uprobe]
pub fn mint(ctx: ProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    if !audience::admits(thread) {
        return 0;
    }
    let began = lap::begin(lap::is_timed(maps::count(Counter::Hits)));
    // SAFETY: the program's own context.
    let cookie = Cookie::from_u64(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    if let Some(id) = register(ctx.regs, cookie.register) {
        // A full map evicts the thread that minted longest ago, so this cannot fail for want of room.
        let _ = MINTED.insert(thread, id, u64::from(BPF_ANY));
    }
    lap::since(began);
    0
}

/// Reports a birth, under the id that the cookie says where to find, or else under the id minted last on this thread. That is taken
/// away with it: a birth whose mint was not seen must not get another task's.
#[uprobe]
pub fn birth(ctx: ProbeContext) -> u32 {
    let Some(hit) = Hit::take(&ctx, ctx.regs).map(Hit::dated_now) else { return 0 };
    // Who is polled here is the new task's trigger.
    quiet::disturb(&hit);
    let mut draft = Draft::new();
    let id = match (register(ctx.regs, hit.register()), hit.far()) {
        (None, _) => minted(hit.pid_tgid),
        (Some(id), 0) => id,
        (Some(from), word) => header::word_at(from.wrapping_add(8 * u64::from(word - 1))),
    };
    draft.describe(&hit, RecordKind::Birth, 0, hit.sp, id, 0);
    draft.send::<RECORD_BARE, _>(&ctx, &hit);
    lap::end(&hit);
    0
}

/// The id that this thread minted last, and forgets it; 0 for none.
#[inline(always)]
fn minted(thread: u64) -> u64 {
    // SAFETY: the value is copied at once; only this thread writes or removes it.
    let minted = unsafe { MINTED.get(thread) }.copied();
    if minted.is_some() {
        // Fails only where the entry was evicted meanwhile, which is as good.
        let _ = MINTED.remove(thread);
    }
    minted.unwrap_or(0)
}

/// The register with this number in the x86-64 encoding. Each arm is its own instruction in assembly, because the
/// compiler would merge the loads into one from a computed offset, which the verifier refuses on a program's context.
#[inline(always)]
pub fn register(regs: *const pt_regs, number: u8) -> Option<u64> {
    macro_rules! pick {
        ($($n:literal => $field:ident),*) => {
            match number {
                $($n => {
                    let value: u64;
                    // SAFETY: the program's own context, which is the registers.
                    unsafe {
                        asm!(
                            "{value} = *(u64 *)({regs} + {at})",
                            value = out(reg) value,
                            regs = in(reg) regs,
                            at = const offset_of!(pt_regs, $field),
                            options(pure, readonly, nostack),
                        );
                    }
                    Some(value)
                })*
                _ => None,
            }
        };
    }
    pick!(0 => rax, 1 => rcx, 2 => rdx, 3 => rbx, 4 => rsp, 5 => rbp, 6 => rsi, 7 => rdi,
          8 => r8, 9 => r9, 10 => r10, 11 => r11, 12 => r12, 13 => r13, 14 => r14, 15 => r15)
}
