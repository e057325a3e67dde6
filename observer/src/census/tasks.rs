//! Cells as the rest of the program knows them, a million at a time.
//!
//! Does not know: where cells come from, how a task's thread is found.

use std::convert::Infallible;

use super::cell::Cell;
use super::cell_types::CellTypes;
use super::pieces::{PIECE, each_piece, is_worth_two};
use crate::model::{LiveTask, Tid};
use crate::target::prefer_huge_pages;

/// All as tasks.
///
/// `room` is what they are put into: of a million, making room would cost more than reading them.
pub fn to_tasks(
    cells: &[Cell],
    types: &CellTypes,
    thread_of: impl Fn(&Cell) -> Option<Tid> + Sync,
    room: Vec<LiveTask>,
) -> Vec<LiveTask> {
    let Some(mut tasks) = fitted(room, cells, types) else {
        let mut tasks = Vec::with_capacity(cells.len());
        prefer_huge_pages(&mut tasks);
        tasks.extend(cells.iter().map(|cell| cell.to_task(types, thread_of(cell))));
        return tasks;
    };
    let worker = || {
        |(cells, tasks): (&[Cell], &mut [LiveTask])| {
            put(cells, types, &thread_of, tasks);
            Ok::<_, Infallible>(())
        }
    };
    let pieces = cells.chunks(PIECE).zip(tasks.chunks_mut(PIECE));
    match each_piece(pieces, is_worth_two(cells.len()), worker) {
        Ok(_) => tasks,
    }
}

/// The room made as long as there are cells, whatever is in it; `None` where that would be a new one.
pub fn fitted(mut room: Vec<LiveTask>, cells: &[Cell], types: &CellTypes) -> Option<Vec<LiveTask>> {
    if room.capacity() < cells.len() {
        return None;
    }
    room.truncate(cells.len());
    room.extend(cells[room.len()..].iter().map(|cell| cell.to_task(types, None)));
    Some(room)
}

/// Puts each in its place. Most stood there already: what is not written need not be carried back to memory.
pub fn put(cells: &[Cell], types: &CellTypes, thread_of: impl Fn(&Cell) -> Option<Tid>, tasks: &mut [LiveTask]) {
    for (cell, task) in cells.iter().zip(tasks) {
        let now = cell.to_task(types, thread_of(cell));
        if *task != now {
            *task = now;
        }
    }
}
