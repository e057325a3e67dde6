//! One function's instructions and its jumps: what tells which instructions always run together.
//!
//! Does not know: probes. Jumps by unwinding are not followed: nothing falls into a landing pad.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::model::VirtAddr;
use crate::symbols::{Image, Sweep};

/// Entries of one jump table that are read at most.
const LONGEST_TABLE: usize = 1 << 16;
/// Instructions of a straight line, or between a place and what it stands for, that are looked at.
const LONGEST_REACH: usize = 128;

/// Functions that were looked at, each decoded once.
pub(super) struct Functions<'i, 'd> {
    image: &'i Image<'d>,
    known: HashMap<VirtAddr, Rc<Function>>,
}

/// A function's instructions and every place in it that something jumps to.
#[derive(Debug, Default)]
pub(super) struct Function {
    steps: Vec<Step>,
    /// Which steps jump to a place, by place.
    jumps: BTreeMap<VirtAddr, Vec<usize>>,
    /// Places that tables of jump targets name.
    tabled: BTreeSet<VirtAddr>,
}

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) at: VirtAddr,
    flow: Flow,
}

/// Where control goes from an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// To the next one. So it does from a call into another library, which is C and does not come back into the image.
    Next,
    /// To the next one or to this one.
    Either(VirtAddr),
    /// To this one.
    Jump(VirtAddr),
    /// Into code of the image, and then to the next one, if it returns.
    Call,
    /// The process ends.
    Dead,
    /// Out of the function, or where a table says.
    Away,
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
        let imports = Imports::of_function(image, range.clone());
        let mut function = Self::default();
        let mut bases = BTreeSet::new();
        let mut uses_tables = false;
        for instruction in Sweep::new(image, range.clone()) {
            if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
                bases.insert(VirtAddr(instruction.ip_rel_memory_address()));
            }
            if instruction.flow_control() == FlowControl::IndirectBranch {
                uses_tables = true;
                // In images at a fixed address: `jmp [table + 8 * register]`.
                if instruction.op0_kind() == OpKind::Memory && instruction.memory_index() != Register::None {
                    function.tabled.extend(addresses(image, &range, VirtAddr(instruction.memory_displacement64())));
                }
            }
            let flow = Flow::of(&instruction, &range, &imports);
            if let Flow::Either(to) | Flow::Jump(to) = flow {
                function.jumps.entry(to).or_default().push(function.steps.len());
            }
            function.steps.push(Step { at: VirtAddr(instruction.ip()), flow });
        }
        if uses_tables {
            for base in bases.into_iter().filter(|&base| !image.is_executable(base)) {
                function.tabled.extend(offsets(image, &range, base));
            }
        }
        function
    }

    /// The instructions that run if and only if the one at `at` runs (and did not fault): from `at` on, up to the first
    /// that may send control elsewhere, which still belongs to them, and before the first that something jumps to.
    pub(super) fn line(&self, at: VirtAddr) -> &[Step] {
        let Some(from) = self.step_at(at) else { return &[] };
        let rest = self.steps.get(from..).unwrap_or_default();
        let mut length = 0;
        for step in rest.iter().take(LONGEST_REACH) {
            if length > 0 && self.is_landing(step.at) {
                break;
            }
            length += 1;
            if step.flow != Flow::Next {
                break;
            }
        }
        rest.get(..length).unwrap_or_default()
    }

    /// The instructions that stand before the one at `at`, the nearest first.
    pub(super) fn before(&self, at: VirtAddr) -> impl Iterator<Item = VirtAddr> + '_ {
        let steps = self.step_at(at).and_then(|to| self.steps.get(..to)).unwrap_or_default();
        steps.iter().rev().take(LONGEST_REACH).map(|step| step.at)
    }

    /// Whether each run of the instruction at `from` is followed by exactly one run of that at `to`, and each of those
    /// follows one: every way from it leads there, and every way there comes through it. On the way no code of the image
    /// is called and no place that is `barred` is passed.
    pub(super) fn leads(&self, from: VirtAddr, to: VirtAddr, barred: impl Fn(VirtAddr) -> bool) -> bool {
        let (Some(from), Some(to)) = (self.step_at(from), self.step_at(to)) else { return false };
        let Some(mut open) = self.next_of(from) else { return false };
        let mut between = BTreeSet::new();
        // Which steps come to a step, as far as they were met on the way.
        let mut comes_from: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        while let Some(n) = open.pop() {
            if n == from || between.len() > LONGEST_REACH {
                return false;
            }
            if n == to || !between.insert(n) {
                continue;
            }
            let Some(next) = self.steps.get(n).filter(|s| !barred(s.at)).and_then(|_| self.next_of(n)) else {
                return false;
            };
            for &to in &next {
                comes_from.entry(to).or_default().push(n);
            }
            open.extend(next);
        }
        // Ways that end in a trap may be shared with others: only what leads on must be entered from here alone.
        let mut leading = BTreeSet::from([to]);
        let mut open = vec![to];
        while let Some(n) = open.pop() {
            let before = comes_from.get(&n).into_iter().flatten();
            open.extend(before.copied().filter(|&n| leading.insert(n)));
        }
        let arrives = self.next_of(from).is_some_and(|next| next.iter().any(|n| leading.contains(n)));
        let inside = |n: usize| n == from || between.contains(&n);
        arrives && leading.iter().all(|&n| self.is_entered_only_from(n, inside))
    }

    /// Whether something jumps to this place.
    pub(super) fn is_landing(&self, at: VirtAddr) -> bool {
        self.jumps.contains_key(&at) || self.tabled.contains(&at)
    }

    fn step_at(&self, at: VirtAddr) -> Option<usize> {
        self.steps.binary_search_by_key(&at, |s| s.at).ok()
    }

    /// Whether control comes to a step only from these.
    fn is_entered_only_from(&self, n: usize, inside: impl Fn(usize) -> bool) -> bool {
        let Some(step) = self.steps.get(n) else { return false };
        let Some(before) = n.checked_sub(1) else { return false };
        let falls = self.steps.get(before).is_some_and(|s| matches!(s.flow, Flow::Next | Flow::Either(_) | Flow::Call));
        !self.tabled.contains(&step.at)
            && (!falls || inside(before))
            && self.jumps.get(&step.at).is_none_or(|from| from.iter().all(|&n| inside(n)))
    }

    /// The steps behind a step; `None` where they are not known, or not before code of the image ran.
    fn next_of(&self, n: usize) -> Option<Vec<usize>> {
        let next = (n + 1 < self.steps.len()).then_some(n + 1);
        match self.steps.get(n)?.flow {
            Flow::Next => Some(vec![next?]),
            Flow::Either(to) => Some(vec![next?, self.step_at(to)?]),
            Flow::Jump(to) => Some(vec![self.step_at(to)?]),
            // A call that nothing but a trap follows does not return: the process ends, or unwinds without a task.
            Flow::Call if self.steps.get(n + 1).is_some_and(|s| s.flow == Flow::Dead) => Some(vec![]),
            Flow::Dead => Some(vec![]),
            Flow::Call | Flow::Away => None,
        }
    }
}

