//! Which blocking type is the multi-thread runtime's own worker: the one whose poll runs the scheduler's loop.
//!
//! Does not know: workers of `multi_thread_alt` (1.33 to 1.4x, `tokio_unstable` only), which say nothing of the kind.

use std::cell::LazyCell;
use std::collections::{BTreeSet, VecDeque};

use memchr::memmem;

use crate::model::{Resource, TaskType, VirtAddr};
use crate::symbols::{Callers, Functions, Image, Targets, references};

/// What the worker says when its parker is gone: `expect("park missing")`, in 1.23.0, 1.28.2, 1.36.0, 1.44.2 and 1.54.1
/// only there. Only a worker parks, so only a worker's poll leads there.
const WORDS: &[u8] = b"park missing";
/// Where it says so: the panic's location names this file. Others (this program, for one) may hold the words, too.
const FILE: &[u8] = b"/runtime/scheduler/multi_thread/worker.rs";
/// So many functions around the worker's loop are looked at; a debug build has about 40.
const MOST_FUNCTIONS: usize = 2048;

/// Marks the worker among the types.
pub(super) fn mark<F: FnOnce() -> Callers>(
    image: &Image<'_>,
    functions: &Functions,
    callers: &LazyCell<Callers, F>,
    types: &mut [TaskType],
) {
    if types.iter().all(|t| t.resource != Resource::Blocking) {
        return;
    }
    let polls: BTreeSet<VirtAddr> = types.iter().map(|t| t.functions.poll).collect();
    let parkers = Parkers::find(image, functions);
    if parkers.is_empty() {
        return;
    }
    let leading = leading_to(functions, callers, &parkers.certain(functions, callers), &polls);
    for task in types.iter_mut().filter(|t| t.resource == Resource::Blocking) {
        task.worker = leading.contains(&task.functions.poll);
    }
}

/// Functions that may be where a worker parks.
struct Parkers {
    /// They hold the worker's words.
    saying: BTreeSet<VirtAddr>,
    /// They hold a location in the worker's file.
    located: BTreeSet<VirtAddr>,
}

impl Parkers {
    fn find(image: &Image<'_>, functions: &Functions) -> Self {
        let words: BTreeSet<_> = texts(image, WORDS).collect();
        let targets = Targets::new(words.iter().copied().chain(locations(image)));
        let mut found = Self { saying: BTreeSet::new(), located: BTreeSet::new() };
        for reference in references(image, &targets) {
            let Some(function) = functions.containing(reference.at) else { continue };
            let side = if words.contains(&reference.target) { &mut found.saying } else { &mut found.located };
            side.insert(function.start);
        }
        found
    }

    fn is_empty(&self) -> bool {
        self.saying.is_empty() || self.located.is_empty()
    }

    /// Those with both, or whose caller has the location: with `opt-level = "z"`, `expect` is a function of its own that
    /// knows the words and is handed the location.
    fn certain(&self, functions: &Functions, callers: &Callers) -> BTreeSet<VirtAddr> {
        let around = |&function: &VirtAddr| {
            let sites = callers.of(function).filter_map(|site| functions.containing(site));
            std::iter::once(function).chain(sites.map(|f| f.start)).collect::<Vec<_>>()
        };
        self.saying.iter().flat_map(around).filter(|function| self.located.contains(function)).collect()
    }
}

/// Every `&'static Location` in the worker's file: a string's address and length, then line and column.
fn locations(image: &Image<'_>) -> BTreeSet<VirtAddr> {
    let ends: BTreeSet<u64> = texts(image, FILE).map(|at| at.0 + FILE.len() as u64).collect();
    if ends.is_empty() {
        return BTreeSet::new();
    }
    let strings = image.pointers().as_slice().iter().filter(|p| {
        let length = p.at.0.checked_add(8).and_then(|at| image.word_at(VirtAddr(at)));
        length.and_then(|length| p.to.0.checked_add(length)).is_some_and(|end| ends.contains(&end))
    });
    strings.map(|p| p.at).collect()
}

/// Where among the constants a text stands.
fn texts<'i>(image: &'i Image<'_>, text: &'i [u8]) -> impl Iterator<Item = VirtAddr> + 'i {
    image.segments().iter().filter(|s| !s.is_executable()).flat_map(move |segment| {
        let bytes = image.bytes().get(segment.file()).unwrap_or_default();
        memmem::find_iter(bytes, text).map(|at| VirtAddr(segment.start().0 + at as u64))
    })
}

/// Every function from which these can be reached, up to the polls, which nobody calls directly.
fn leading_to(
    functions: &Functions,
    callers: &Callers,
    from: &BTreeSet<VirtAddr>,
    polls: &BTreeSet<VirtAddr>,
) -> BTreeSet<VirtAddr> {
    let mut seen = from.clone();
    let mut open: VecDeque<VirtAddr> = from.iter().copied().collect();
    while let Some(function) = open.pop_front() {
        if polls.contains(&function) {
            continue;
        }
        for site in callers.of(function) {
            let Some(caller) = functions.containing(site) else { continue };
            if seen.len() < MOST_FUNCTIONS && seen.insert(caller.start) {
                open.push_back(caller.start);
            }
        }
    }
    seen
}
