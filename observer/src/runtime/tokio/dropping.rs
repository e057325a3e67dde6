//! The places that dropping a future leads to: those of bodies that its destructor may run.
//!
//! Does not know: what polling leads to.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::body_panics::{Panics, told};
use super::reached::Found;
use crate::model::{TaskType, VirtAddr};
use crate::symbols::{Calls, Image, Location};

/// Calls between the functions that drop a future and a body that its destructor runs: further, to be sure.
const DROPPING_DEPTH: usize = 6;

/// Which places are reached by dropping.
pub(super) struct Dropping<'a, 'd> {
    pub(super) image: &'a Image<'d>,
    pub(super) panics: &'a Panics,
    /// By function and the calls followed from it.
    pub(super) known: HashMap<(VirtAddr, usize), Rc<Dropped<'d>>>,
}

/// What one function leads to.
#[derive(Debug, Default)]
pub(super) struct Dropped<'d> {
    places: BTreeSet<Location<'d>>,
    /// It may lead to others: code was not read, or a panic does not tell its place.
    is_blurred: bool,
}

impl<'d> Dropping<'_, 'd> {
    pub(super) fn may_lead(&mut self, calls: &mut Calls<'_, '_>, task: &TaskType, to: &Found) -> bool {
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
