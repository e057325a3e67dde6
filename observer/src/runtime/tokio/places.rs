//! Where a future's async body stands, from the `Location` that it would panic with if it were polled after its end. That
//! constant survives `strip`, because the panic prints it.
//!
//! Does not know: names. A future that is no async body itself has the place of the one it runs. A place is certain if
//! * it is the only one at the first depth of calls from poll where there is any. What a body polls is called from it, so where the type
//!   is a body, none inside it is nearer than its own panic, however far that is;
//! * the body also panics with it when polled after a panic: every body that awaits does, while the other panic is
//!   missing from one that never returns, where only a body inside it would be found. Images built with
//!   `panic = "abort"` have none, so nothing in them is certain;
//! * all panics at that depth and before tell their places, or else the body's own may be one that does not; and all code at that depth
//!   and before was read, or else the own panic may be in the rest;
//! * dropping the future does not lead to it: a destructor that runs a body is near poll, too, and may be nearer than the body;
//! * no other vtable has the same poll function.
//!
//! Types may share a place: a generic body stands once for all its types, and what only wraps a body has that body's.
//!
//! Taken for granted is that what is no body runs one, or has all that it runs at one depth. A join of two that is written by
//! hand, with one inlined into its poll and the other a call further, has the place of the former as if it were the only one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use crate::model::{Place, Resource, TaskType, VirtAddr};
use crate::runtime::printing::printing;
use crate::symbols::{Call, Calls, Image, Location, SymbolIndex};

/// Calls between poll and the body: the thunk, the harness, its part that polls, its part that catches panics, the core; and one future
/// around it.
const DEPTH: usize = 5;
/// Calls between the functions that drop a future and a body that its destructor runs: further, to be sure.
const DROPPING_DEPTH: usize = 6;
/// Most functions visited for one type.
const MOST_FUNCTIONS: usize = 400;
/// The panics themselves are this long at most; what is longer only has their text, too.
const LONGEST_PANIC: u64 = 256;

/// What the two panics are called, and what they print.
const RETURNED: (&str, &[u8]) = ("panic_const_async_fn_resumed", b"`async fn` resumed after completion");
const PANICKED: (&str, &[u8]) = ("panic_const_async_fn_resumed_panic", b"`async fn` resumed after panicking");

/// One candidate for a body's place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Found {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) column: u32,
    /// Its body can be left by a panic.
    unwinds: bool,
}

/// What there is at the first depth from poll where there is any.
#[derive(Clone, Debug, Default)]
struct Reached {
    candidates: Vec<Found>,
    /// The functions that panic with them.
    functions: Vec<VirtAddr>,
    /// A panic there or nearer does not tell its place, or there may be one in code that was not read.
    is_blurred: bool,
}

/// The candidates of all types of an image.
#[derive(Debug, Default)]
pub(super) struct Places {
    types: Vec<OfType>,
}

#[derive(Debug)]
struct OfType {
    reached: Reached,
    certain: bool,
    /// No other type of the same scheduler may have the first.
    alone: bool,
}

impl Places {
    /// Walks from the poll of every type on a scheduler; a blocking closure is no async body.
    pub(super) fn read(
        image: &Image<'_>,
        symbols: &SymbolIndex<'_>,
        calls: &mut Calls<'_, '_>,
        types: &[TaskType],
    ) -> Self {
        let panics = Panics::find(image, symbols);
        if panics.returned.is_empty() && panics.panicked.is_empty() {
            return Self::default();
        }
        let mut polls: HashMap<VirtAddr, usize> = HashMap::new();
        for task in types {
            *polls.entry(task.functions.poll).or_default() += 1;
        }
        let mut found: HashMap<VirtAddr, Reached> = HashMap::new();
        let mut users: HashMap<(VirtAddr, Found), usize> = HashMap::new();
        for task in types.iter().filter(|t| t.resource == Resource::Task) {
            let poll = task.functions.poll;
            let reached = found.entry(poll).or_insert_with(|| panics.reached(image, calls, poll));
            for candidate in &reached.candidates {
                *users.entry((task.functions.schedule, candidate.clone())).or_default() += 1;
            }
        }
        let mut dropping = Dropping { image, panics: &panics, known: HashMap::new() };
        let types = types.iter().map(|task| {
            let poll = task.functions.poll;
            let reached = match task.resource {
                Resource::Task => found.get(&poll).cloned().unwrap_or_default(),
                Resource::Blocking => Reached::default(),
            };
            let (certain, alone) = match reached.candidates.as_slice() {
                [only] => {
                    let users = users.get(&(task.functions.schedule, only.clone()));
                    let own = only.unwinds && !reached.is_blurred && polls.get(&poll) == Some(&1);
                    let certain = own && !dropping.may_lead(calls, task, only);
                    (certain, users == Some(&1))
                }
                _ => (false, false),
            };
            OfType { reached, certain, alone }
        });
        Self { types: types.collect() }
    }

