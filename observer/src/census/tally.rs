//! What is counted of the cells that a walk met.
//!
//! Does not know: how they were met, what the runtime counts.

use super::anchors::{List, is_member};
use super::cell::Cell;
use super::cell_types::{CellTypes, ImageIndex};

/// The lists that members are counted of, in order.
pub struct Members<'a> {
    types: &'a CellTypes,
    lists: Vec<(ImageIndex, u64)>,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// In each list.
    pub members: Vec<u64>,
    /// Futures that are not complete.
    pub live: u64,
    /// Positions of those that run.
    pub running: Vec<u32>,
}

impl<'a> Members<'a> {
    /// Of these lists, which are in order of image and id.
    pub fn of(lists: &[List], types: &'a CellTypes) -> Self {
        Self { types, lists: lists.iter().map(|list| (list.image, list.owner)).collect() }
    }

    /// Counts.
    pub fn tally(&self, cells: &[Cell]) -> Tally {
        let mut tally = Tally { members: vec![0; self.lists.len()], ..Tally::default() };
        // Neighbours in memory are mostly of one list.
        let mut last = None;
        for (position, cell) in (0..).zip(cells) {
            if cell.state.is_running() {
                tally.running.push(position);
            }
            tally.live += u64::from(cell.is_live_future(self.types));
            if is_member(cell, self.types) {
                let key = (self.types.get(cell.cell_type).image, cell.owner);
                let list = match last {
                    Some((last_key, list)) if last_key == key => list,
                    _ => self.lists.binary_search(&key).ok(),
                };
                last = Some((key, list));
                list.into_iter().for_each(|list| tally.members[list] += 1);
            }
        }
        tally
    }

    /// Of pieces of this many cells, one behind the other, as of one.
    pub fn sum(&self, pieces: impl IntoIterator<Item = Tally>, piece: usize) -> Tally {
        let mut all = Tally { members: vec![0; self.lists.len()], ..Tally::default() };
        for (number, tally) in pieces.into_iter().enumerate() {
            let first = (number * piece) as u32;
            all.members.iter_mut().zip(tally.members).for_each(|(all, own)| *all += own);
            all.live += tally.live;
            all.running.extend(tally.running.into_iter().map(|position| first + position));
        }
        all
    }
}
