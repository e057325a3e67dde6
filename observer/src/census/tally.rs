//! What is counted of the cells that a walk met.
//!
//! Does not know: how they were met, what the runtime counts.

use std::convert::Infallible;

use super::anchors::{List, is_member};
use super::cell::Cell;
use super::cell_types::{CellTypes, ImageIndex};
use super::pieces::{PIECE, each_piece, is_worth_two};

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

    /// Counts, by two threads where that pays.
    pub fn tally_all(&self, cells: &[Cell]) -> Tally {
        let worker = || |cells: &[Cell]| Ok::<_, Infallible>(self.tally(cells));
        let Ok(pieces) = each_piece(cells.chunks(PIECE), is_worth_two(cells.len()), worker);
        self.sum(pieces)
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

    /// Of pieces of [`PIECE`] cells, one behind the other, as of one.
    pub fn sum(&self, pieces: impl IntoIterator<Item = Tally>) -> Tally {
        let mut all = Tally { members: vec![0; self.lists.len()], ..Tally::default() };
        for (number, tally) in pieces.into_iter().enumerate() {
            let first = (number * PIECE) as u32;
            all.members.iter_mut().zip(tally.members).for_each(|(all, own)| *all += own);
            all.live += tally.live;
            all.running.extend(tally.running.into_iter().map(|position| first + position));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::tests::only_type;
    use crate::model::{ProcAddr, TaskState};

    #[test]
    fn pieces_counted_by_two_threads_add_up_to_what_one_counts() {
        let types = only_type(0x5000, 16);
        let cell_type = types.find(0x5000).unwrap();
        let cell = |id: u64| {
            let (header, owner) = (ProcAddr(0x10_0000 + 64 * id), 1 + id / 3 % 4);
            let state = TaskState([0x84, 0x84, 0x85, 0x82][id as usize % 4]);
            let (queue_next, scheduler, spawn_location, links) = (0, 0, 0, [id % 2, 0]);
            Cell { header, cell_type, state, queue_next, owner, scheduler, id, spawn_location, links }
        };
        let lists = [1, 2, 4].map(|owner| (ImageIndex(0), owner)).to_vec();
        let members = Members { types: &types, lists };
        let cells: Vec<Cell> = (1..100_000).map(cell).collect();
        let tally = members.tally_all(&cells);
        assert_eq!(tally, members.tally(&cells));
        let complete = |cell: &&Cell| cell.state == TaskState(0x82);
        assert_eq!(tally.live, cells.len() as u64 - cells.iter().filter(complete).count() as u64);
        let in_list = |owner| {
            let is_in = |cell: &&Cell| cell.owner == owner && (cell.is_linked() || !complete(cell));
            cells.iter().filter(is_in).count() as u64
        };
        assert_eq!(tally.members, [1, 2, 4].map(in_list));
        assert!(tally.running.iter().all(|position| cells[*position as usize].state.is_running()));
        assert_eq!(tally.running.len(), cells.iter().filter(|cell| cell.state.is_running()).count());
    }
}
