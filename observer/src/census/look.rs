//! Another look at cells that are known: what each is now.
//!
//! Does not know: who else there is. Cells that lie close together are read in one piece; many are read by two threads.

use super::cell::{Cell, word_at};
use super::cell_types::{CellTypes, head_len};
use super::links;
use super::places::Places;
use crate::model::ProcAddr;
use crate::target::{Mapping, Memory, MemoryError, Process};

/// Cells at most this far apart are read together, gap and all: copying a page costs less than another call.
const NEAR: u64 = 4 << 10;
/// At most this much is read together: it stays in the cache.
const GROUP: u64 = 256 << 10;
/// Links further behind their header than this are read by themselves.
const FAR: u64 = 4 << 10;
/// Bytes that are read of a cell that was not known; most trailers are within.
const MOST: usize = 1 << 10;
/// Below this many cells a second thread does not pay.
const WORTH_TWO: usize = 50_000;

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
        if cells.len() < WORTH_TWO {
            return self.part(cells);
        }
        let middle = cells.len() / 2;
        let (first, second) = cells.split_at_mut(middle);
        let (first, second) = std::thread::scope(|scope| {
            let second = scope.spawn(|| self.part(second));
            let first = self.part(first);
            match second.join() {
                Ok(second) => (first, second),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        });
        let (mut all, second) = (first?, second?);
        all.gone.extend(second.gone.into_iter().map(|position| position + middle as u32));
        let relinked = second.relinked.into_iter().map(|(position, links)| (position + middle as u32, links));
        all.relinked.extend(relinked);
        all.unlinked.extend(second.unlinked.into_iter().map(|position| position + middle as u32));
        all.bytes += second.bytes;
        Ok(all)
    }

    /// Looks at one cell: what it is now, if it still is that task's.
    pub fn at_one(&self, cell: &Cell) -> Result<Option<Cell>, MemoryError> {
        let mut now = [*cell];
        let differing = self.part(&mut now)?;
        Ok(differing.gone.is_empty().then_some(now[0]))
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
            cell.links = match self.links_offset(&cell) {
                None => [0; 2],
                Some(offset) => self.links_at(&cell, bytes, offset, &memory)?,
            };
            return Ok(Some(cell));
        }
        Ok(None)
    }

    fn part(&self, cells: &mut [Cell]) -> Result<Differing, MemoryError> {
        let memory = self.process.memory();
        let mut differing = Differing::default();
        let mut bytes = Vec::new();
        let mut next = 0;
        while next < cells.len() {
            let start = cells[next].header;
            let (count, end) = self.group(&cells[next..]);
            bytes.resize((end - start.0) as usize, 0);
            let read = memory.read(start, &mut bytes)?;
            differing.bytes += read as u64;
            let mut looked = 0;
            for cell in &mut cells[next..next + count] {
                let from = (cell.header.0 - start.0) as usize;
                let len = self.extent(cell) as usize;
                let Some(own) = bytes[..read].get(from..from + len) else { break };
                self.one(cell, own, (next + looked) as u32, &memory, &mut differing)?;
                looked += 1;
            }
            if looked == 0 {
                differing.gone.push(next as u32);
                looked = 1;
            }
            next += looked;
        }
        Ok(differing)
    }

    /// How many of these cells, from the first on, are read together, and up to where.
    fn group(&self, cells: &[Cell]) -> (usize, u64) {
        let start = cells[0].header.0;
        let mut end = start.saturating_add(self.extent(&cells[0]));
        let mut count = 1;
        for cell in &cells[1..] {
            let own_end = cell.header.0.saturating_add(self.extent(cell));
            if cell.header.0 < start || cell.header.0 > end.saturating_add(NEAR) || own_end - start > GROUP {
                break;
            }
            end = end.max(own_end);
            count += 1;
        }
        (count, end)
    }

    /// Bytes from the header on that are read of a cell in one piece.
    fn extent(&self, cell: &Cell) -> u64 {
        let head = head_len(&self.types.get(cell.cell_type).layout) as u64;
        self.links_offset(cell).filter(|offset| *offset < FAR).map_or(head, |offset| head.max(offset + 16))
    }

    fn links_offset(&self, cell: &Cell) -> Option<u64> {
        let cell_type = self.types.get(cell.cell_type);
        let place = self.places.of(cell_type.image).filter(|_| cell.owner != 0)?;
        Some(u64::from(cell_type.layout.trailer) + 8 * place as u64)
    }

    fn one(
        &self,
        cell: &mut Cell,
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
        now.links = match self.links_offset(cell) {
            None => [0; 2],
            Some(offset) => self.links_at(cell, bytes, offset, memory)?,
        };
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

    /// The links of a cell, of which these bytes were read from its header on.
    fn links_at(&self, cell: &Cell, bytes: &[u8], offset: u64, memory: &Memory<'_>) -> Result<[u64; 2], MemoryError> {
        let word = |bytes: &[u8], place: u64| word_at(bytes, usize::try_from(place).ok()?);
        if let Some(links) = word(bytes, offset).zip(word(bytes, offset + 8)) {
            return Ok([links.0, links.1]);
        }
        let mut links = [0; 16];
        memory.read(ProcAddr(cell.header.0.wrapping_add(offset)), &mut links)?;
        Ok([word(&links, 0).unwrap_or(0), word(&links, 8).unwrap_or(0)])
    }
}
