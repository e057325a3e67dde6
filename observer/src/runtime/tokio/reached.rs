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
