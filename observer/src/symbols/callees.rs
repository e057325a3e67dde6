//! Which functions a function calls, directly or through the global offset table, and with which constant as first argument.
//!
//! Does not know: calls through registers and vtables. A jump out of the function counts as a call: that is how
//! thunks and tail calls look. What is taken for granted: no call has as argument what a call before left in `rdi`, as compilers
//! keep nothing there.

use std::collections::HashMap;
use std::ops::Range;

use iced_x86::{FlowControl, Instruction, OpKind, Register};

use super::Image;
use super::code::Sweep;
use super::first_argument::First;
use crate::model::VirtAddr;

/// Most instructions of one function that are read in one pass.
const LONGEST_FUNCTION: usize = 100_000;
/// Most passes over one function: each follows what backward jumps of the one before carry.
const MOST_PASSES: usize = 4;

/// One callee of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The function called.
    pub to: VirtAddr,
    /// The addresses that the first argument (`rdi`) can be, where the code just before says so.
    pub arguments: Vec<VirtAddr>,
    /// The first argument can be something else, too: a site has none that is known, or has another on another path.
    pub is_unsure: bool,
}

/// What a function calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callees {
    /// Each callee once, in the order of the code.
    pub calls: Vec<Call>,
    /// All of the function's code was read: else it may call more.
    pub is_read: bool,
    /// Besides, all that calls are given is known: else it may be more.
    pub is_whole: bool,
}

impl Callees {
    /// Reads the code of a function: at most as many instructions as are left, of which it takes what it reads.
    pub(super) fn read(image: &Image<'_>, range: Range<VirtAddr>, left: &mut usize) -> Self {
        let mut reading = Reading::new(image, range);
        let (mut is_read, mut is_whole) = (false, false);
        for _ in 0..MOST_PASSES {
            let pass = reading.pass((*left).min(LONGEST_FUNCTION));
            *left = left.saturating_sub(pass.read);
            // What a backward jump carries is known only at the end of a pass.
            (is_read, is_whole) = (pass.is_whole, pass.is_whole && !reading.jumps_back);
            if !reading.jumps_back {
                break;
            }
        }
        if reading.carries {
            reading.calls.iter_mut().for_each(|call| call.is_unsure = true);
        }
        Self { calls: reading.calls, is_read, is_whole }
    }
}

/// One function being read.
struct Reading<'i, 'd> {
    image: &'i Image<'d>,
    range: Range<VirtAddr>,
    /// What `rdi` can hold where a jump arrives.
    arriving: HashMap<u64, First>,
    /// Where `rdi` is known to hold a constant, ascending.
    constant_at: Vec<u64>,
    /// What a backward jump carries was not known at its target, where it matters.
    jumps_back: bool,
    /// A jump that leads to one of several places, by a table, carries a constant to each of them: where they are is not known here.
    carries: bool,
    calls: Vec<Call>,
    /// Index into `calls`.
    callees: HashMap<VirtAddr, usize>,
}

/// How one pass over the code went.
struct Pass {
    /// Instructions.
    read: usize,
    /// It came to the end of the code.
    is_whole: bool,
}

impl<'i, 'd> Reading<'i, 'd> {
    fn new(image: &'i Image<'d>, range: Range<VirtAddr>) -> Self {
        Self {
            image,
            range,
            arriving: HashMap::new(),
            constant_at: Vec::new(),
            jumps_back: false,
            carries: false,
            calls: Vec::new(),
            callees: HashMap::new(),
        }
    }

