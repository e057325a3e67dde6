//! Which blocking type is the multi-thread runtime's own worker: the one whose poll runs the scheduler's loop.
//!
//! Does not know: workers of `multi_thread_alt` (1.33 to 1.4x, `tokio_unstable` only), which say nothing of the kind.

use std::collections::{HashSet, VecDeque};

use memchr::memmem;

use crate::model::{Resource, TaskType, VirtAddr};
use crate::symbols::{Callers, Image, Targets, references};

/// What the worker says when its parker is gone: `expect("park missing")` in `runtime/scheduler/multi_thread/worker.rs`
/// and nowhere else, in 1.23.0, 1.28.2, 1.36.0, 1.44.2 and 1.54.1. Only a worker parks, so only a worker's poll leads there.
const WORKERS_WORDS: &[u8] = b"park missing";
/// So many functions around the worker's loop are looked at; a debug build has about 40.
const MOST_FUNCTIONS: usize = 2048;

/// Marks the worker among the types.
pub(super) fn mark(image: &Image<'_>, types: &mut [TaskType]) {
    if types.iter().all(|t| t.resource != Resource::Blocking) {
        return;
    }
    let polls: HashSet<VirtAddr> = types.iter().map(|t| t.functions.poll).collect();
    let leading = leading_to(image, &parkers(image), &polls);
    for task in types.iter_mut().filter(|t| t.resource == Resource::Blocking) {
        task.worker = leading.contains(&task.functions.poll);
    }
}

/// The functions that hold the worker's words.
fn parkers(image: &Image<'_>) -> Vec<VirtAddr> {
    let mut words = Vec::new();
    for segment in image.segments().iter().filter(|s| !s.is_executable()) {
        let bytes = image.bytes().get(segment.file()).unwrap_or_default();
        let places = memmem::find_iter(bytes, WORKERS_WORDS);
        words.extend(places.map(|at| VirtAddr(segment.start().0 + at as u64)));
    }
    if words.is_empty() {
        return Vec::new();
    }
    let said = references(image, &Targets::new(words));
    said.iter().filter_map(|r| image.functions().containing(r.at)).map(|f| f.start).collect()
}

/// Every function from which these can be reached, up to the polls, which nobody calls directly.
fn leading_to(image: &Image<'_>, functions: &[VirtAddr], polls: &HashSet<VirtAddr>) -> HashSet<VirtAddr> {
    let mut seen: HashSet<VirtAddr> = functions.iter().copied().collect();
    let mut open: VecDeque<VirtAddr> = seen.iter().copied().collect();
    if open.is_empty() {
        return seen;
    }
    let callers = Callers::read(image);
    while let Some(function) = open.pop_front() {
        if polls.contains(&function) {
            continue;
        }
        for site in callers.of(function) {
            let Some(caller) = image.functions().containing(site) else { continue };
            if seen.len() < MOST_FUNCTIONS && seen.insert(caller.start) {
                open.push_back(caller.start);
            }
        }
    }
    seen
}
