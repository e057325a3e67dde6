//! What the first argument's register (`rdi`) can hold at one place of the code: constants, as far as they are told.
//!
//! Does not know: which ways lead to the place.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::Image;
use crate::model::VirtAddr;

/// Most constants that are kept for one place: a panic shared by more paths tells nothing of any.
const MOST_ARGUMENTS: usize = 16;

/// What `rdi` can hold at one place of the code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct First {
    pub(super) constants: Vec<VirtAddr>,
    /// Something that is no constant, or more constants than are kept; what a call left there is nothing.
    pub(super) other: bool,
}

impl First {
    pub(super) fn other() -> Self {
        Self { constants: Vec::new(), other: true }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.constants.is_empty() && !self.other
    }

    pub(super) fn clear(&mut self) {
        self.constants.clear();
        self.other = false;
    }

    /// Whether that changed anything.
    pub(super) fn merge(&mut self, more: &Self) -> bool {
        let before = (self.constants.len(), self.other);
        self.other |= more.other;
        for address in &more.constants {
            if self.constants.contains(address) {
                continue;
            }
            if self.constants.len() < MOST_ARGUMENTS {
                self.constants.push(*address);
            } else {
                self.other = true;
            }
        }
        (self.constants.len(), self.other) != before
    }

    /// What the instruction makes of `rdi`.
    pub(super) fn follow(&mut self, image: &Image<'_>, instruction: &Instruction) {
        let constant = match instruction.mnemonic() {
            Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => Some(instruction.ip_rel_memory_address()),
            Mnemonic::Mov if !image.is_pie() => match instruction.op1_kind() {
                OpKind::Immediate32 => Some(u64::from(instruction.immediate32())),
                OpKind::Immediate32to64 => Some(instruction.immediate32to64().cast_unsigned()),
                OpKind::Immediate64 => Some(instruction.immediate64()),
                _ => None,
            },
            _ => None,
        };
        let writes = instruction.op0_kind() == OpKind::Register
            && instruction.op0_register().full_register() == Register::RDI
            || instruction.is_string_instruction()
            || matches!(instruction.mnemonic(), Mnemonic::Xchg | Mnemonic::Xadd);
        if writes {
            self.clear();
            let into_first = instruction.op0_kind() == OpKind::Register
                && instruction.op0_register().full_register() == Register::RDI;
            match constant.filter(|_| into_first) {
                Some(constant) => self.constants.push(VirtAddr(constant)),
                None => self.other = true,
            }
        }
    }
}