impl Flow {
    fn of(instruction: &Instruction, range: &Range<VirtAddr>, imports: &Imports) -> Self {
        let target = VirtAddr(instruction.near_branch_target());
        match instruction.flow_control() {
            FlowControl::Next => Self::Next,
            FlowControl::ConditionalBranch => Self::Either(target),
            FlowControl::UnconditionalBranch if range.contains(&target) => Self::Jump(target),
            FlowControl::IndirectCall if imports.calls(instruction) => Self::Next,
            FlowControl::Call | FlowControl::IndirectCall => Self::Call,
            FlowControl::Exception => Self::Dead,
            _ => Self::Away,
        }
    }
}

/// Which calls of a function go into other libraries: through slots that only the loader fills.
struct Imports {
    slots: BTreeSet<VirtAddr>,
    /// Registers that are loaded from such slots and written by nothing else, but for being restored.
    registers: BTreeSet<Register>,
}

impl Imports {
    fn of_function(image: &Image<'_>, range: Range<VirtAddr>) -> Self {
        let mut imports = Self { slots: BTreeSet::new(), registers: BTreeSet::new() };
        // A dynamically linked standard library calls back into the image.
        if image.needed().iter().any(|library| library.starts_with("libstd-")) {
            return imports;
        }
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

    fn calls(&self, call: &Instruction) -> bool {
        let slot = VirtAddr(call.ip_rel_memory_address());
        (call.is_ip_rel_memory_operand() && self.slots.contains(&slot))
            || (call.op0_kind() == OpKind::Register && self.registers.contains(&call.op0_register()))
    }
}

/// A slot that the loader fills with another library's function: it holds nothing of this image.
fn is_import(image: &Image<'_>, slot: VirtAddr) -> bool {
    image.is_pie()
        && image.pointer_at(slot).is_none()
        && image.segment_at(slot).is_some_and(|s| s.is_writable() && !s.is_executable())
        && !image.is_variable(slot)
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
