//! Finding every member of known lists again, along their links, while they change.
//!
//! Does not know: closures. Who was in a list all the time is met: between any two that are met, or an end, the links
//! that were read lead on to it, because new ones come in at one end and nothing changes places. A link that leads to
//! nothing was overtaken: where it was read is looked at again.

use std::collections::HashMap;

use super::addresses::Addresses;
use super::anchors::List;
use super::cell::Cell;
use super::cell_types::{CellTypes, ImageIndex};
use super::links::positions;
use super::look::{Differing, Look};
use crate::model::ProcAddr;
use crate::target::{Memory, MemoryError};

/// Looks again at where a link was read that led to nothing, in all.
const RETRIES: usize = 10_000;
/// Rounds of looking for links to what was gone.
const ROUNDS: usize = 16;

/// Why the lists do not lead to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// A link leads to no task of its list, or a list's ends cannot be read.
    Link,
    /// There are more tasks than there is room for.
    Room,
}

/// Cells that are known, and how to go on from them.
pub struct Following<'a> {
    look: Look<'a>,
    memory: Memory<'a>,
    lists: &'a [List],
    list_of: HashMap<(ImageIndex, u64), usize>,
    cells: Vec<Cell>,
    addresses: &'a Addresses,
    gone: Vec<bool>,
    born: HashMap<u64, Cell>,
    work: Vec<Step>,
    retries: usize,
    /// Headers of what was found to be gone since the last round.
    left: Vec<ProcAddr>,
    /// Whether any cell came, went or was read again.
    moved: bool,
    /// How many cells there may be.
    room: usize,
}

/// Every cell that is there now.
#[derive(Debug)]
pub struct Followed {
    /// In order of address.
    pub cells: Vec<Cell>,
    /// Whether they are others than were looked at, or other in anything.
    pub moved: bool,
}

/// A link to follow.
#[derive(Clone, Copy, Debug)]
struct Step {
    from: Place,
    list: usize,
    to: u64,
}

/// Where a link is.
#[derive(Clone, Copy, Debug)]
enum Place {
    End(usize),
    Cell(u64),
}

impl<'a> Following<'a> {
    /// From cells that have just been looked at, with what differed. `loose` are cells whose links led to nothing before.
    pub fn new(
        look: Look<'a>,
        lists: &'a [List],
        cells: Vec<Cell>,
        addresses: &'a Addresses,
        (differing, loose): (&Differing, &[ProcAddr]),
        room: usize,
    ) -> Self {
        let list_of = lists.iter().enumerate().map(|(index, list)| ((list.image, list.owner), index)).collect();
        let memory = look.process.memory();
        let (mut gone, mut left) = (vec![false; cells.len()], Vec::new());
        for position in &differing.gone {
            gone[*position as usize] = true;
            left.push(cells[*position as usize].header);
        }
        let (born, work, moved) = (HashMap::new(), Vec::new(), !left.is_empty());
        let retries = RETRIES;
        let mut own =
            Self { look, memory, lists, list_of, cells, addresses, gone, born, work, retries, left, moved, room };
        for (position, _) in &differing.relinked {
            let cell = own.cells[*position as usize];
            own.go_on_from(&cell);
        }
        for header in loose {
            if let Some(cell) = own.known(header.0).copied() {
                own.go_on_from(&cell);
            }
        }
        own
    }

    /// Every cell that is there now.
    pub fn run(mut self, unlinked: &[u32]) -> Result<Result<Followed, Lost>, MemoryError> {
        for list in 0..self.lists.len() {
            if !self.go_on_from_ends(list)? {
                return Ok(Err(Lost::Link));
            }
        }
        for _ in 0..ROUNDS {
            while let Some(step) = self.work.pop() {
                if let Err(lost) = self.follow(step)? {
                    return Ok(Err(lost));
                }
            }
            if self.left.is_empty() {
                self.drop_taken_out(unlinked)?;
                return Ok(Ok(Followed { moved: self.moved, cells: self.into_cells() }));
            }
            self.go_on_from_neighbours_of_left();
        }
        Ok(Err(Lost::Link))
    }

    fn follow(&mut self, step: Step) -> Result<Result<(), Lost>, MemoryError> {
        if self.is_met(step.to, step.list) {
            return Ok(Ok(()));
        }
        match self.look.meet(ProcAddr(step.to))?.filter(|cell| self.is_in(cell, step.list)) {
            Some(cell) => {
                self.moved = true;
                self.born.insert(step.to, cell);
                self.go_on_from(&cell);
                let is_full = self.cells.len() + self.born.len() > self.room || self.born.len() > self.room / 4;
                Ok(if is_full { Err(Lost::Room) } else { Ok(()) })
            }
            None => {
                self.retries -= 1;
                let found = self.retries > 0 && self.look_again(step)?;
                Ok(if found { Ok(()) } else { Err(Lost::Link) })
            }
        }
    }

    /// A link led to nothing: what is there where it was read?
    fn look_again(&mut self, step: Step) -> Result<bool, MemoryError> {
        let header = match step.from {
            Place::End(list) => return self.go_on_from_ends(list),
            Place::Cell(header) => header,
        };
        let Some(before) = self.known(header).copied() else { return Ok(true) };
        match self.look.at_one(&before)? {
            Some(now) => {
                self.put(now);
                self.go_on_from(&now);
            }
            None => self.drop_cell(header),
        }
        Ok(true)
    }