    /// Reads the code from its start.
    fn pass(&mut self, most: usize) -> Pass {
        self.calls.clear();
        self.callees.clear();
        self.constant_at.clear();
        (self.jumps_back, self.carries) = (false, false);
        // The caller's.
        let mut first = First::other();
        let mut furthest = 0;
        let mut pass = Pass { read: 0, is_whole: false };
        let bounded = self.image.functions().containing(self.range.start).is_some();
        for instruction in Sweep::new(self.image, self.range.clone()).take(most) {
            pass.read += 1;
            pass.is_whole = bounded && instruction.next_ip() == self.range.end.0;
            if let Some(arriving) = self.arriving.get(&instruction.ip()) {
                first.merge(arriving);
            }
            if !first.constants.is_empty() {
                self.constant_at.push(instruction.ip());
            }
            let target = self.target(&instruction);
            match instruction.flow_control() {
                FlowControl::Call | FlowControl::IndirectCall => {
                    self.call(target, &first);
                    first.clear();
                }
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch | FlowControl::IndirectBranch => {
                    match target {
                        Some(target) if self.range.contains(&target) => {
                            furthest = furthest.max(target.0);
                            self.jump(instruction.ip(), target, &first);
                        }
                        outside => {
                            self.carries |= outside.is_none() && !first.constants.is_empty();
                            self.call(outside, &first);
                        }
                    }
                }
                _ => first.follow(self.image, &instruction),
            }
            let ends = matches!(
                instruction.flow_control(),
                FlowControl::UnconditionalBranch
                    | FlowControl::IndirectBranch
                    | FlowControl::Return
                    | FlowControl::Exception
            );
            if ends {
                first.clear();
                // Without a known end, the function ends where nothing before jumps past.
                if !bounded && furthest < instruction.next_ip() {
                    pass.is_whole = true;
                    break;
                }
            }
        }
        pass
    }

    fn jump(&mut self, from: u64, to: VirtAddr, first: &First) {
        if first.is_nothing() {
            return;
        }
        let is_news = self.arriving.entry(to.0).or_default().merge(first);
        // What is no constant matters only beside one.
        let matters = || !first.constants.is_empty() || self.constant_at.binary_search(&to.0).is_ok();
        self.jumps_back |= is_news && to.0 <= from && matters();
    }

    /// Where a branch or call goes, if the image says so.
    fn target(&self, instruction: &Instruction) -> Option<VirtAddr> {
        match instruction.op0_kind() {
            OpKind::NearBranch64 => Some(VirtAddr(instruction.near_branch64())),
            OpKind::Memory if instruction.is_ip_rel_memory_operand() => {
                self.image.pointer_at(VirtAddr(instruction.ip_rel_memory_address()))
            }
            OpKind::Memory if instruction.memory_base() == Register::None && !self.image.is_pie() => {
                (instruction.memory_index() == Register::None)
                    .then(|| self.image.pointer_at(VirtAddr(instruction.memory_displacement64())))?
            }
            _ => None,
        }
    }

