//! The places that a poll leads to: those of bodies that it may run, the nearest.
//!
//! Does not know: whether they are the task's own.

use super::body_panics::{Panics, told};
use crate::model::{Place, VirtAddr};
use crate::symbols::{Calls, Image, Location};

/// Calls between poll and the body: the thunk, the harness, its part that polls, its part that catches panics, the core; and one future
/// around it.
const DEPTH: usize = 5;
/// Most functions visited for one type.
pub(super) const MOST_FUNCTIONS: usize = 400;

/// One candidate for a body's place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Found {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) column: u32,
    /// Its body can be left by a panic.
    pub(super) unwinds: bool,
}

impl Found {
    /// As a place.
    pub(super) fn place(&self, certain: bool) -> Place {
        Place { file: self.file.clone(), line: self.line, column: Some(self.column), certain }
    }
}

/// What there is at the first depth from poll where there is any.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached {
    pub(super) candidates: Vec<Found>,
    /// The functions that panic with them.
    pub(super) functions: Vec<VirtAddr>,
    /// A panic there or nearer does not tell its place, or there may be one in code that was not read.
    pub(super) is_blurred: bool,
}

impl Panics {
    /// The places outside the runtime and the standard library that the panics are called with, at the first depth from
    /// poll where there are any, in the order of the code.
    pub(super) fn reached(&self, image: &Image<'_>, calls: &mut Calls<'_, '_>, poll: VirtAddr) -> Reached {
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

/// Neither the standard library's nor tokio's own source. A folder that only looks like theirs is a user's: `my-tokio-1.2.3`,
/// `tokio-2024`, `library/core-api`.
fn is_foreign(file: &str) -> bool {
    let standard = file.starts_with("/rustc/")
        || ["core", "alloc", "std"].iter().any(|part| file.starts_with(&format!("library/{part}/src/")))
        || file.contains("/rustlib/src/rust/library/");
    let folders = || file.split(['/', '\\']);
    let runtime = folders().zip(folders().skip(1)).any(|(folder, inside)| {
        // Vendors put the registry's name before a crate's: `crates__tokio-1.54.1`.
        let versions = folder.rsplit_once("__").map_or(folder, |(_, name)| name).strip_prefix("tokio-");
        inside == "src" && (folder == "tokio" || versions.is_some_and(is_version))
    });
    !standard && !runtime
}

/// Three numbers, and what may be behind them.
fn is_version(text: &str) -> bool {
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    numbers.split('.').count() == 3 && numbers.split('.').all(|n| n.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_runtime_s_and_the_standard_library_s_own_source_is_passed_over() {
        let registry = "/home/u/.cargo/registry/src/index-6f17d22bba15001f/tokio-1.54.1/src/sync/mutex.rs";
        let theirs = [
            registry,
            "/home/u/.cargo/git/checkouts/tokio-377c595163f99a10/88b7ff2/tokio/src/time/sleep.rs",
            "external/crates__tokio-1.36.0/src/runtime/task/mod.rs",
            "vendor\\tokio-1.40.0-rc.1\\src\\lib.rs",
            "/rustc/59807616e1fa/library/core/src/future/mod.rs",
            "library/std/src/thread/mod.rs",
        ];
        assert_eq!(theirs.map(is_foreign), [false; 6]);
        let ours = [
            "src/main.rs",
            "/w/hello-tokio-2024/src/lib.rs",
            "/w/tokio-2fa/src/lib.rs",
            "/w/my-tokio-1.2.3/src/lib.rs",
            "/w/tokio-util-0.7.16/src/task/mod.rs",
            "library/core-api/src/lib.rs",
            "library/allocator/src/lib.rs",
            "/w/library/core/src/lib.rs",
        ];
        assert_eq!(ours.map(is_foreign), [true; 8]);
    }
}