    /// The candidates of the type at this index.
    pub(super) fn candidates(&self, at: usize) -> &[Found] {
        self.types.get(at).map(|of| of.reached.candidates.as_slice()).unwrap_or_default()
    }

    /// The body of the type at this index, if it is certain, and no other type's of the same scheduler.
    pub(super) fn sole(&self, at: usize) -> Option<&Found> {
        self.types.get(at).filter(|of| of.certain && of.alone)?.reached.candidates.first()
    }

    /// The function that the certain place of the type at this index is in, if it is one: the body itself, or one that it is inlined into.
    pub(super) fn function(&self, at: usize) -> Option<VirtAddr> {
        match self.types.get(at).filter(|of| of.certain)?.reached.functions.as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// The place of the type at this index.
    pub(super) fn place(&self, at: usize) -> Option<Place> {
        let OfType { reached, certain, .. } = self.types.get(at)?;
        let first = reached.candidates.first()?;
        Some(Place { file: first.file.clone(), line: first.line, column: Some(first.column), certain: *certain })
    }
}

/// Which places are reached by dropping.
struct Dropping<'a, 'd> {
    image: &'a Image<'d>,
    panics: &'a Panics,
    /// By function and the calls followed from it.
    known: HashMap<(VirtAddr, usize), Rc<Dropped<'d>>>,
}

/// What one function leads to.
#[derive(Debug, Default)]
struct Dropped<'d> {
    places: BTreeSet<Location<'d>>,
    /// It may lead to others: code was not read, or a panic does not tell its place.
    is_blurred: bool,
}

impl<'d> Dropping<'_, 'd> {
    fn may_lead(&mut self, calls: &mut Calls<'_, '_>, task: &TaskType, to: &Found) -> bool {
        let same = |place: &Location<'_>| place.line == to.line && place.column == to.column && place.file == to.file;
        task.functions.dropping().into_iter().any(|root| {
            let dropped = self.from(calls, root, DROPPING_DEPTH);
            dropped.is_blurred || dropped.places.iter().any(same)
        })
    }

    /// Each function is read once for each depth, however many types share it.
    fn from(&mut self, calls: &mut Calls<'_, '_>, function: VirtAddr, depth: usize) -> Rc<Dropped<'d>> {
        if let Some(known) = self.known.get(&(function, depth)) {
            return Rc::clone(known);
        }
        let callees = calls.of(function);
        let mut dropped = Dropped { places: BTreeSet::new(), is_blurred: !callees.is_whole };
        for call in &callees.calls {
            if self.panics.is_one(call.to) {
                let (places, is_blurred) = told(self.image, call);
                dropped.is_blurred |= is_blurred;
                dropped.places.extend(places);
            } else if let Some(less) = depth.checked_sub(1) {
                let further = self.from(calls, call.to, less);
                dropped.is_blurred |= further.is_blurred;
                dropped.places.extend(further.places.iter().copied());
            }
        }
        let dropped = Rc::new(dropped);
        self.known.insert((function, depth), Rc::clone(&dropped));
        dropped
    }
}

