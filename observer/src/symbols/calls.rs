//! Which functions a function calls, directly or through the global offset table, and with which constant as first argument.
//!
//! Does not know: calls through registers and vtables. A jump out of the function counts as a call: that is how
//! thunks and tail calls look. What is taken for granted: no call has as argument what a call before left in `rdi`, as compilers
//! keep nothing there; and code that a jump through a register leads to is reached with the constants of no other path
//! (what such a jump carries is not followed).

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::Image;
use super::code::Sweep;
use crate::model::VirtAddr;

/// Most instructions of one function that are read in one pass.
const LONGEST_FUNCTION: usize = 100_000;
/// Most passes over one function: each follows what backward jumps of the one before carry.
const MOST_PASSES: usize = 4;
/// Most constants that are kept for one place: a panic shared by more paths tells nothing of any.
const MOST_ARGUMENTS: usize = 16;
/// Where the unwind table has no function, this much code is taken for one at most.
const UNKNOWN_LENGTH: u64 = 16 << 10;

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
    /// All of the function's code was read: else it may call more, and with other arguments.
    pub is_whole: bool,
}

/// The functions that are reached by so many calls, and by no fewer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// In the order in which the code leads to them.
    pub functions: Vec<VirtAddr>,
    /// Others are missing, as the most that was asked for was reached.
    pub is_cut: bool,
}

/// Reads functions once each, up to a total.
#[derive(Debug)]
pub struct Calls<'i, 'd> {
    image: &'i Image<'d>,
    known: HashMap<VirtAddr, Rc<Callees>>,
    left: usize,
}

impl<'i, 'd> Calls<'i, 'd> {
    /// Reads at most `instructions` in all; functions met later have no calls, and are not whole.
    pub fn new(image: &'i Image<'d>, instructions: usize) -> Self {
        Self { image, known: HashMap::new(), left: instructions }
    }

    /// Whether the total was reached: something was not read.
    pub fn is_exhausted(&self) -> bool {
        self.left == 0
    }

    /// The calls of the function that starts here.
    pub fn of(&mut self, function: VirtAddr) -> Rc<Callees> {
        if let Some(known) = self.known.get(&function) {
            return Rc::clone(known);
        }
        let read = Rc::new(self.read(function));
        self.known.insert(function, Rc::clone(&read));
        read
    }

    /// The functions reached from `roots`, level by level: the roots, what they call, what that calls, down to `depth`
    /// calls. No function comes twice, and no more than `most` in all.
    pub fn levels(&mut self, roots: &[VirtAddr], depth: usize, most: usize) -> Vec<Level> {
        let mut seen: HashSet<VirtAddr> = HashSet::new();
        let functions = roots.iter().copied().filter(|root| seen.insert(*root)).collect();
        let mut levels = vec![Level { functions, is_cut: false }];
        for _ in 0..depth {
            let mut next = Level::default();
            for function in levels.last().into_iter().flat_map(|level| &level.functions) {
                for call in &self.of(*function).calls {
                    if seen.len() < most {
                        if seen.insert(call.to) {
                            next.functions.push(call.to);
                        }
                    } else {
                        next.is_cut |= !seen.contains(&call.to);
                    }
                }
            }
            if next == Level::default() {
                break;
            }
            levels.push(next);
        }
        levels
    }

    fn read(&mut self, function: VirtAddr) -> Callees {
        let Some(range) = self.extent(function) else { return Callees::default() };
        let mut reading = Reading::new(self.image, range);
        let mut is_whole = false;
        for _ in 0..MOST_PASSES {
            let pass = reading.pass(self.left.min(LONGEST_FUNCTION));
            self.left = self.left.saturating_sub(pass.read);
            // What a backward jump carries is known only at the end of a pass.
            is_whole = pass.is_whole && !reading.jumps_back;
            if !reading.jumps_back {
                break;
            }
        }
        Callees { calls: reading.calls, is_whole }
    }

    /// The code of the function: to its known end, else to the next known start.
    fn extent(&self, function: VirtAddr) -> Option<Range<VirtAddr>> {
        if !self.image.is_executable(function) {
            return None;
        }
        let functions = self.image.functions();
        if let Some(range) = functions.containing(function) {
            return Some(function..range.end);
        }
        let next = functions.next_start(function).map_or(u64::MAX, |next| next.0);
        let segment = self.image.segment_at(function)?;
        let file_end = segment.start().0.saturating_add(segment.file().len() as u64);
        Some(function..VirtAddr(next.min(function.0.saturating_add(UNKNOWN_LENGTH)).min(file_end)))
    }
}

/// What `rdi` can hold at one place of the code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct First {
    constants: Vec<VirtAddr>,
    /// Something that is no constant, or more constants than are kept; what a call left there is nothing.
    other: bool,
}

impl First {
    fn other() -> Self {
        Self { constants: Vec::new(), other: true }
    }

    fn is_nothing(&self) -> bool {
        self.constants.is_empty() && !self.other
    }

    fn clear(&mut self) {
        self.constants.clear();
        self.other = false;
    }

