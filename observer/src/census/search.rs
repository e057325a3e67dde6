//! The search through all memory: every candidate that passes by itself, with its list's links.
//!
//! Does not know: what cells say of each other. Large memory is read by two threads, each its half.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::cell::{self, Cell, TRAILER, Trailer, trailer_at};
use super::cell_types::{CellTypeIndex, CellTypes};
use super::places::Places;
use super::rejection::Rejected;
use super::walk::{Walk, Walked};
use crate::model::ProcAddr;
use crate::target::{Memory, MemoryError, Process, prefer_huge_pages};

/// Trailers that the place of links is first learned from.
const ENOUGH: usize = 4096;

/// What a search found.
#[derive(Debug, Default)]
pub struct Found {
    /// The cells, in order of address, each address once.
    pub cells: Vec<Cell>,
    /// What was gone over.
    pub walked: Walked,
    /// Candidates that are none.
    pub rejected: Rejected,
    /// There was no room for all.
    pub truncated: bool,
    /// Where the links of each image's cells are.
    pub places: Places,
}

/// Searches, for at most `room` cells. `known` is what was learned of links before.
pub fn search(
    process: &Process,
    types: &CellTypes,
    walk: &Walk,
    known: &Places,
    room: usize,
) -> Result<Found, MemoryError> {
    let count = AtomicUsize::new(0);
    let search = |part: &Walk| Part::search(process, types, part, known, (&count, room));
    let parts = walk.parts();
    let parts: Vec<Part> = std::thread::scope(|scope| {
        let (first, rest) = parts.split_first().map_or((None, &[][..]), |(first, rest)| (Some(first), rest));
        let others: Vec<_> = rest.iter().map(|part| scope.spawn(move || search(part))).collect();
        let ours = first.map(search);
        let others = others.into_iter().map(|other| match other.join() {
            Ok(part) => part,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ours.into_iter().chain(others).collect::<Result<_, _>>()
    })?;
    Ok(joined(parts, types, room))
}

fn joined(parts: Vec<Part>, types: &CellTypes, room: usize) -> Found {
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    for mut part in parts {
        let before = all.cells.len() as u32;
        all.cells.append(&mut part.cells);
        all.trailers.extend(part.trailers.into_iter().map(|(position, trailer)| (position + before, trailer)));
        all.places.fill_from(&part.places);
        all.walked.bytes += part.walked.bytes;
        all.walked.unread.append(&mut part.walked.unread);
        all.rejected.add_all(&part.rejected);
        all.truncated |= part.truncated;
    }
    all.learn(types, true);
    let Part { mut cells, walked, rejected, mut truncated, places, .. } = all;
    // Only where one header has two types, whose vtables are at different places, is this not so already.
    if !cells.is_sorted_by(|one, next| one.header < next.header) {
        cells.sort_by_key(|cell| cell.header);
        cells.dedup_by_key(|cell| cell.header);
    }
    truncated |= cells.len() > room;
    cells.truncate(room);
    Found { cells, walked, rejected, truncated, places }
}

#[derive(Debug, Default)]
struct Part {
    cells: Vec<Cell>,
    /// Of the cells whose links' place was not known when they were met, by position.
    trailers: Vec<(u32, Trailer)>,
    /// Trailers that there are before it pays to learn from them.
    enough: usize,
    places: Places,
    walked: Walked,
    rejected: Rejected,
    truncated: bool,
}

impl Part {
    fn search(
        process: &Process,
        types: &CellTypes,
        walk: &Walk,
        known: &Places,
        (count, room): (&AtomicUsize, usize),
    ) -> Result<Self, MemoryError> {
        let memory = process.memory();
        let mut part = Self { places: known.clone(), enough: ENOUGH, ..Self::default() };
        let (mut edges, mut late) = (Vec::new(), Vec::new());
        let (mut failed, mut capacity) = (None, 0);
        part.walked = walk.run(&memory, |at, bytes| {
            let before = part.cells.len();
            if count.load(Ordering::Relaxed) >= room {
                part.truncated = true;
                return;
            }
            let Self { cells, trailers, places, rejected, .. } = &mut part;
            let each = |mut cell: Cell, trailer: Option<Trailer>| {
                match (trailer, places.of(types.get(cell.cell_type).image)) {
                    (None, _) => late.push(cells.len()),
                    (Some(trailer), Some(place)) => cell.links = [trailer[place], trailer[place + 1]],
                    (Some(trailer), None) => trailers.push((cells.len() as u32, trailer)),
                }
                cells.push(cell);
            };
            let edge = |header, index| edges.push((header, index));
            cell::scan(at, bytes, types, each, |reason| rejected.add(reason), edge);
            let rest = part.complete(before, &mut late, &mut edges, types, &memory);
            failed = failed.take().or(rest.err());
            if part.trailers.len() >= part.enough {
                part.learn(types, false);
                part.enough = part.trailers.len().max(ENOUGH) * 2;
            }
            if part.cells.capacity() != capacity {
                capacity = part.cells.capacity();
                prefer_huge_pages(&mut part.cells);
            }
            count.fetch_add(part.cells.len() - before, Ordering::Relaxed);
        })?;
        failed.map_or(Ok(part), Err)
    }

    /// Learns from the trailers, and keeps those that are still of no use.
    fn learn(&mut self, types: &CellTypes, all: bool) {
        self.places.fill_from(&Places::learn(&self.cells, &self.trailers, types, all));
        let Self { cells, trailers, places, .. } = self;
        trailers.retain(|(position, trailer)| {
            let cell = &mut cells[*position as usize];
            let place = places.of(types.get(cell.cell_type).image);
            place.inspect(|place| cell.links = [trailer[*place], trailer[place + 1]]).is_none()
        });
    }

    /// Reads what a piece had only a part of: trailers, and the heads at its edges. Cells stay in order of address.
    fn complete(
        &mut self,
        before: usize,
        late: &mut Vec<usize>,
        edges: &mut Vec<(ProcAddr, CellTypeIndex)>,
        types: &CellTypes,
        memory: &Memory<'_>,
    ) -> Result<(), MemoryError> {
        for index in late.drain(..) {
            let trailer = read_trailer(&self.cells[index], types, memory)?;
            self.trailers.push((index as u32, trailer));
        }
        for (header, index) in edges.drain(..) {
            let mut head = vec![0; types.head_len()];
            let read = memory.read(header, &mut head)?;
            match Cell::read(header, index, types, &head[..read]) {
                Ok(cell) => {
                    let place = before + self.cells[before..].partition_point(|other| other.header < header);
                    self.cells.insert(place, cell);
                    let moved = self.trailers.iter_mut().rev().take_while(|(position, _)| *position >= before as u32);
                    moved.filter(|(position, _)| *position >= place as u32).for_each(|(position, _)| *position += 1);
                    self.trailers.push((place as u32, read_trailer(&cell, types, memory)?));
                }
                Err(reason) => self.rejected.add(reason),
            }
        }
        Ok(())
    }
}

/// The trailer, as far as it can be read: a cell may end with its mapping.
fn read_trailer(cell: &Cell, types: &CellTypes, memory: &Memory<'_>) -> Result<Trailer, MemoryError> {
    let mut bytes = [0; 8 * TRAILER];
    memory.read(cell.trailer(types), &mut bytes)?;
    Ok(trailer_at(&bytes, 0).unwrap_or_default())
}
