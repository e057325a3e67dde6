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

use std::collections::HashMap;

use super::body_panics::Panics;
use super::dropping::Dropping;
use super::reached::{Found, Reached};
use crate::model::{Place, Resource, TaskType, VirtAddr};
use crate::symbols::{Calls, Image, SymbolIndex};

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
        Some(first.place(*certain))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::future::Future;
    use std::hint::black_box;
    use std::ops::Range;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::model::{TaskFunctions, TypeEntry};
    use crate::runtime::tokio::reached::MOST_FUNCTIONS;
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
