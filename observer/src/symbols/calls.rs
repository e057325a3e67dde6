//! Which functions a function calls, directly or through the global offset table, and with which constant as first argument.
//!
//! Does not know: calls through registers and vtables. A jump out of the function counts as a call: that is how
//! thunks and tail calls look.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::Image;
use super::code::Sweep;
use crate::model::VirtAddr;

/// Most instructions of one function that are read.
const LONGEST_FUNCTION: usize = 100_000;
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
}

/// Reads functions once each, up to a total.
#[derive(Debug)]
pub struct Calls<'i, 'd> {
    image: &'i Image<'d>,
    known: HashMap<VirtAddr, Rc<[Call]>>,
    left: usize,
}

impl<'i, 'd> Calls<'i, 'd> {
    /// Reads at most `instructions` in all; functions met later have no calls.
    pub fn new(image: &'i Image<'d>, instructions: usize) -> Self {
        Self { image, known: HashMap::new(), left: instructions }
    }

    /// Whether the total was reached: something was not read.
    pub fn is_exhausted(&self) -> bool {
        self.left == 0
    }

    /// The calls of the function that starts here, in the order of its code.
    pub fn of(&mut self, function: VirtAddr) -> Rc<[Call]> {
        if let Some(known) = self.known.get(&function) {
            return Rc::clone(known);
        }
        let read: Rc<[Call]> = self.read(function).into();
        self.known.insert(function, Rc::clone(&read));
        read
    }

    /// The functions reached from `roots`, level by level: the roots, what they call, what that calls, down to `depth`
    /// calls. No function comes twice, and no more than `most` in all.
    pub fn levels(&mut self, roots: &[VirtAddr], depth: usize, most: usize) -> Vec<Vec<VirtAddr>> {
        let mut seen: HashSet<VirtAddr> = HashSet::new();
        let mut levels = vec![roots.iter().copied().filter(|root| seen.insert(*root)).collect::<Vec<_>>()];
        for _ in 0..depth {
            let mut next = Vec::new();
            for function in levels.last().into_iter().flatten() {
                for call in self.of(*function).iter() {
                    if seen.len() < most && seen.insert(call.to) {
                        next.push(call.to);
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            levels.push(next);
        }
        levels
    }

    fn read(&mut self, function: VirtAddr) -> Vec<Call> {
        let Some(range) = self.extent(function) else { return Vec::new() };
        let mut reading = Reading::new(self.image, range);
        let most = self.left.min(LONGEST_FUNCTION);
        let mut read = reading.pass(most);
        if reading.jumps_back {
            // What a backward jump carries is known only now.
            read += reading.pass(most.saturating_sub(read));
        }
        self.left = self.left.saturating_sub(read);
        reading.calls
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

/// One function being read.
struct Reading<'i, 'd> {
    image: &'i Image<'d>,
    range: Range<VirtAddr>,
    /// What `rdi` can hold where a jump arrives.
    arriving: HashMap<u64, Vec<VirtAddr>>,
    jumps_back: bool,
    calls: Vec<Call>,
    /// Index into `calls`.
    callees: HashMap<VirtAddr, usize>,
}

impl<'i, 'd> Reading<'i, 'd> {
    fn new(image: &'i Image<'d>, range: Range<VirtAddr>) -> Self {
        Self { image, range, arriving: HashMap::new(), jumps_back: false, calls: Vec::new(), callees: HashMap::new() }
    }

    /// Reads the code from its start; says how many instructions that took.
    fn pass(&mut self, most: usize) -> usize {
        self.calls.clear();
        self.callees.clear();
        let mut first: Vec<VirtAddr> = Vec::new();
        let mut furthest = 0;
        let mut read = 0;
        let bounded = self.image.functions().containing(self.range.start).is_some();
        for instruction in Sweep::new(self.image, self.range.clone()).take(most) {
            read += 1;
            if let Some(arriving) = self.arriving.get(&instruction.ip()) {
                merge(&mut first, arriving);
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
                            if !first.is_empty() {
                                self.jumps_back |= target.0 <= instruction.ip();
                                merge(self.arriving.entry(target.0).or_default(), &first);
                            }
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
                    break;
                }
            }
        }
        read
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

    fn call(&mut self, to: Option<VirtAddr>, arguments: &[VirtAddr]) {
        let Some(to) = to.filter(|to| *to != self.range.start && self.image.is_executable(*to)) else { return };
        let at = *self.callees.entry(to).or_insert(self.calls.len());
        match self.calls.get_mut(at) {
            Some(call) => merge(&mut call.arguments, arguments),
            None => self.calls.push(Call { to, arguments: arguments.to_vec() }),
        }
    }

    /// What the instruction makes of `rdi`.
    fn follow(&self, instruction: &Instruction, first: &mut Vec<VirtAddr>) {
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
            first.extend(constant.filter(|_| into_first).map(VirtAddr));
        }
    }
}

fn merge(into: &mut Vec<VirtAddr>, more: &[VirtAddr]) {
    for address in more {
        if into.len() < MOST_ARGUMENTS && !into.contains(address) {
            into.push(*address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(calls.of(from).iter().any(|call| call.to == to));
        let levels = calls.levels(&[from], 1, 100);
        assert_eq!(levels.first(), Some(&vec![from]));
        assert!(levels.get(1).is_some_and(|level| level.contains(&to)));
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
        let given: Vec<_> = calls.of(from).iter().filter(|c| c.to == to).flat_map(|c| c.arguments.clone()).collect();
        let places: Vec<_> = given.iter().filter_map(|at| Location::read(&image, *at)).collect();
        assert!(places.iter().any(|place| place.file == file!() && place.line == line), "{given:?} {places:?}");
    }

    #[test]
    fn no_more_is_read_than_was_asked_for() {
        let bytes = own();
        let image = Image::parse(&bytes).expect("an image");
        let mut calls = Calls::new(&image, 500);
        let starts: Vec<_> = image.functions().starts().take(2000).collect();
        assert!(starts.iter().map(|at| calls.of(*at).len()).sum::<usize>() < 500);
        assert!(calls.is_exhausted());
        assert!(Calls::new(&image, usize::MAX).levels(&starts, 4, 3000).iter().flatten().count() <= 3000);
        assert!(Calls::new(&image, 100).of(VirtAddr(u64::MAX)).is_empty(), "no code there");
    }
}
