//! Another look at cells that are known: what each is now.
//!
//! Does not know: who else there is. Cells that lie close together are read in one piece; many are read by two threads.

use super::cell::Cell;
use super::cell_types::CellTypes;
use super::links;
use super::pieces::{PIECE, each_piece, is_worth_two};
use super::places::Places;
use super::shape::{Shape, Shapes};
use crate::model::{ProcAddr, word_at};
use crate::target::{Mapping, Memory, MemoryError, Process};

/// Cells at most this far apart are read together, gap and all: copying a page costs less than another call.
const NEAR: u64 = 4 << 10;
/// At most this much is read together: it stays in the cache.
const GROUP: u64 = 256 << 10;
/// Bytes that are read of a cell that was not known; most trailers are within.
const MOST: usize = 1 << 10;

/// What is needed to look.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// The process.
    pub process: &'a Process,
    /// The types.
    pub types: &'a CellTypes,
    /// Where links are.
    pub places: &'a Places,
    /// The process's mappings.
    pub maps: &'a [Mapping],
}

/// What differs from before. Positions are those of the cells that were looked at, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differing {
    /// Not the same task any more. These cells are left as they were known.
    pub gone: Vec<u32>,
    /// Their links differ, with what they were before.
    pub relinked: Vec<(u32, [u64; 2])>,
    /// Live futures that name no neighbour: alone in their list, or taken out of it.
    pub unlinked: Vec<u32>,
    /// Bytes that were read.
    pub bytes: u64,
}

impl Look<'_> {
    /// Looks at every cell, in order of address, and updates it.
    pub fn at(&self, cells: &mut [Cell]) -> Result<Differing, MemoryError> {
        let rooms = std::iter::repeat_with(|| ());
        Ok(self.at_each(cells, rooms, |_, ()| ())?.0)
    }

    /// Looks at every cell, in order of address, and updates it. Of each piece of [`PIECE`] cells also does what is to be
    /// done with them, with a room for it, while they are still in the cache. Those that are gone are as they were known.
    pub fn at_each<P: Send, R: Send>(
        &self,
        cells: &mut [Cell],
        rooms: impl Iterator<Item = P> + Send,
        then: impl Fn(&[Cell], P) -> R + Sync,
    ) -> Result<(Differing, Vec<R>), MemoryError> {
        let shapes = Shapes::new(self.types, self.places);
        let two = is_worth_two(cells.len());
        let worker = || {
            let (memory, mut bytes) = (self.process.memory(), Vec::new());
            let (shapes, then) = (&shapes, &then);
            move |(cells, room): (&mut [Cell], P)| {
                let differing = self.piece(cells, shapes, &memory, &mut bytes)?;
                Ok::<_, MemoryError>((differing, then(cells, room)))
            }
        };
        let pieces = each_piece(cells.chunks_mut(PIECE).zip(rooms), two, worker)?;
        let mut all = Differing::default();
        let mut done = Vec::with_capacity(pieces.len());
        for (number, (differing, result)) in pieces.into_iter().enumerate() {
            all.add((number * PIECE) as u32, differing);
            done.push(result);
        }
        Ok((all, done))
    }

    /// Looks at one cell: what it is now, if it still is that task's.
    pub fn at_one(&self, cell: &Cell) -> Result<Option<Cell>, MemoryError> {
        let (memory, shape) = (self.process.memory(), self.shape(cell));
        let mut bytes = vec![0; shape.extent as usize];
        if memory.read(cell.header, &mut bytes)? < bytes.len() {
            return Ok(None);
        }
        let (mut now, mut differing) = (*cell, Differing::default());
        self.one(&mut now, &shape, &bytes, 0, &memory, &mut differing)?;
        Ok(differing.gone.is_empty().then_some(now))
    }

    /// The cell at this address, whatever its type, if one is there.
    pub fn meet(&self, header: ProcAddr) -> Result<Option<Cell>, MemoryError> {
        let memory = self.process.memory();
        let mut bytes = vec![0; MOST.max(self.types.head_len())];
        let read = memory.read(header, &mut bytes)?;
        let bytes = &bytes[..read];
        let type_at = |offset: &u32| self.types.find(word_at(bytes, *offset as usize)?);
        for index in self.types.vtable_offsets().iter().filter_map(type_at) {
            let Ok(mut cell) = Cell::read(header, index, self.types, bytes) else { continue };
            if links::is_free(&cell, self.maps) {
                continue;
            }
            cell.links = links_at(&cell, &self.shape(&cell), bytes, &memory)?;
            return Ok(Some(cell));
        }
        Ok(None)
    }

    fn piece(
        &self,
        cells: &mut [Cell],
        shapes: &Shapes,
        memory: &Memory<'_>,
        bytes: &mut Vec<u8>,
    ) -> Result<Differing, MemoryError> {
        let mut differing = Differing::default();
        let mut next = 0;
        while next < cells.len() {
            let start = cells[next].header;
            let (count, end) = group(&cells[next..], shapes);
            let wanted = (end - start.0) as usize;
            if bytes.len() < wanted {
                bytes.resize(wanted, 0);
            }
            let read = memory.read(start, &mut bytes[..wanted])?;
            differing.bytes += read as u64;
            let mut looked = 0;
            for cell in &mut cells[next..next + count] {
                let shape = shapes.get(cell.cell_type);
                let from = (cell.header.0 - start.0) as usize;
                let Some(own) = bytes[..read].get(from..from + shape.extent as usize) else { break };
                let position = (next + looked) as u32;
                looked += 1;
                // Most are as they were: what is not written need not be carried back to memory.
                if !shape.is_unchanged(cell, own) {
                    self.one(cell, shape, own, position, memory, &mut differing)?;
                } else if !cell.is_linked() && cell.is_live_future(self.types) {
                    differing.unlinked.push(position);
                }
            }
            if looked == 0 {
                differing.gone.push(next as u32);
                looked = 1;
            }
            next += looked;
        }
        Ok(differing)
    }

    fn shape(&self, cell: &Cell) -> Shape {
        Shape::of(cell.cell_type, self.types, self.places)
    }

    fn one(
        &self,
        cell: &mut Cell,
        shape: &Shape,
        bytes: &[u8],
        position: u32,
        memory: &Memory<'_>,
        differing: &mut Differing,
    ) -> Result<(), MemoryError> {
        let now = Cell::read(cell.header, cell.cell_type, self.types, bytes);
        let Some(mut now) = now.ok().filter(|now| now.is_same_task(cell)) else {
            differing.gone.push(position);
            return Ok(());
        };
        now.links = links_at(cell, shape, bytes, memory)?;
        if now.state != cell.state && links::is_free(&now, self.maps) {
            differing.gone.push(position);
            return Ok(());
        }
        if now.links != cell.links {
            differing.relinked.push((position, cell.links));
        }
        if !now.is_linked() && now.is_live_future(self.types) {
            differing.unlinked.push(position);
        }
        *cell = now;
        Ok(())
    }
}

