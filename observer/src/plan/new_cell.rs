//! A task's new cell, as the code of its birth writes it.
//!
//! Does not know: where what is written there comes from.

use std::ops::Range;

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};

use super::operands::{changes, is_word, keep, overlap};
use crate::model::CellLayout;
use crate::symbols::is_written;

/// A cell that is being written: its header is so far from what this register holds.
#[derive(Clone, Debug)]
pub(super) struct NewCell {
    base: Register,
    offset: u64,
    /// While these instructions of the way run the register holds the same.
    held: Range<usize>,
    layout: CellLayout,
}

impl NewCell {
    /// The cell that the vtable's address is written to, which the way's first instruction takes or writes.
    pub(super) fn written(way: &[Instruction], layout: &CellLayout) -> Option<Self> {
        let first = way.first()?;
        let n = if first.op0_kind() == OpKind::Memory {
            0
        } else {
            let vtable = first.op0_register().full_register();
            let number = vtable.is_gpr64().then(|| vtable.number())?;
            let stored = |step: &Instruction| step.op1_kind() == OpKind::Register && step.op1_register() == vtable;
            let n = way.iter().skip(1).position(|step| is_store(step) && stored(step))? + 1;
            keep(way.get(1..n)?, number).then_some(n)?
        };
        let store = way.get(n).filter(|store| is_store(store))?;
        let base = store.memory_base();
        let mut factory = InstructionInfoFactory::new();
        let mut changed = |step: &Instruction| changes(&mut factory, step, base.number());
        let from = way.get(..n)?.iter().rposition(&mut changed).map_or(0, |before| before + 1);
        let to = way.get(n..)?.iter().position(&mut changed).map_or(way.len(), |behind| n + behind);
        let offset = store.memory_displacement64().wrapping_sub(u64::from(layout.vtable));
        let cell = Self { base, offset, held: from..to, layout: *layout };
        cell.is_one(way).then_some(cell)
    }

    /// The one instruction that writes the id to the cell, and the register that it is in; `None` where it is not seen, or where
    /// something else is written there besides.
    pub(super) fn id_writer(&self, way: &[Instruction]) -> Option<(usize, usize)> {
        let mut factory = InstructionInfoFactory::new();
        let mut found = None;
        for (n, step) in way.iter().enumerate().skip(self.held.start).take(self.held.len()) {
            if self.is_written_at(step, self.layout.id) && step.op1_kind() == OpKind::Register && found.is_none() {
                found = Some((n, step.op1_register().number()));
            } else if found.is_some() && self.is_touched_at(&mut factory, step, self.layout.id) {
                return None;
            }
        }
        found
    }

    /// Where the id is: so far from what this register holds.
    pub(super) fn id_place(&self) -> (Register, u64) {
        (self.base, self.place_of(self.layout.id))
    }

    /// Whether what is so far from what the register holds is the cell's when the instruction with this number runs.
    pub(super) fn holds(&self, n: usize, base: Register, at: u64) -> bool {
        let into = at.wrapping_sub(self.offset);
        self.held.contains(&n) && base == self.base && into < u64::from(self.layout.trailer)
    }

    /// How far from what the register holds the word at this offset of the cell is.
    fn place_of(&self, offset: u32) -> u64 {
        self.offset.wrapping_add(u64::from(offset))
    }

    /// Whether the instruction writes all of the word at this offset of the cell, and nothing else.
    fn is_written_at(&self, step: &Instruction, offset: u32) -> bool {
        is_store(step) && step.memory_base() == self.base && step.memory_displacement64() == self.place_of(offset)
    }

    /// Whether the instruction writes a part of that word, at least.
    fn is_touched_at(&self, factory: &mut InstructionInfoFactory, step: &Instruction, offset: u32) -> bool {
        let used = factory.info(step).used_memory();
        used.iter().filter(|used| is_written(used.access()) && used.base() == self.base).any(|used| {
            used.index() != Register::None
                || overlap(used.displacement(), used.memory_size().size(), self.place_of(offset))
        })
    }

    /// Whether it is a cell that is written there, and not the vtable's address alone, which may be put aside anywhere. A fresh
    /// cell has no owner; who schedules it stands behind that; behind the id its stage begins, with a number, or is copied to. Two
    /// of these are asked for, as compilers leave one out or write it elsewhere, and one of them with a number: registers that are
    /// put aside have none.
    fn is_one(&self, way: &[Instruction]) -> bool {
        let Some(held) = way.get(self.held.clone()) else { return false };
        let layout = &self.layout;
        let mut factory = InstructionInfoFactory::new();
        let mut touched = |offset: u32, how: &dyn Fn(&Instruction) -> bool| {
            held.iter().any(|step| how(step) && self.is_touched_at(&mut factory, step, offset))
        };
        let is_number = |step: &Instruction| step.mnemonic() == Mnemonic::Mov && is_immediate(step.op1_kind());
        let is_zero = |step: &Instruction| is_number(step) && step.immediate(1) == 0;
        // Behind the id, or a word further, where the future asks for that alignment.
        let stage = touched(layout.id + 8, &is_number) || touched(layout.id + 16, &is_number);
        let numbers = [touched(layout.owner, &is_zero), stage];
        let copied = held.iter().any(|step| {
            let to = [layout.id + 8, layout.id + 16].map(|offset| self.place_of(offset));
            step.mnemonic() == Mnemonic::Lea
                && step.memory_base() == self.base
                && step.memory_index() == Register::None
                && to.contains(&step.memory_displacement64())
        });
        let scheduled = layout.scheduler < layout.id && touched(layout.scheduler, &is_store);
        let others = [touched(layout.owner, &is_vector), scheduled, copied];
        let count = |found: &[bool]| found.iter().filter(|found| **found).count();
        count(&numbers) > 0 && count(&numbers) + count(&others) > 1
    }
}

fn is_immediate(kind: OpKind) -> bool {
    use OpKind::{Immediate8, Immediate16, Immediate32, Immediate32to64};
    matches!(kind, Immediate8 | Immediate16 | Immediate32 | Immediate32to64)
}

fn is_vector(step: &Instruction) -> bool {
    step.op1_kind() == OpKind::Register && step.op1_register().is_vector_register()
}

/// A plain store of a word.
fn is_store(step: &Instruction) -> bool {
    step.mnemonic() == Mnemonic::Mov && step.op0_kind() == OpKind::Memory && is_word(step)
}