/// The places that a panic is called with, and whether there may be others.
fn told<'d>(image: &Image<'d>, call: &Call) -> (Vec<Location<'d>>, bool) {
    let places: Vec<_> = call.arguments.iter().filter_map(|at| Location::read(image, *at)).collect();
    let is_blurred = call.is_unsure || places.len() < call.arguments.len();
    (places, is_blurred)
}

/// Where the two panics are.
#[derive(Debug, Default)]
struct Panics {
    returned: HashSet<VirtAddr>,
    panicked: HashSet<VirtAddr>,
}

impl Panics {
    fn find(image: &Image<'_>, symbols: &SymbolIndex<'_>) -> Self {
        let named = |name: &str| -> HashSet<VirtAddr> {
            let path = format!("core::panicking::panic_const::{name}");
            let holding = symbols.holding(name);
            holding.filter(|at| symbols.names_at(*at).any(|known| known == path)).collect()
        };
        let mut panics = Self { returned: named(RETURNED.0), panicked: named(PANICKED.0) };
        if panics.returned.is_empty() && panics.panicked.is_empty() {
            let short = |function: &Range<VirtAddr>| function.end.0 - function.start.0 <= LONGEST_PANIC;
            [panics.returned, panics.panicked] = printing(image, [RETURNED.1, PANICKED.1])
                .map(|functions| functions.into_iter().filter(short).map(|function| function.start).collect());
        }
        panics
    }

    fn is_one(&self, function: VirtAddr) -> bool {
        self.returned.contains(&function) || self.panicked.contains(&function)
    }

    /// The places outside the runtime and the standard library that the panics are called with, at the first depth from
    /// poll where there are any, in the order of the code.
    fn reached(&self, image: &Image<'_>, calls: &mut Calls<'_, '_>, poll: VirtAddr) -> Reached {
        let mut reached = Reached::default();
        for level in calls.levels(&[poll], DEPTH, MOST_FUNCTIONS) {
            reached.is_blurred |= level.is_cut;
            for function in level.functions {
                let callees = calls.of(function);
                reached.is_blurred |= !callees.is_whole;
                for call in callees.calls.iter().filter(|call| self.is_one(call.to)) {
                    let (places, is_blurred) = told(image, call);
                    reached.is_blurred |= is_blurred;
                    let unwinds = self.panicked.contains(&call.to);
                    for place in places.into_iter().filter(|place| is_foreign(place.file)) {
                        reached.add(place, function, unwinds);
                    }
                }
            }
            if !reached.candidates.is_empty() {
                break;
            }
        }
        reached
    }
}

impl Reached {
    fn add(&mut self, place: Location<'_>, function: VirtAddr, unwinds: bool) {
        if !self.functions.contains(&function) {
            self.functions.push(function);
        }
        let same = |f: &&mut Found| f.line == place.line && f.column == place.column && f.file == place.file;
        match self.candidates.iter_mut().find(same) {
            Some(known) => known.unwinds |= unwinds,
            None => self.candidates.push(Found {
                file: place.file.to_owned(),
                line: place.line,
                column: place.column,
                unwinds,
            }),
        }
    }
}

