//! What the kernel does with a breakpoint on an instruction: emulate it, single-step it, or refuse it. Mirrors
//! `arch/x86/kernel/uprobes.c` of Linux 5.10 to 6.18, on the careful side: what is not known to be emulated is dear.
//!
//! Does not know: where a probe is wanted.

use iced_x86::{EncodingKind, Instruction, Mnemonic, Register};

use crate::model::Cost;

/// The class of an instruction, or why the kernel (or we) will not have a breakpoint on it.
pub(super) fn class(instruction: &Instruction, bytes: &[u8]) -> Result<Cost, &'static str> {
    if is_emulated(bytes) {
        return Ok(Cost::Emulated);
    }
    if is_long_nop(instruction) {
        return Err("a probe on a long nop corrupts the red zone on some kernels");
    }
    if instruction.has_lock_prefix() {
        return Err("the kernel refuses a breakpoint on a locked instruction");
    }
    if matches!(instruction.segment_prefix(), Register::ES | Register::CS | Register::SS | Register::DS) {
        return Err("the kernel refuses a breakpoint on an instruction with this segment prefix");
    }
    if matches!(instruction.encoding(), EncodingKind::EVEX | EncodingKind::XOP | EncodingKind::D3NOW) {
        return Err("the kernel refuses a breakpoint on an instruction in this encoding");
    }
    if instruction.is_privileged() || is_refused(instruction.mnemonic()) {
        return Err("the kernel refuses a breakpoint on this instruction");
    }
    Ok(Cost::SingleStepped)
}

/// push, nop, jmp rel, jcc rel, call rel32, in the forms without prefixes, but for `push` of r8 to r15, the two-byte nop
/// and the `call` that a linker lengthens by a prefix. Each was measured on Linux 6.18.
fn is_emulated(bytes: &[u8]) -> bool {
    match bytes {
        [0x50..=0x57] | [0x41, 0x50..=0x57] => true,
        [0x90] | [0x66, 0x90] => true,
        [0xe8 | 0xe9, rest @ ..] | [0x67, 0xe8, rest @ ..] => rest.len() == 4,
        [0xeb | 0x70..=0x7f, _] => true,
        [0x0f, 0x80..=0x8f, rest @ ..] => rest.len() == 4,
        _ => false,
    }
}

/// Linux 6.18 replaces the five-byte nop by a call, which writes below the stack pointer, where a leaf function keeps
/// its values. The other lengths are emulated by few kernels only, and none is ever the only place.
fn is_long_nop(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Nop
}

fn is_refused(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{
        In, Insb, Insd, Insw, Int, Int1, Int3, Into, Iret, Iretd, Iretq, Out, Outsb, Outsd, Outsw, Rsm, Syscall,
        Sysenter, Sysexit, Sysret, Ud0, Ud1, Ud2, Xbegin,
    };
    matches!(
        mnemonic,
        In | Insb
            | Insd
            | Insw
            | Out
            | Outsb
            | Outsd
            | Outsw
            | Int
            | Int1
            | Int3
            | Into
            | Iret
            | Iretd
            | Iretq
            | Rsm
            | Syscall
            | Sysenter
            | Sysexit
            | Sysret
            | Ud0
            | Ud1
            | Ud2
            | Xbegin
    )
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    fn of(bytes: &[u8]) -> Option<Cost> {
        let instruction = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
        assert_eq!(instruction.len(), bytes.len(), "the test's bytes are one instruction");
        class(&instruction, bytes).ok()
    }

    #[test]
    fn the_measured_instructions_are_emulated() {
        let emulated: [&[u8]; 10] = [
            &[0x55],                   // push rbp
            &[0x41, 0x57],             // push r15
            &[0x90],                   // nop
            &[0xeb, 0x10],             // jmp short
            &[0xe9, 1, 2, 3, 4],       // jmp
            &[0x74, 0xf0],             // je short
            &[0x0f, 0x85, 1, 2, 3, 4], // jne
            &[0xe8, 1, 2, 3, 4],       // call
            &[0x66, 0x90],             // xchg ax, ax
            &[0x67, 0xe8, 1, 2, 3, 4], // addr32 call
        ];
        assert!(emulated.iter().all(|bytes| of(bytes) == Some(Cost::Emulated)));
    }

    #[test]
    fn others_are_single_stepped() {
        let stepped: [&[u8]; 8] = [
            &[0x48, 0x89, 0xe5],             // mov rbp, rsp
            &[0x48, 0x83, 0xec, 0x18],       // sub rsp, 24
            &[0x48, 0x8d, 0x05, 1, 2, 3, 4], // lea rax, [rip+d]
            &[0xf3, 0x0f, 0x1e, 0xfa],       // endbr64
            &[0xc3],                         // ret
            &[0xff, 0x15, 1, 2, 3, 4],       // call [rip+d]
            &[0x5d],                         // pop rbp
            &[0x6a, 0x01],                   // push 1
        ];
        assert!(stepped.iter().all(|bytes| of(bytes) == Some(Cost::SingleStepped)));
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let refused: [&[u8]; 7] = [
            &[0xf0, 0x48, 0x0f, 0xc1, 0x08],       // lock xadd
            &[0xcc],                               // int3
            &[0xf4],                               // hlt
            &[0x0f, 0x0b],                         // ud2
            &[0x0f, 0x1f, 0x44, 0x00, 0x00],       // five-byte nop
            &[0x2e, 0x48, 0x89, 0xe5],             // cs mov
            &[0x62, 0xf1, 0x7c, 0x48, 0x28, 0xc1], // vmovaps zmm0, zmm1
        ];
        assert!(refused.iter().all(|bytes| of(bytes).is_none()));
    }
}
