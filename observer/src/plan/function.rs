//! One function's instructions and where its jumps land: what tells which instructions always run together.
//!
//! Does not know: probes.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::model::VirtAddr;
use crate::symbols::{Image, Sweep};

/// Entries of one jump table that are read at most.
const LONGEST_TABLE: usize = 1 << 16;
/// Instructions of a straight line that are looked at.
const LONGEST_LINE: usize = 96;

/// Functions that were looked at, each decoded once.
pub(super) struct Functions<'i, 'd> {
    image: &'i Image<'d>,
    known: HashMap<VirtAddr, Rc<Function>>,
}

/// A function's range and every place in it that something jumps to.
#[derive(Debug)]
pub(super) struct Function {
    range: Range<VirtAddr>,
    landings: BTreeSet<VirtAddr>,
}

impl<'i, 'd> Functions<'i, 'd> {
    pub(super) fn new(image: &'i Image<'d>) -> Self {
        Self { image, known: HashMap::new() }
    }

    /// The function around a place; `None` where no unwind information covers it.
    pub(super) fn around(&mut self, at: VirtAddr) -> Option<Rc<Function>> {
        let range = self.image.functions().containing(at)?;
        let image = self.image;
        let function = self.known.entry(range.start).or_insert_with(|| Rc::new(Function::read(image, range)));
        Some(Rc::clone(function))
    }
}

impl Function {
    fn read(image: &Image<'_>, range: Range<VirtAddr>) -> Self {
        let mut landings = BTreeSet::new();
        let mut tables = BTreeSet::new();
        let mut jumps_through_tables = false;
        for instruction in Sweep::new(image, range.clone()) {
            match instruction.flow_control() {
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch | FlowControl::Call => {
                    landings.insert(VirtAddr(instruction.near_branch_target()));
                }
                FlowControl::IndirectBranch => {
                    jumps_through_tables = true;
                    // In images at a fixed address: `jmp [table + 8 * register]`.
                    if instruction.op0_kind() == OpKind::Memory && instruction.memory_index() != Register::None {
                        landings.extend(addresses(image, &range, VirtAddr(instruction.memory_displacement64())));
                    }
                }
                _ => {}
            }
            if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
                tables.insert(VirtAddr(instruction.ip_rel_memory_address()));
            }
        }
        if jumps_through_tables {
            for table in tables.into_iter().filter(|&table| !image.is_executable(table)) {
                landings.extend(offsets(image, &range, table));
            }
        }
        landings.retain(|at| range.contains(at));
        Self { range, landings }
    }

    /// The instructions that run if and only if the one at `at` runs (and did not fault): from `at` on, up to the first
    /// that may send control elsewhere, which still belongs to them, and before the first that something jumps to.
    pub(super) fn line(&self, image: &Image<'_>, at: VirtAddr) -> Vec<Instruction> {
        let mut line = Vec::new();
        if !self.range.contains(&at) {
            return line;
        }
        for instruction in Sweep::new(image, at..self.range.end).take(LONGEST_LINE) {
            let here = VirtAddr(instruction.ip());
            if here != at && self.landings.contains(&here) {
                break;
            }
            line.push(instruction);
            if instruction.flow_control() != FlowControl::Next {
                break;
            }
        }
        line
    }

    /// Whether something jumps to this place.
    pub(super) fn is_landing(&self, at: VirtAddr) -> bool {
        self.landings.contains(&at)
    }
}

/// A table of 32-bit offsets from its own start, as position independent code has them. Takes in too much where
/// another table follows, which only makes more places landings.
fn offsets(image: &Image<'_>, range: &Range<VirtAddr>, table: VirtAddr) -> Vec<VirtAddr> {
    let entries = image.slice_from(table).unwrap_or_default().chunks_exact(4).take(LONGEST_TABLE);
    let lands = entries.map_while(|entry| {
        let offset = i32::from_le_bytes(entry.try_into().ok()?);
        let at = VirtAddr(table.0.wrapping_add_signed(i64::from(offset)));
        range.contains(&at).then_some(at)
    });
    lands.collect()
}

/// A table of addresses, as code at a fixed address has them.
fn addresses(image: &Image<'_>, range: &Range<VirtAddr>, table: VirtAddr) -> Vec<VirtAddr> {
    let entries = image.slice_from(table).unwrap_or_default().chunks_exact(8).take(LONGEST_TABLE);
    let lands = entries.map_while(|entry| {
        let at = VirtAddr(u64::from_le_bytes(entry.try_into().ok()?));
        range.contains(&at).then_some(at)
    });
    lands.collect()
}
