//! Calls into other libraries, which are C, come back and do not run code of the image.
//!
//! Does not know: which library, which function.

use std::collections::BTreeSet;
use std::ops::Range;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use crate::model::VirtAddr;
use crate::symbols::{Image, LOST_IN_CALLS, Sweep};

/// Which calls of a function go into other libraries: through slots that only the loader fills.
pub(super) struct Imports<'i, 'd> {
    /// `None` where a library calls back into the image.
    image: Option<&'i Image<'d>>,
    slots: BTreeSet<VirtAddr>,
    /// Registers that are loaded from such slots and written by nothing else, but for being restored.
    registers: BTreeSet<Register>,
}

impl<'i, 'd> Imports<'i, 'd> {
    /// Of the function in this range.
    pub(super) fn of_function(image: &'i Image<'d>, range: Range<VirtAddr>) -> Self {
        let mut imports = Self { image: None, slots: BTreeSet::new(), registers: BTreeSet::new() };
        // A dynamically linked standard library calls back into the image.
        if image.needed().iter().any(|library| library.starts_with("libstd-")) {
            return imports;
        }
        imports.image = Some(image);
        let mut otherwise = BTreeSet::new();
        for instruction in Sweep::new(image, range) {
            let slot = VirtAddr(instruction.ip_rel_memory_address());
            let through = instruction.is_ip_rel_memory_operand() && is_import(image, slot);
            match instruction.mnemonic() {
                Mnemonic::Call if through => {
                    imports.slots.insert(slot);
                }
                Mnemonic::Mov if through && instruction.op0_register().size() == 8 => {
                    imports.registers.insert(instruction.op0_register());
                }
                Mnemonic::Pop | Mnemonic::Push | Mnemonic::Call | Mnemonic::Cmp | Mnemonic::Test => {}
                Mnemonic::Xchg | Mnemonic::Xadd => {
                    let both = [instruction.op0_register(), instruction.op1_register()];
                    otherwise.extend(both.map(Register::full_register));
                }
                _ => {
                    otherwise.insert(instruction.op0_register().full_register());
                }
            }
        }
        // Only those that a call preserves, and that no instruction writes without naming them.
        let kept = [Register::R12, Register::R13, Register::R14, Register::R15];
        imports.registers.retain(|register| kept.contains(register) && !otherwise.contains(register));
        imports
    }

    /// The register that this instruction loads from such a slot, if calls preserve it.
    pub(super) fn loads(&self, instruction: &Instruction) -> Option<Register> {
        let register = instruction.op0_register();
        let slot = VirtAddr(instruction.ip_rel_memory_address());
        let loads =
            instruction.mnemonic() == Mnemonic::Mov && instruction.is_ip_rel_memory_operand() && register.is_gpr64();
        let kept = loads && !LOST_IN_CALLS.contains(&register.number()) && register != Register::RSP;
        (kept && self.image.is_some_and(|image| is_import(image, slot))).then_some(register)
    }

    /// Whether this call is one.
    pub(super) fn calls(&self, call: &Instruction) -> bool {
        let slot = VirtAddr(call.ip_rel_memory_address());
        (call.is_ip_rel_memory_operand() && self.slots.contains(&slot))
            || (call.op0_kind() == OpKind::Register && self.registers.contains(&call.op0_register()))
    }
}

/// A slot that the loader fills with another library's function: it holds nothing of this image.
fn is_import(image: &Image<'_>, slot: VirtAddr) -> bool {
    image.pointer_at(slot).is_none()
        && image.segment_at(slot).is_some_and(|s| s.is_writable() && !s.is_executable())
        && !image.is_variable(slot)
}
