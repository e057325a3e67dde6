//! Cells as the rest of the program knows them, a million at a time.
//!
//! Does not know: where cells come from, how a task's thread is found.

use std::convert::Infallible;

use super::cell::Cell;
use super::cell_types::CellTypes;
use super::pieces::{PIECE, each_piece, is_worth_two};
use crate::model::{LiveTask, Tid};
use crate::target::{Filling, Piece};

/// All as tasks. `old` is what they are put into if it is large enough: of a million, making room costs as much as
/// reading a third of them.
pub fn to_tasks(
    cells: &[Cell],
    types: &CellTypes,
    thread_of: impl Fn(&Cell) -> Option<Tid> + Sync,
    old: Vec<LiveTask>,
) -> Vec<LiveTask> {
    let mut room = Room::new(cells, types, old);
    let worker = || {
        |(cells, place): (&[Cell], Place<'_>)| {
            place.put(cells, types, &thread_of);
            Ok::<_, Infallible>(())
        }
    };
    let Ok(_) = each_piece(cells.chunks(PIECE).zip(room.places()), is_worth_two(cells.len()), worker);
    room.finish()
}

/// Room for the tasks of as many cells.
pub enum Room {
    /// With tasks of an earlier census in it.
    Old(Vec<LiveTask>),
    /// With nothing in it.
    New(Filling<LiveTask>),
}

/// Room for a piece of [`PIECE`] tasks.
pub enum Place<'a> {
    /// With tasks of an earlier census in it.
    Old(&'a mut [LiveTask]),
    /// With nothing in it.
    New(Piece<'a, LiveTask>),
}

impl Room {
    /// For these, within `old` if it is large enough.
    pub fn new(cells: &[Cell], types: &CellTypes, mut old: Vec<LiveTask>) -> Self {
        if old.capacity() < cells.len() {
            return Self::New(Filling::new(cells.len()));
        }
        old.truncate(cells.len());
        old.extend(cells[old.len()..].iter().map(|cell| cell.to_task(types, None)));
        Self::Old(old)
    }

    /// All of it, in order.
    pub fn places(&mut self) -> impl Iterator<Item = Place<'_>> {
        let (old, new) = match self {
            Self::Old(tasks) => (Some(tasks.chunks_mut(PIECE).map(Place::Old)), None),
            Self::New(filling) => (None, Some(filling.pieces(PIECE).map(Place::New))),
        };
        old.into_iter().flatten().chain(new.into_iter().flatten())
    }

    /// The tasks, after all were put.
    pub fn finish(self) -> Vec<LiveTask> {
        match self {
            Self::Old(tasks) => tasks,
            Self::New(filling) => filling.finish(),
        }
    }
}

impl Place<'_> {
    /// Puts each in its place.
    pub fn put(self, cells: &[Cell], types: &CellTypes, thread_of: impl Fn(&Cell) -> Option<Tid>) {
        let tasks = cells.iter().map(|cell| cell.to_task(types, thread_of(cell)));
        match self {
            Self::New(piece) => piece.fill(tasks),
            // Most stood there already: what is not written need not be carried back to memory.
            Self::Old(old) => {
                old.iter_mut().zip(tasks).filter(|(old, now)| **old != *now).for_each(|(old, now)| *old = now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::tests::only_type;
    use crate::model::{ProcAddr, TaskState};

    #[test]
    fn whatever_room_they_are_put_into_the_tasks_are_those_of_the_cells() {
        let types = only_type(0x5000, 16);
        let cell_type = types.find(0x5000).unwrap();
        let cell = |id: u64, state| {
            let (header, state) = (ProcAddr(0x10_0000 + 64 * id), TaskState(state));
            let (queue_next, owner, scheduler, spawn_location, links) = (0, 1, 0, 0, [0; 2]);
            Cell { header, cell_type, state, queue_next, owner, scheduler, id, spawn_location, links }
        };
        let thread_of = |cell: &Cell| cell.state.is_running().then_some(Tid(cell.id as u32));
        let all = 2 * PIECE as u64 + 77;
        // Two threads, and one.
        for number in [8 * all, all, 1] {
            let cells: Vec<Cell> = (1..=number).map(|id| cell(id, if id % 9 == 0 { 0x85 } else { 0x84 })).collect();
            let expected: Vec<LiveTask> = cells.iter().map(|cell| cell.to_task(&types, thread_of(cell))).collect();
            let others: Vec<LiveTask> = (1..=number).map(|id| cell(id + id % 2, 0xc4).to_task(&types, None)).collect();
            let few = others[..number as usize / 2].to_vec();
            let many = [&others[..], &others[..]].concat();
            for room in [Vec::new(), few, others, many, expected.clone()] {
                assert!(to_tasks(&cells, &types, thread_of, room) == expected);
            }
        }
        assert_eq!(to_tasks(&[], &types, thread_of, Vec::new()), []);
    }
}