/// Neither the standard library's nor tokio's own source.
fn is_foreign(file: &str) -> bool {
    let standard = file.starts_with("/rustc/")
        || ["core", "alloc", "std"].iter().any(|c| {
            file.strip_prefix("library/").is_some_and(|rest| rest.starts_with(c))
                || file.contains(&format!("/library/{c}/src/"))
        });
    let runtime = file.split(['/', '\\']).zip(file.split(['/', '\\']).skip(1)).any(|(folder, inside)| {
        let version = folder.rsplit_once("tokio-").map(|(_, version)| version);
        inside == "src" && (folder == "tokio" || version.is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit())))
    });
    !standard && !runtime
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::hint::black_box;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::model::{TaskFunctions, TypeEntry};
    use crate::symbols::tiny::{CODE, DATA, Tiny};

    const INNER: u32 = line!() + 1;
    async fn inner(n: u64) -> u64 {
        std::future::pending::<()>().await;
        black_box(n)
    }

    const OUTER: u32 = line!() + 1;
    async fn outer(n: u64) -> u64 {
        inner(n).await + 1
    }

    #[inline(never)]
    fn runs_inner(n: u64) -> bool {
        pin!(inner(n)).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[inline(never)]
    fn runs_outer(n: u64) -> bool {
        pin!(outer(n)).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[inline(never)]
    fn four_calls_off(n: u64) -> bool {
        black_box(three_calls_off(black_box(n)))
    }

    #[inline(never)]
    fn three_calls_off(n: u64) -> bool {
        black_box(two_calls_off(black_box(n)))
    }

    #[inline(never)]
    fn two_calls_off(n: u64) -> bool {
        black_box(runs_outer(black_box(n)))
    }

    #[inline(never)]
    fn runs_both(n: u64) -> bool {
        runs_inner(n) & runs_outer(n)
    }

    #[inline(never)]
    fn runs_none(n: u64) -> u64 {
        black_box(n)
    }

    /// Polled by one function and dropped by another; what else is called of it is the third.
    fn task_of(poll: VirtAddr, drop: VirtAddr, other: VirtAddr) -> TaskType {
        let mut task = TypeEntry::sample(other, Resource::Task, false).task;
        task.functions = TaskFunctions {
            poll,
            schedule: other,
            dealloc: drop,
            try_read_output: other,
            drop_join_handle_slow: other,
            drop_abort_handle: other,
            shutdown: other,
        };
        task
    }

    /// What is told of a type that is polled by one of the functions above and dropped by another: line, and whether it is certain.
    fn told(poll: &str, drop: &str) -> Option<(u32, bool)> {
        assert!(!four_calls_off(1) && !runs_both(runs_none(1)), "none of them ends");
        let bytes = std::fs::read(std::env::current_exe().expect("tests run from a file")).expect("which can be read");
        let image = Image::parse(&bytes).expect("an image");
        let symbols = SymbolIndex::of(&image);
        let function = |name: &str| {
            let path = format!("{}::{name}", module_path!());
            let found = symbols.holding(name).find(|at| symbols.names_at(*at).any(|known| known == path));
            found.expect("the function has a symbol")
        };
        let task = task_of(function(poll), function(drop), function("runs_none"));
        let mut calls = Calls::new(&image, 10_000_000);
        let place = Places::read(&image, &symbols, &mut calls, &[task]).place(0)?;
        assert_eq!(place.file, file!());
        Some((place.line, place.certain))
    }

    #[test]
    fn the_body_that_is_nearest_is_the_own_one_however_far_it_is() {
        assert_eq!(told("runs_outer", "runs_none"), Some((OUTER, true)));
        assert_eq!(told("four_calls_off", "runs_none"), Some((OUTER, true)));
        assert_eq!(told("runs_inner", "runs_none"), Some((INNER, true)));
        assert_eq!(told("runs_none", "runs_none"), None);
    }

    #[test]
    fn of_two_bodies_at_one_depth_none_is_certain() {
        assert_eq!(told("runs_both", "runs_none").map(|(_, certain)| certain), Some(false));
    }

    #[test]
    fn a_body_that_dropping_leads_to_is_not_certain() {
        assert_eq!(told("runs_inner", "runs_inner"), Some((INNER, false)));
        assert_eq!(
            told("runs_inner", "four_calls_off"),
            Some((INNER, false)),
            "it is inside the one that dropping runs"
        );
        assert_eq!(told("runs_outer", "runs_inner"), Some((OUTER, true)), "dropping runs another");
    }

    /// Where the tiny images below have the panic, the poll, and a `Location` of line 640.
    const PANIC: u64 = CODE + 0x10;
    const POLL: u64 = CODE + 0x20;
    const PLACE: u64 = DATA;
    /// What is no `Location`.
    const NO_PLACE: u64 = DATA + 0x40;
    /// `mov rdi, r14`
    const UNKNOWN: [u8; 3] = [0x4c, 0x89, 0xf7];

    /// Code of a poll, put together from its start on.
    struct Code(Vec<u8>);

    impl Code {
        fn relative(mut self, opcode: &[u8], to: u64) -> Self {
            let next = POLL + (self.0.len() + opcode.len() + 4) as u64;
            self.0.extend(opcode);
            self.0.extend(i32::try_from(to.cast_signed() - next.cast_signed()).expect("near").to_le_bytes());
            self
        }

        fn panic_at(self, place: u64) -> Self {
            self.relative(&[0x48, 0x8d, 0x3d], place).relative(&[0xe8], PANIC)
        }

        fn range(&self) -> Range<u64> {
            POLL..POLL + self.0.len() as u64
        }

        fn bytes(mut self, bytes: &[u8]) -> Self {
            self.0.extend(bytes);
            self
        }
    }

    /// The line that is told of a poll of this code, whether it is blurred, and whether dropping by this code may lead to another line:
    /// the code is the first of these functions.
    fn seen(code: &Code, functions: &[Range<u64>]) -> (Option<u32>, bool, bool) {
        let mut all = vec![0xc3; 0x20];
        all.extend(&code.0);
        let path = b"src/workers.rs";
        let words = [0, path.len() as u64, 640 | 5 << 32].map(u64::to_le_bytes).concat();
        let mut data = [&words[..], path].concat();
        data.resize(0x80, 0);
        let mut tiny = Tiny::new(&all, &data);
        tiny.relocated.push((PLACE, PLACE + 24));
        // The second only returns.
        tiny.functions = [&[PANIC..PANIC + 1, PANIC + 1..PANIC + 2][..], functions].concat();
        let bytes = tiny.build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let mut calls = Calls::new(&image, 1_000_000);
        let panics = Panics { returned: HashSet::from([VirtAddr(PANIC)]), panicked: HashSet::new() };
        let reached = panics.reached(&image, &mut calls, VirtAddr(POLL));
        let task = task_of(VirtAddr(POLL), VirtAddr(POLL), VirtAddr(PANIC + 1));
        let other = Found { file: "src/workers.rs".to_owned(), line: 641, column: 5, unwinds: true };
        let mut dropping = Dropping { image: &image, panics: &panics, known: HashMap::new() };
        let may_lead = dropping.may_lead(&mut calls, &task, &other);
        (reached.candidates.first().map(|found| found.line), reached.is_blurred, may_lead)
    }

    #[test]
    fn a_place_beside_a_panic_that_does_not_tell_its_own_is_blurred() {
        let one = |code: &Code| seen(code, &[code.range()]);
        let start = || Code(Vec::new()).panic_at(PLACE);
        assert_eq!(one(&start()), (Some(640), false, false));
        let unknown = start().bytes(&UNKNOWN).relative(&[0xe8], PANIC);
        assert_eq!(one(&unknown), (Some(640), true, true), "what it is called with is not known");
        assert_eq!(one(&start().panic_at(NO_PLACE)), (Some(640), true, true), "it is called with no place");
    }

    #[test]
    fn a_place_in_code_that_was_not_read_to_its_end_is_blurred() {
        let code = Code(Vec::new()).panic_at(PLACE).bytes(&[0x06, 0x90]);
        assert_eq!(seen(&code, &[code.range()]), (Some(640), true, true));
    }

    #[test]
    fn a_place_at_a_depth_where_not_all_functions_were_visited_is_blurred() {
        let calling = |others: u64| {
            let body = POLL + 5 * (others + 1);
            // Each other function is a `ret` of its own behind the body.
            let mut code = (0..others).fold(Code(Vec::new()).relative(&[0xe8], body), |code, other| {
                code.relative(&[0xe8], body + 12 + other)
            });
            code = code.panic_at(PLACE);
            code.0.resize(code.0.len() + usize::try_from(others).expect("few"), 0xc3);
            let rets = (0..others).map(|other| body + 12 + other..body + 13 + other);
            let functions: Vec<_> = [POLL..body, body..body + 12].into_iter().chain(rets).collect();
            let (line, is_blurred, _) = seen(&code, &functions);
            (line, is_blurred)
        };
        let most = MOST_FUNCTIONS as u64;
        assert_eq!(calling(most - 2), (Some(640), false));
        assert_eq!(calling(most - 1), (Some(640), true));
    }
}
