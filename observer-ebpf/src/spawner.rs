//! A task's id is taken, with who takes it: the registers, and the stack as far as a record goes.
//!
//! Does not know how a stack is unwound: user space does that. Nor which type is born: at this moment nobody does.

use core::ptr::addr_of_mut;

use aya_ebpf::bindings::{BPF_NOEXIST, pt_regs};
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use observer_common::{
    FLAG_NO_SCRATCH, FLAG_STACK_CUT, HEAD_WORDS, PAGE, RECORD_BARE, RecordKind, Registers, SPAWN_BARE, STACK_PAGES,
    SpawnRecord, Spot,
};

use crate::emit::{self, Hit};
use crate::lap;
use crate::maps::{SCRATCH, SCRATCH_ROWS, SCRATCH_TAKEN, SPOTS};
use crate::spawn::register;

/// A spawn's record without a stack.
#[repr(C)]
struct Bare {
    record: [u64; RECORD_BARE / 8],
    registers: Registers,
    spawner: u64,
    head: [u64; HEAD_WORDS],
}

/// Reports the id that the cookie's register holds, with the spawner.
#[uprobe]
pub fn spawn(ctx: ProbeContext) -> u32 {
    let Some(hit) = Hit::take(&ctx, ctx.regs).map(Hit::dated_now) else { return 0 };
    // No task has the id 0: user space says that the cookie names no register.
    let subject = register(ctx.regs, hit.register()).unwrap_or(0);
    // SAFETY: the helper takes nothing.
    let first = unsafe { bpf_get_smp_processor_id() }.wrapping_mul(SCRATCH_ROWS);
    for row in 0..SCRATCH_ROWS {
        let claim = first.wrapping_add(row);
        if SCRATCH_TAKEN.insert(claim, hit.pid_tgid, u64::from(BPF_NOEXIST)).is_err() {
            continue;
        }
        if let Some(record) = SCRATCH.get_ptr_mut(row) {
            report(&ctx, &hit, subject, record);
        }
        // It is this program's own: removing cannot fail.
        let _ = SCRATCH_TAKEN.remove(claim);
        lap::end(&hit);
        return 0;
    }
    let mut bare = Bare { record: [0; _], registers: registers(ctx.regs), spawner: 0, head: [0; _] };
    // SAFETY: memory of this program's own, with room for the bare part; all of it is written.
    unsafe {
        emit::describe((&raw mut bare).cast(), &hit, RecordKind::Spawn, FLAG_NO_SCRATCH, hit.sp, subject, 0);
        emit::send_alone(&ctx, (&raw mut bare).cast(), SPAWN_BARE as u64);
    }
    lap::end(&hit);
    0
}

/// Fills the row and sends as much of it as was filled.
#[inline(always)]
fn report(ctx: &ProbeContext, hit: &Hit, subject: u64, record: *mut SpawnRecord) {
    let from = hit.sp & !7;
    // SAFETY: the row is this program's own until it is given back; the helper checks the user address.
    unsafe {
        let stack = addr_of_mut!((*record).stack).cast::<u8>();
        // To the end of the page that the stack pointer stands in, then page by page: what lies behind the stack's end
        // must not cost what lies before it. The first pages may be away as well: a function that has only moved the
        // stack pointer yet has not written there, and a probe brings no page in.
        let mut length = PAGE as u64 - (from & (PAGE as u64 - 1));
        let mut unread = 0;
        // A flag, although `unread == length` says the same: kernels of the age of 6.1 go on into branches that such a
        // comparison excludes, and then refuse the program.
        let mut nothing_read = false;
        let mut flags = 0;
        if bpf_probe_read_user(stack.cast(), length as u32, from as *const _) != 0 {
            unread = length;
            nothing_read = true;
        }
        for _ in 0..STACK_PAGES {
            let (to, at) = (stack.add(length as usize), from.wrapping_add(length));
            if bpf_probe_read_user(to.cast(), PAGE as u32, at as *const _) == 0 {
                length += PAGE as u64;
                nothing_read = false;
            } else if nothing_read {
                length += PAGE as u64;
                unread = length;
            } else {
                flags = FLAG_STACK_CUT;
                break;
            }
        }
        if nothing_read {
            (length, unread, flags) = (0, 0, FLAG_STACK_CUT);
        }
        let registers = registers(ctx.regs);
        (*record).registers = registers;
        let head = addr_of_mut!((*record).head);
        (*record).spawner = match spawner(&registers, from, hit.point()) {
            Some(header) if bpf_probe_read_user(head.cast(), size_of_val(&*head) as u32, header as *const _) == 0 => {
                header
            }
            _ => {
                *head = [0; _];
                0
            }
        };
        emit::describe(record.cast(), hit, RecordKind::Spawn, flags, hit.sp, subject, unread);
        emit::send_alone(ctx, record.cast(), SPAWN_BARE as u64 + length);
    }
}

/// What stands where the point's spot says.
#[inline(always)]
fn spawner(registers: &Registers, stack: u64, point: u32) -> Option<u64> {
    // SAFETY: the value is copied at once.
    let spot = Spot::from_u64(unsafe { SPOTS.get(point) }.copied()?);
    match spot {
        Spot::Register(0) => Some(registers.rbx),
        Spot::Register(1) => Some(registers.rbp),
        Spot::Register(2) => Some(registers.r12),
        Spot::Register(3) => Some(registers.r13),
        Spot::Register(4) => Some(registers.r14),
        Spot::Register(5) => Some(registers.r15),
        Spot::Register(_) => None,
        Spot::Stack(offset) => {
            let mut word = 0u64;
            // SAFETY: into a word of our own; the helper checks the user address.
            let read = unsafe {
                bpf_probe_read_user((&raw mut word).cast(), 8, stack.wrapping_add(offset.into()) as *const _)
            };
            (read == 0).then_some(word)
        }
    }
}

#[inline(always)]
fn registers(regs: *const pt_regs) -> Registers {
    // SAFETY: the program's own context, which is the registers.
    unsafe {
        Registers {
            rip: (*regs).rip,
            rbx: (*regs).rbx,
            rbp: (*regs).rbp,
            r12: (*regs).r12,
            r13: (*regs).r13,
            r14: (*regs).r14,
            r15: (*regs).r15,
        }
    }
}
