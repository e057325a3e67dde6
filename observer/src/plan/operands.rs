//! Registers and words of memory, as instructions name and change them.
//!
//! Does not know: what is in them.

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, Register};

use crate::symbols::{LOST_IN_CALLS, is_written};

/// Whether the register holds the same after all of these.
pub(super) fn keep(steps: &[Instruction], register: usize) -> bool {
    let mut factory = InstructionInfoFactory::new();
    steps.iter().all(|step| !changes(&mut factory, step, register))
}

/// Whether the instruction may change the register with this number.
pub(super) fn changes(factory: &mut InstructionInfoFactory, step: &Instruction, register: usize) -> bool {
    if step.mnemonic() == Mnemonic::Call {
        // Its return address is gone from the stack again when it returns.
        return LOST_IN_CALLS.contains(&register);
    }
    let used = factory.info(step).used_registers();
    used.iter().any(|used| {
        used.register().is_gpr() && used.register().full_register().number() == register && is_written(used.access())
    })
}

/// Whether the memory operand is a word so far from what a register holds, of the thread's ordinary memory.
pub(super) fn is_word(step: &Instruction) -> bool {
    step.memory_size().size() == 8
        && step.memory_base().is_gpr64()
        && step.memory_index() == Register::None
        && step.segment_prefix() == Register::None
}

/// Whether so many bytes from there on are a part of the word that is here.
pub(super) fn overlap(start: u64, size: usize, word: u64) -> bool {
    let ahead = word.wrapping_sub(start).cast_signed();
    ahead > -8 && ahead < (size as i64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VirtAddr;
    use crate::symbols::tiny::{CODE, Tiny};
    use crate::symbols::{Image, decode};

    #[test]
    fn a_call_loses_what_calls_may_lose() {
        let bytes = Tiny::new(&[0xff, 0x15, 0, 0, 0, 0, 0xc3], &[0; 8]).build(); // call [rip+0]
        let image = Image::parse(&bytes).expect("tiny images are images");
        let call = decode(&image, VirtAddr(CODE)).expect("a call");
        let kept = (0..16).filter(|&register| keep(&[call], register));
        assert_eq!(Vec::from_iter(kept), [3, 4, 5, 12, 13, 14, 15]);
    }
}