    fn call(&mut self, to: Option<VirtAddr>, first: &First) {
        let Some(to) = to.filter(|to| *to != self.range.start && self.image.is_executable(*to)) else { return };
        let at = *self.callees.entry(to).or_insert(self.calls.len());
        if at == self.calls.len() {
            self.calls.push(Call { to, arguments: Vec::new(), is_unsure: false });
        }
        let Some(call) = self.calls.get_mut(at) else { return };
        let mut all = First { constants: std::mem::take(&mut call.arguments), other: call.is_unsure };
        all.merge(first);
        call.is_unsure = all.other || first.constants.is_empty();
        call.arguments = all.constants;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::tiny::{CODE, Tiny};

    /// A panic that is called with a place, behind a function of this code, and whether it is sure of its places: the
    /// function begins at 0, the panic is at 0x80, and its places are at 0x7000 and 0x7008.
    fn given(code: &[u8]) -> (Vec<u64>, bool) {
        let mut all = code.to_vec();
        all.resize(0x80, 0xcc);
        all.push(0xc3);
        let mut tiny = Tiny::new(&all, &[0; 16]);
        tiny.functions = vec![CODE..CODE + code.len() as u64, CODE + 0x80..CODE + 0x81];
        let bytes = tiny.build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let callees = Callees::read(&image, VirtAddr(CODE)..VirtAddr(CODE + code.len() as u64), &mut 1000);
        assert!(callees.is_whole);
        let [call] = callees.calls.as_slice() else { panic!("one callee: {callees:?}") };
        assert_eq!(call.to, VirtAddr(CODE + 0x80));
        (call.arguments.iter().map(|at| at.0 - CODE).collect(), !call.is_unsure)
    }

    /// `lea rdi, [rip + ..]` of a place, where the instruction is.
    fn lea(at: u8, place: u16) -> Vec<u8> {
        [&[0x48, 0x8d, 0x3d][..], &(u32::from(place) - u32::from(at) - 7).to_le_bytes()].concat()
    }

    /// `call` of the panic, where the instruction is.
    fn panic(at: u8) -> Vec<u8> {
        [&[0xe8][..], &(0x80 - u32::from(at) - 5).to_le_bytes()].concat()
    }

    /// `mov rdi, r14`
    const UNKNOWN: [u8; 3] = [0x4c, 0x89, 0xf7];

    #[test]
    fn calls_that_all_tell_their_argument_are_sure() {
        let two = [lea(0, 0x7000), panic(7), lea(12, 0x7008), panic(19)].concat();
        assert_eq!(given(&two), (vec![0x7000, 0x7008], true));
        // je 14; lea; jmp 21; 14: lea; 21: call
        let joined = [vec![0x74, 9], lea(2, 0x7000), vec![0xeb, 7], lea(11, 0x7008), panic(18)].concat();
        assert_eq!(given(&joined), (vec![0x7008, 0x7000], true));
    }

    #[test]
    fn a_call_without_a_known_argument_is_unsure_even_if_another_tells_its_own() {
        let before = [UNKNOWN.to_vec(), panic(3), lea(8, 0x7000), panic(15)].concat();
        assert_eq!(given(&before), (vec![0x7000], false));
        let after = [lea(0, 0x7000), panic(7), UNKNOWN.to_vec(), panic(15)].concat();
        assert_eq!(given(&after), (vec![0x7000], false));
        // cmove rdi, r14
        let one_of_two = [lea(0, 0x7000), panic(7), lea(12, 0x7008), vec![0x49, 0x0f, 0x44, 0xfe], panic(23)].concat();
        assert_eq!(given(&one_of_two), (vec![0x7000], false));
        let the_callers = [vec![0x74, 7], panic(2), lea(7, 0x7000), panic(14)].concat();
        assert!(!given(&the_callers).1);
    }

    #[test]
    fn an_unknown_argument_that_arrives_beside_a_known_one_makes_the_call_unsure() {
        // mov; je 12; lea; 12: call
        let by_a_jump = [UNKNOWN.to_vec(), vec![0x74, 7], lea(5, 0x7000), panic(12)].concat();
        assert_eq!(given(&by_a_jump), (vec![0x7000], false));
        // lea; je 12; mov; 12: call
        let by_falling_through = [lea(0, 0x7000), vec![0x74, 3], UNKNOWN.to_vec(), panic(12)].concat();
        assert_eq!(given(&by_falling_through), (vec![0x7000], false));
        // lea; 7: call; mov; jmp 7
        let by_a_jump_back = [lea(0, 0x7000), panic(7), UNKNOWN.to_vec(), vec![0xeb, 0xf6]].concat();
        assert_eq!(given(&by_a_jump_back), (vec![0x7000], false));
    }

    #[test]
    fn a_known_argument_that_a_jump_carries_back_is_read() {
        // jmp 7; 2: call; 7: lea; jmp 2
        let back = [vec![0xeb, 5], panic(2), lea(7, 0x7000), vec![0xeb, 0xf2]].concat();
        assert_eq!(given(&back), (vec![0x7000], true));
    }

    #[test]
    fn what_a_call_leaves_is_no_argument_of_the_next() {
        // je 14; lea; jmp 19; 14: call; 19: call
        let code = [vec![0x74, 9], lea(2, 0x7000), vec![0xeb, 12], lea(11, 0x7008), panic(18), panic(23)].concat();
        assert_eq!(given(&code), (vec![0x7008, 0x7000], true));
    }
}
