//! Which functions lead to which, call by call.
//!
//! Does not know: how the calls of one function are told.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use super::Image;
use super::callees::Callees;
use crate::model::VirtAddr;

/// Where the unwind table has no function, this much code is taken for one at most.
const UNKNOWN_LENGTH: u64 = 16 << 10;

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
        self.extent(function).map_or_else(Callees::default, |range| Callees::read(self.image, range, &mut self.left))
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

    #[test]
    fn a_function_that_is_not_read_to_its_end_is_not_whole() {
        let nops = [0x90; 1000];
        let whole = |code: &[u8], most| {
            let mut tiny = Tiny::new(code, &[]);
            tiny.code.push(0xc3);
            let bytes = tiny.build();
            Calls::new(&Image::parse(&bytes).expect("tiny images are images"), most).of(VirtAddr(CODE)).is_whole
        };
        assert!(whole(&nops, usize::MAX));
        assert!(!whole(&nops, 999), "the total ends before");
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