impl Differing {
    /// Takes over what differed among the cells from this position on.
    fn add(&mut self, first: u32, mut other: Self) {
        self.gone.extend(other.gone.drain(..).map(|position| first + position));
        self.relinked.extend(other.relinked.drain(..).map(|(position, links)| (first + position, links)));
        self.unlinked.extend(other.unlinked.drain(..).map(|position| first + position));
        self.bytes += other.bytes;
    }
}

/// How many of these cells, from the first on, are read together, and up to where.
fn group(cells: &[Cell], shapes: &Shapes) -> (usize, u64) {
    let end_of = |cell: &Cell| cell.header.0.saturating_add(u64::from(shapes.get(cell.cell_type).extent));
    let start = cells[0].header.0;
    let mut end = end_of(&cells[0]);
    let mut count = 1;
    for cell in &cells[1..] {
        let own_end = end_of(cell);
        if cell.header.0 < start || cell.header.0 > end.saturating_add(NEAR) || own_end - start > GROUP {
            break;
        }
        end = end.max(own_end);
        count += 1;
    }
    (count, end)
}

/// The links of a cell, of which these bytes were read from its header on; none where their place is not known.
fn links_at(cell: &Cell, shape: &Shape, bytes: &[u8], memory: &Memory<'_>) -> Result<[u64; 2], MemoryError> {
    let Some(offset) = shape.links else { return Ok([0; 2]) };
    if let Some(links) = word_at(bytes, offset as usize).zip(word_at(bytes, offset as usize + 8)) {
        return Ok([links.0, links.1]);
    }
    let mut links = [0; 16];
    memory.read(ProcAddr(cell.header.0.wrapping_add(u64::from(offset))), &mut links)?;
    Ok([word_at(&links, 0).unwrap_or(0), word_at(&links, 8).unwrap_or(0)])
}