    fn go_on_from(&mut self, cell: &Cell) {
        let Some(list) = self.list(cell) else { return };
        for to in cell.links.into_iter().filter(|to| !self.is_met(*to, list)).collect::<Vec<_>>() {
            self.work.push(Step { from: Place::Cell(cell.header.0), list, to });
        }
    }

    fn go_on_from_ends(&mut self, list: usize) -> Result<bool, MemoryError> {
        let Some(pairs) = self.lists[list].anchor.read(&self.memory)? else { return Ok(false) };
        // Where links are is learned from cells that name each other. Until there were any, only lists of one are met whole:
        // both of their ends are the same.
        let has_links = self.look.places.of(self.lists[list].image).is_some();
        if !has_links && pairs.iter().any(|[one, other]| one != other) {
            return Ok(false);
        }
        for to in pairs.into_iter().flatten().filter(|to| !self.is_met(*to, list)).collect::<Vec<_>>() {
            self.work.push(Step { from: Place::End(list), list, to });
        }
        Ok(true)
    }

    /// Whoever names what is gone has read it before that.
    fn go_on_from_neighbours_of_left(&mut self) {
        let mut left = std::mem::take(&mut self.left);
        left.sort_unstable();
        left.dedup();
        let left = Addresses::new(left.into_iter(), self.look.types.stride());
        let names = |cell: &Cell| cell.links.iter().any(|link| left.contains(*link));
        let old = self.cells.iter().zip(&self.gone).filter(|(cell, gone)| !**gone && names(cell));
        let born = self.born.values().filter(|cell| names(cell));
        let all: Vec<Cell> = old.map(|(cell, _)| cell).chain(born).copied().collect();
        all.iter().for_each(|cell| self.go_on_from(cell));
    }

    /// A live future that names no neighbour is alone in its list, or was taken out of it to be shut down.
    fn drop_taken_out(&mut self, unlinked: &[u32]) -> Result<(), MemoryError> {
        let old = unlinked.iter().map(|position| self.cells[*position as usize].header.0);
        let alone: Vec<u64> = old.chain(self.born.keys().copied()).collect();
        let mut pairs: HashMap<usize, Vec<[u64; 2]>> = HashMap::new();
        for header in alone {
            let Some(cell) = self.known(header).filter(|cell| !cell.is_linked()).copied() else { continue };
            let Some(list) = self.list(&cell) else { continue };
            if let std::collections::hash_map::Entry::Vacant(free) = pairs.entry(list) {
                free.insert(self.lists[list].anchor.read(&self.memory)?.unwrap_or_default());
            }
            let shard = self.lists[list].anchor.shard_of(cell.id);
            if pairs[&list].get(shard) != Some(&[header; 2]) && !cell.state.is_complete() {
                self.drop_cell(header);
            }
        }
        Ok(())
    }

    fn known(&self, address: u64) -> Option<&Cell> {
        let old = || {
            let position = self.addresses.position(address).filter(|position| !self.gone[*position])?;
            Some(&self.cells[position])
        };
        self.born.get(&address).or_else(old)
    }

    /// Whether there is nothing to follow: no link, or one to what is known.
    fn is_met(&self, to: u64, list: usize) -> bool {
        to == 0 || self.known(to).is_some_and(|cell| self.is_in(cell, list))
    }

    fn put(&mut self, cell: Cell) {
        self.moved = true;
        match (self.born.get_mut(&cell.header.0), self.addresses.position(cell.header.0)) {
            (Some(born), _) => *born = cell,
            (None, Some(position)) => self.cells[position] = cell,
            (None, None) => {}
        }
    }

    fn drop_cell(&mut self, header: u64) {
        self.moved = true;
        if self.born.remove(&header).is_none()
            && let Some(position) = self.addresses.position(header)
        {
            self.gone[position] = true;
        }
        self.left.push(ProcAddr(header));
    }

    fn list(&self, cell: &Cell) -> Option<usize> {
        self.list_of.get(&(self.look.types.get(cell.cell_type).image, cell.owner)).copied()
    }

    fn is_in(&self, cell: &Cell, list: usize) -> bool {
        self.list(cell) == Some(list)
    }

    fn into_cells(self) -> Vec<Cell> {
        let Self { mut cells, gone, born, .. } = self;
        if gone.contains(&true) {
            let mut gone = gone.into_iter();
            cells.retain(|_| !gone.next().unwrap_or(false));
        }
        if !born.is_empty() {
            cells.extend(born.into_values());
            cells.sort_by_key(|cell| cell.header);
        }
        cells
    }
}

/// Those of the cells whose links lead to none of them: where to begin the next time.
pub fn loose(cells: &[Cell], addresses: &Addresses, types: &CellTypes) -> Vec<ProcAddr> {
    let is_loose = |cell: &Cell| cell.links.iter().any(|link| *link != 0 && !addresses.contains(*link));
    let found = positions(cells, |cell| cell.is_future(types) && is_loose(cell));
    found.into_iter().map(|position| cells[position as usize].header).collect()
}
