//! What the compiler must not know, or must not do, said by instructions that are none.

use core::arch::asm;

/// The same number, in a register that the compiler knows nothing else of. What is compared with its bounds must be what is
/// then used, and with one bound at a time: what the compiler makes of two (a difference, compared once) says nothing about
/// the number itself to the verifier of Linux 6.12.
#[inline(always)]
pub fn opaque(mut number: u64) -> u64 {
    // SAFETY: no instruction.
    unsafe { asm!("/* {number} */", number = inout(reg) number, options(nomem, nostack)) };
    number
}

/// Nothing that is written before it is written after it.
#[inline(always)]
pub fn barrier() {
    // SAFETY: no instruction; x86-64 keeps the order of writes itself.
    unsafe { asm!("") };
}
