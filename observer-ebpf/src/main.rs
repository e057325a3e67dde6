//! Kernel side of async-observer: one program per probed moment, each of which reports what it saw and counts.
//!
//! Nothing is decided here, no runtime and no version of one is known, and no kernel structure is read: the only inputs
//! are the registers, the attach cookie and the target's memory. The same programs load for uprobe_multi and for
//! perf events, see `observer::attach`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[cfg(not(bpf_target_arch = "x86_64"))]
compile_error!("the programs read x86-64 registers; build with `cargo xtask ebpf`");

mod audience;
mod call;
mod compiler;
mod desk;
mod emit;
mod header;
mod lap;
mod maps;
mod nothing;
mod open_calls;
mod panic;
mod pretend;
mod quiet;
mod ring;
mod rows;
mod spawn;
mod spawner;
mod whole_call;

/// Lets the kernel offer its GPL-only helpers (time, user memory, perf output).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: nothing here panics, and the verifier would refuse the loop.
#[panic_handler]
fn no_panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
