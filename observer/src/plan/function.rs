//! One function's instructions and its jumps: what tells which instructions always run together.
//!
//! Does not know: probes. Jumps by unwinding are not followed: nothing falls into a landing pad.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};

use super::imports::Imports;
use super::jump_tables::JumpTables;
use crate::model::VirtAddr;
use crate::symbols::{Image, Sweep, is_written};

/// Instructions of a straight line, or between a place and what it stands for, that are looked at.
const LONGEST_REACH: usize = 128;

/// Steps between places that are followed for one image; a thousand births take some fifty thousand.
const MOST_FOLLOWED: usize = 1 << 22;

/// Functions that were looked at, each decoded once.
pub(super) struct Functions<'i, 'd> {
    image: &'i Image<'d>,
    /// How many more steps between places are followed.
    pub(super) budget: usize,
    known: HashMap<VirtAddr, Rc<Function>>,
}

/// A function's instructions and every place in it that something jumps to.
#[derive(Debug, Default)]
pub(super) struct Function {
    steps: Vec<Step>,
    /// Which steps jump to a place, by place.
    jumps: BTreeMap<VirtAddr, Vec<usize>>,
    tables: JumpTables,
}

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) at: VirtAddr,
    flow: Flow,
}

impl Step {
    /// Code of the image runs before the next one.
    pub(super) fn calls_image(&self) -> bool {
        self.flow == Flow::Call
    }
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
        Self { image, budget: MOST_FOLLOWED, known: HashMap::new() }
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
        let (mut uses_tables, mut calls_by_register) = (false, false);
        for instruction in Sweep::new(image, range.clone()) {
            if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
                bases.insert(VirtAddr(instruction.ip_rel_memory_address()));
            }
            if instruction.flow_control() == FlowControl::IndirectBranch {
                uses_tables = true;
                // In images at a fixed address: `jmp [table + 8 * register]`.
                if instruction.op0_kind() == OpKind::Memory && instruction.memory_index() != Register::None {
                    function.tables.add_addresses(image, &range, VirtAddr(instruction.memory_displacement64()));
                }
            }
            let flow = Flow::of(&instruction, &range, &imports);
            calls_by_register |= flow == Flow::Call && instruction.op0_kind() == OpKind::Register;
            if let Flow::Either(to) | Flow::Jump(to) = flow {
                function.jumps.entry(to).or_default().push(function.steps.len());
            }
            function.steps.push(Step { at: VirtAddr(instruction.ip()), flow });
        }
        if uses_tables {
            for base in bases.into_iter().filter(|&base| !image.is_executable(base)) {
                function.tables.add_offsets(image, &range, base);
            }
        }
        if calls_by_register {
            function.find_calls_of_loaded(image, range, &imports);
        }
        function
    }

    /// Calls through registers that hold another library's function there, as one of the instructions right before loaded it, and
    /// something else in the rest of the function. Behind any other call nothing is held: if it does not return, what stands
    /// there is come to by unwinding.
    fn find_calls_of_loaded(&mut self, image: &Image<'_>, range: Range<VirtAddr>, imports: &Imports<'_, '_>) {
        let mut held: BTreeSet<Register> = BTreeSet::new();
        let mut factory = InstructionInfoFactory::new();
        let mut falls = false;
        for (n, instruction) in Sweep::new(image, range).enumerate() {
            let Some(step) = self.steps.get(n).copied() else { return };
            if !falls || self.is_landing(step.at) {
                held.clear();
            }
            falls = matches!(step.flow, Flow::Next | Flow::Either(_));
            if instruction.mnemonic() == Mnemonic::Call {
                if instruction.op0_kind() == OpKind::Register && held.contains(&instruction.op0_register()) {
                    self.steps[n].flow = Flow::Next;
                    falls = true;
                } else {
                    held.clear();
                }
                continue;
            }
            let used = factory.info(&instruction).used_registers();
            for written in used.iter().filter(|used| is_written(used.access())) {
                held.remove(&written.register().full_register());
            }
            held.extend(imports.loads(&instruction));
        }
    }

    /// The instructions that run if and only if the one at `at` runs (and did not fault): from `at` on, up to the first
    /// that may send control elsewhere, which still belongs to them, and before the first that something jumps to.
    pub(super) fn line(&self, at: VirtAddr) -> &[Step] {
        self.straight(at, |flow| flow == Flow::Next)
    }

    /// The same, but on behind calls: what runs if and only if the one at `at` runs and those calls return.
    pub(super) fn line_across_calls(&self, at: VirtAddr) -> &[Step] {
        self.straight(at, |flow| matches!(flow, Flow::Next | Flow::Call))
    }

    fn straight(&self, at: VirtAddr, goes_on: impl Fn(Flow) -> bool) -> &[Step] {
        let Some(from) = self.step_at(at) else { return &[] };
        let rest = self.steps.get(from..).unwrap_or_default();
        let mut length = 0;
        for step in rest.iter().take(LONGEST_REACH) {
            if length > 0 && self.is_landing(step.at) {
                break;
            }
            length += 1;
            if !goes_on(step.flow) {
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

    /// The instructions that run from the one at `at` on, it included, as long as nothing decides where control goes: jumps are
    /// followed, calls of the image end it.
    pub(super) fn way(&self, at: VirtAddr) -> impl Iterator<Item = VirtAddr> + '_ {
        let mut next = self.step_at(at);
        let steps = std::iter::from_fn(move || {
            let step = self.steps.get(next?)?;
            next = match step.flow {
                Flow::Next => next.map(|n| n + 1),
                Flow::Jump(to) => self.step_at(to),
                Flow::Either(_) | Flow::Call | Flow::Dead | Flow::Away => None,
            };
            Some(step.at)
        });
        steps.take(LONGEST_REACH)
    }

    /// What may run between the instruction at `from` and that at `to`, if each run of the one is followed by exactly one run of
    /// the other, and each of those follows one: every way from it leads there, and every way there comes through it. On the way
    /// no code of the image is called and no place that is `barred` is passed. `None` where the budget does not reach, too.
    pub(super) fn leads(
        &self,
        from: VirtAddr,
        to: VirtAddr,
        barred: impl Fn(VirtAddr) -> bool,
        budget: &mut usize,
    ) -> Option<Vec<VirtAddr>> {
        let (from, to) = (self.step_at(from)?, self.step_at(to)?);
        let mut open = self.next_of(from)?;
        let mut between = BTreeSet::new();
        // Which steps come to a step, as far as they were met on the way.
        let mut comes_from: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        while let Some(n) = open.pop() {
            if n == from || between.len() > LONGEST_REACH || *budget == 0 {
                return None;
            }
            *budget -= 1;
            if n == to || !between.insert(n) {
                continue;
            }
            let next = self.steps.get(n).filter(|s| !barred(s.at)).and_then(|_| self.next_of(n))?;
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
        let leads = arrives && leading.iter().all(|&n| self.is_entered_only_from(n, inside));
        leads.then(|| between.iter().filter_map(|&n| Some(self.steps.get(n)?.at)).collect())
    }

    /// Whether something jumps to this place.
    pub(super) fn is_landing(&self, at: VirtAddr) -> bool {
        self.jumps.contains_key(&at) || self.tables.may_name(at)
    }

    fn step_at(&self, at: VirtAddr) -> Option<usize> {
        self.steps.binary_search_by_key(&at, |s| s.at).ok()
    }

    /// Whether control comes to a step only from these.
    fn is_entered_only_from(&self, n: usize, inside: impl Fn(usize) -> bool) -> bool {
        let Some(step) = self.steps.get(n) else { return false };
        let Some(before) = n.checked_sub(1) else { return false };
        let falls = self.steps.get(before).is_some_and(|s| matches!(s.flow, Flow::Next | Flow::Either(_) | Flow::Call));
        !self.tables.may_name(step.at)
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
    fn of(instruction: &Instruction, range: &Range<VirtAddr>, imports: &Imports<'_, '_>) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::tiny::{CODE, DATA, Tiny};

    /// A function of these instructions; places are counted in bytes from its start.
    fn with<T>(tiny: &Tiny, test: impl FnOnce(&Function) -> T) -> T {
        let bytes = tiny.build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let function = Functions::new(&image).around(VirtAddr(CODE)).expect("a function");
        test(&function)
    }

    fn of(code: &[u8]) -> Tiny {
        Tiny::new(code, &[0; 64])
    }

    fn line(tiny: &Tiny, from: u64) -> Vec<u64> {
        with(tiny, |f| f.line(VirtAddr(CODE + from)).iter().map(|s| s.at.0 - CODE).collect())
    }

    fn leads(tiny: &Tiny, from: u64, to: u64) -> bool {
        with(tiny, |f| f.leads(VirtAddr(CODE + from), VirtAddr(CODE + to), |_| false, &mut 100).is_some())
    }

    const NOP: u8 = 0x90;
    const PUSH: u8 = 0x55;
    const RET: u8 = 0xc3;
    const JE: u8 = 0x74;
    const JMP: u8 = 0xeb;
    const UD2: [u8; 2] = [0x0f, 0x0b];

    #[test]
    fn a_line_ends_with_what_sends_control_elsewhere() {
        assert_eq!(line(&of(&[NOP, NOP, JE, 1, NOP, RET]), 0), [0, 1, 2], "je itself still runs");
        assert_eq!(line(&of(&[NOP, 0xe8, 0, 0, 0, 0, NOP, RET]), 0), [0, 1], "and so does a call");
        assert_eq!(line(&of(&[NOP, RET, NOP]), 0), [0, 1]);
    }

    #[test]
    fn a_line_ends_before_what_something_jumps_to() {
        // je +1 jumps over the first nop.
        assert_eq!(line(&of(&[JE, 1, NOP, NOP, RET]), 2), [2]);
        // A loop's jump comes back to the second nop.
        assert_eq!(line(&of(&[NOP, NOP, NOP, JE, 0xfc, RET]), 0), [0]);
    }

    #[test]
    fn a_line_ends_before_what_a_table_names() {
        let mut code = vec![0x48, 0x8d, 0x05]; // lea rax, [rip+table]
        code.extend(u32::try_from(DATA - CODE - 7).expect("near").to_le_bytes());
        code.extend([0xff, 0xe0, NOP, NOP, RET]); // jmp rax
        let plain = of(&code);
        assert_eq!(line(&plain, 9), [9, 10, 11]);
        let mut tabled = plain;
        let entry = i32::try_from(CODE + 10).expect("low") - i32::try_from(DATA).expect("low");
        tabled.data[..4].copy_from_slice(&entry.to_le_bytes());
        assert_eq!(line(&tabled, 9), [9]);
    }

    #[test]
    fn a_call_into_another_library_comes_back() {
        let mut code = vec![NOP, 0xff, 0x15]; // call [rip+slot]
        code.extend(u32::try_from(DATA - CODE - 7).expect("near").to_le_bytes());
        code.extend([NOP, RET]);
        let mut tiny = of(&code);
        tiny.frozen = true;
        assert_eq!(line(&tiny, 0), [0, 1, 7, 8], "the slot is the loader's");
        tiny.relocated.push((DATA, CODE));
        assert_eq!(line(&tiny, 0), [0, 1], "the slot holds code of the image");
    }

    #[test]
    fn a_call_through_a_register_comes_back_where_another_library_s_function_was_loaded_right_before() {
        let load = |at: usize| {
            let next = CODE + at as u64 + 7;
            [&[0x48, 0x8b, 0x1d][..], &u32::try_from(DATA - next).expect("near").to_le_bytes()].concat() // mov rbx, [rip+slot]
        };
        let call = [0xff, 0xd3]; // call rbx
        let other = [0x48, 0x89, 0xc3]; // mov rbx, rax
        let lines = |code: &[u8], from: u64| {
            let mut tiny = of(code);
            tiny.frozen = true;
            line(&tiny, from)
        };
        // What the register holds further down is no matter.
        let code = [&load(0)[..], &call, &[NOP], &call, &[NOP], &other, &call, &[RET]].concat();
        assert_eq!(lines(&code, 0), [0, 7, 9, 10, 12, 13, 16]);
        // Behind a call of the image, and where something jumps to, it may hold anything.
        let code = [&load(0)[..], &[0xe8, 0, 0, 0, 0, NOP], &call, &[NOP, RET]].concat();
        assert_eq!(lines(&code, 12), [12, 13]);
        let code = [&load(0)[..], &[NOP], &call, &[NOP, JE, 0xfa, RET]].concat();
        assert_eq!(lines(&code, 8), [8], "je comes back to the call");
    }

    #[test]
    fn the_entry_leads_to_a_place_that_every_way_comes_to() {
        // push; je to the trap; nop (the place); ret; ud2
        let tiny = of(&[PUSH, JE, 2, NOP, RET, UD2[0], UD2[1]]);
        assert!(leads(&tiny, 0, 3), "what ends in a trap does not count");
        assert!(leads(&tiny, 1, 3));
        // push; je to the second nop; nop; nop (the place); ret
        assert!(leads(&of(&[PUSH, JE, 1, NOP, NOP, RET]), 0, 4), "both ways meet");
    }

    #[test]
    fn nothing_leads_to_a_place_that_may_be_missed_or_come_to_otherwise() {
        // push; je to ret; nop; ret
        assert!(!leads(&of(&[PUSH, JE, 1, NOP, RET]), 0, 3), "je may go past it");
        // jmp to the place; push; nop (the place); ret
        assert!(!leads(&of(&[JMP, 1, PUSH, NOP, RET]), 2, 3), "the jump comes to it, too");
        // push; nop (the place); je back to the place; ret
        assert!(!leads(&of(&[PUSH, NOP, JE, 0xfd, RET]), 0, 1), "it may run twice");
        // push; call; nop (the place); ret
        assert!(!leads(&of(&[PUSH, 0xe8, 0, 0, 0, 0, NOP, RET]), 0, 6), "the call may unwind, or spawn");
        // push; je back to push; nop (the place); ret
        assert!(!leads(&of(&[PUSH, JE, 0xfd, NOP, RET]), 0, 3), "push may run twice");
    }

    #[test]
    fn a_barred_place_is_not_passed() {
        let tiny = of(&[PUSH, NOP, NOP, RET]);
        assert!(leads(&tiny, 0, 2));
        assert!(
            !with(&tiny, |f| f.leads(VirtAddr(CODE), VirtAddr(CODE + 2), |_| false, &mut 1).is_some()),
            "out of budget"
        );
        let barred = |at: VirtAddr| at.0 == CODE + 1;
        assert!(!with(&tiny, |f| f.leads(VirtAddr(CODE), VirtAddr(CODE + 2), barred, &mut 100).is_some()));
    }
}