    /// Whether that changed anything.
    fn merge(&mut self, more: &Self) -> bool {
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
            calls: Vec::new(),
            callees: HashMap::new(),
        }
    }

    /// Reads the code from its start.
    fn pass(&mut self, most: usize) -> Pass {
        self.calls.clear();
        self.callees.clear();
        self.constant_at.clear();
        self.jumps_back = false;
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
                        outside => self.call(outside, &first),
                    }
                }
                _ => self.follow(&instruction, &mut first),
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

    /// What the instruction makes of `rdi`.
    fn follow(&self, instruction: &Instruction, first: &mut First) {
        let constant = match instruction.mnemonic() {
            Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => Some(instruction.ip_rel_memory_address()),
            Mnemonic::Mov if !self.image.is_pie() => match instruction.op1_kind() {
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
            first.clear();
            let into_first = instruction.op0_kind() == OpKind::Register
                && instruction.op0_register().full_register() == Register::RDI;
            match constant.filter(|_| into_first) {
                Some(constant) => first.constants.push(VirtAddr(constant)),
                None => first.other = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::tiny::{CODE, Tiny};
    use crate::symbols::{Location, SymbolIndex};

    fn own() -> Vec<u8> {
        std::fs::read(std::env::current_exe().expect("tests run from a file")).expect("which can be read")
    }

    #[inline(never)]
    #[track_caller]
    fn callee(n: u64) -> u32 {
        std::hint::black_box(n);
        std::panic::Location::caller().line()
    }

    #[inline(never)]
    fn caller(n: u64) -> u32 {
        std::hint::black_box(callee(n)) + 1
    }

    /// Its only argument is the place it is called from.
    #[inline(never)]
    #[track_caller]
    fn taker() -> u32 {
        std::hint::black_box(std::panic::Location::caller()).line()
    }

    #[inline(never)]
    fn giver() -> (u32, u32) {
        (std::hint::black_box(taker()), line!())
    }

    fn function(symbols: &SymbolIndex<'_>, name: &str) -> VirtAddr {
        let path = format!("observer::symbols::calls::tests::{name}");
        let found = symbols.holding(name).find(|at| symbols.names_at(*at).any(|known| known == path));
        found.expect("the function has a symbol")
    }

    #[test]
    fn a_call_of_the_source_is_found_in_the_code() {
        assert_eq!(caller(1), caller(2));
        let bytes = own();
        let image = Image::parse(&bytes).expect("an image");
        let symbols = SymbolIndex::of(&image);
        let (from, to) = (function(&symbols, "caller"), function(&symbols, "callee"));
        let mut calls = Calls::new(&image, 10_000);
        assert!(calls.of(from).calls.iter().any(|call| call.to == to));
        let levels = calls.levels(&[from], 1, 100);
        assert_eq!(levels.first().map(|level| level.functions.as_slice()), Some([from].as_slice()));
        assert!(levels.get(1).is_some_and(|level| level.functions.contains(&to)));
        assert!(!calls.is_exhausted());
    }

    #[test]
    fn a_constant_given_as_first_argument_is_read() {
        let (line, written) = giver();
        assert_eq!(line, written);
        let bytes = own();
        let image = Image::parse(&bytes).expect("an image");
        let symbols = SymbolIndex::of(&image);
        let (from, to) = (function(&symbols, "giver"), function(&symbols, "taker"));
        let mut calls = Calls::new(&image, 10_000);
        let given: Vec<_> =
            calls.of(from).calls.iter().filter(|c| c.to == to).flat_map(|c| c.arguments.clone()).collect();
        let places: Vec<_> = given.iter().filter_map(|at| Location::read(&image, *at)).collect();
        assert!(places.iter().any(|place| place.file == file!() && place.line == line), "{given:?} {places:?}");
    }

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
        let callees = Calls::new(&image, 1000).of(VirtAddr(CODE));
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

    #[test]
    fn a_function_that_is_not_read_to_its_end_is_not_whole() {
        let nops = vec![0x90; LONGEST_FUNCTION];
        let whole = |code: &[u8], most| {
            let mut tiny = Tiny::new(code, &[]);
            tiny.code.push(0xc3);
            let bytes = tiny.build();
            Calls::new(&Image::parse(&bytes).expect("tiny images are images"), most).of(VirtAddr(CODE)).is_whole
        };
        assert!(whole(&nops[..1000], usize::MAX));
        assert!(!whole(&nops[..1000], 999), "the total ends before");
        assert!(!whole(&[0x90, 0x06, 0x90], usize::MAX), "no instruction");
        assert!(!whole(&[0x90, 0xe8], usize::MAX), "half an instruction");
    }

    #[test]
    fn no_more_is_read_than_was_asked_for() {
        let bytes = own();
        let image = Image::parse(&bytes).expect("an image");
        let mut calls = Calls::new(&image, 500);
        let starts: Vec<_> = image.functions().starts().take(2000).collect();
        assert!(starts.iter().map(|at| calls.of(*at).calls.len()).sum::<usize>() < 500);
        assert!(calls.is_exhausted());
        let levels = Calls::new(&image, usize::MAX).levels(&starts, 4, 2100);
        assert_eq!(levels.iter().map(|level| level.functions.len()).sum::<usize>(), 2100);
        assert!(levels.iter().any(|level| level.is_cut), "and what is left out is told");
        assert!(Calls::new(&image, 100).of(VirtAddr(u64::MAX)).calls.is_empty(), "no code there");
    }
}
