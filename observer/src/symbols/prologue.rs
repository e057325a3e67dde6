//! How far a function's stack pointer stands below its canonical frame address, once its prologue is over.
//!
//! An unwind table says that by the frame pointer, where a function has one; who does not know that register needs this. Does
//! not know: registers, stacks. What it says holds for as long as the function does not push anything more, which is for
//! the one who uses it to check.

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use super::code::decoder;
use crate::model::VirtAddr;

/// A return address.
const WORD: i64 = 8;
/// Instructions that a prologue has at most.
const MOST: usize = 64;

/// The distance for the code of a function, from its first byte to the place that is asked about. `None` for a frame whose
/// size is not the same each time, and for a prologue that is of no form known here.
pub fn fixed_frame(code: &[u8]) -> Option<i64> {
    let mut decoder = decoder(code, VirtAddr(0));
    let mut written = InstructionInfoFactory::new();
    let (mut depth, mut allocated) = (WORD, false);
    for _ in 0..MOST {
        if !decoder.can_decode() {
            break;
        }
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return None;
        }
        match effect(&instruction, &mut written) {
            Effect::Push => depth += WORD,
            Effect::Allocate(bytes) => (depth, allocated) = (depth.checked_add(bytes)?, true),
            // Large frames touch each page.
            Effect::Touch => {}
            Effect::None if allocated => break,
            Effect::None => {}
            // What runs before the prologue may leave for the end at once.
            Effect::Leaves if depth == WORD => {}
            Effect::Leaves => break,
            Effect::Unknown => return None,
        }
    }
    (depth > WORD).then_some(depth)
}

enum Effect {
    Push,
    Allocate(i64),
    /// A store to where the stack pointer points.
    Touch,
    /// The stack pointer stays as it is.
    None,
    /// A call, a jump, a branch, an end.
    Leaves,
    /// The stack pointer becomes something that is not computed here.
    Unknown,
}

fn effect(instruction: &Instruction, written: &mut InstructionInfoFactory) -> Effect {
    match (instruction.mnemonic(), instruction.op0_kind(), instruction.op0_register()) {
        (Mnemonic::Push, OpKind::Register, _) => return Effect::Push,
        (Mnemonic::Sub, OpKind::Register, Register::RSP) => {
            let by = match instruction.op1_kind() {
                OpKind::Immediate8to64 | OpKind::Immediate32to64 => instruction.immediate(1).cast_signed(),
                _ => return Effect::Unknown,
            };
            return if by >= 0 { Effect::Allocate(by) } else { Effect::Unknown };
        }
        // The end of a loop that touches pages is computed so.
        (Mnemonic::Lea, _, Register::R11) if instruction.memory_base() == Register::RSP => return Effect::Unknown,
        (Mnemonic::Mov, OpKind::Memory, _) if instruction.memory_base() == Register::RSP => return Effect::Touch,
        _ => {}
    }
    if instruction.flow_control() != FlowControl::Next {
        return Effect::Leaves;
    }
    let writes = |access: OpAccess| !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead);
    let registers = written.info(instruction).used_registers();
    let moves = registers.iter().any(|used| used.register().full_register() == Register::RSP && writes(used.access()));
    if moves { Effect::Unknown } else { Effect::None }
}

/// Whether the bytes before a return address end in a call.
pub fn ends_in_call(before: &[u8]) -> bool {
    let calls = |length: usize| {
        let Some(code) = before.len().checked_sub(length).and_then(|from| before.get(from..)) else { return false };
        let instruction = decoder(code, VirtAddr(0)).decode();
        let is_call = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        is_call && instruction.len() == length
    };
    (2..=8).any(calls)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PUSH_RBP: &[u8] = &[0x55];
    const MOV_RBP_RSP: &[u8] = &[0x48, 0x89, 0xe5];
    const PUSH_R15: &[u8] = &[0x41, 0x57];
    const SUB_24: &[u8] = &[0x48, 0x83, 0xec, 0x18];
    const SUB_PAGE: &[u8] = &[0x48, 0x81, 0xec, 0, 0x10, 0, 0];
    const TOUCH: &[u8] = &[0x48, 0xc7, 0x04, 0x24, 0, 0, 0, 0];
    const AND_RSP: &[u8] = &[0x48, 0x83, 0xe4, 0xe0];
    const SUB_RAX: &[u8] = &[0x48, 0x29, 0xc4];
    const CALL: &[u8] = &[0xe8, 1, 2, 3, 4];
    const MOV_RDI: &[u8] = &[0x48, 0x89, 0xfb];
    const BRANCH: &[u8] = &[0x74, 0x10];

    #[test]
    fn pushes_and_subtractions_add_up_until_the_body_begins() {
        let of = |parts: &[&[u8]]| fixed_frame(&parts.concat());
        assert_eq!(of(&[PUSH_RBP, MOV_RBP_RSP, PUSH_R15, SUB_24, MOV_RDI, CALL]), Some(48));
        assert_eq!(of(&[PUSH_RBP, MOV_RBP_RSP, CALL, SUB_24]), Some(16));
        assert_eq!(of(&[BRANCH, PUSH_RBP, MOV_RBP_RSP, SUB_24]), Some(40));
        assert_eq!(of(&[PUSH_RBP, MOV_RBP_RSP, SUB_PAGE, TOUCH, SUB_24, MOV_RDI]), Some(16 + 4096 + 24));
        assert_eq!(of(&[PUSH_RBP, MOV_RBP_RSP, SUB_24, MOV_RDI, PUSH_R15]), Some(40), "not the prologue's");
    }

    #[test]
    fn a_frame_that_is_not_the_same_each_time_is_not_said() {
        for part in [AND_RSP, SUB_RAX] {
            assert_eq!(fixed_frame(&[PUSH_RBP, MOV_RBP_RSP, part, SUB_24].concat()), None);
        }
        assert_eq!(fixed_frame(&[]), None);
        assert_eq!(fixed_frame(CALL), None);
    }

    #[test]
    fn a_return_address_stands_behind_a_call() {
        assert!(ends_in_call(CALL));
        assert!(ends_in_call(&[0x90, 0x90, 0x90, 0xff, 0xd0]), "by a register");
        assert!(ends_in_call(&[0x90, 0xff, 0x15, 1, 2, 3, 4]), "by a table");
        assert!(!ends_in_call(&[0x90; 8]) && !ends_in_call(&[]) && !ends_in_call(&[0xe8]));
    }

    proptest! {
        #[test]
        fn no_code_panics(code in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (fixed_frame(&code), ends_in_call(&code));
        }
    }
}
