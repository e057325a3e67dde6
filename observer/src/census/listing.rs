//! Whether a future's cell is in its scheduler's list of tasks: every live one is, from its binding to its completion.
//!
//! Does not know: where in a scheduler its lists begin. It is enough that a list of one has its head and its tail, side
//! by side, at that one. What this finds out: memory of a freed cell that somebody else uses now and in which only the
//! state word has changed.

use super::addresses::Addresses;
use super::cell::Cell;
use super::evidence::Pointers;
use super::links::positions;
use super::look::Look;
use super::walk::Walk;
use crate::model::{ProcAddr, word_at};
use crate::target::{AddressRange, Mapping, Memory, MemoryError};

/// Looks at a cell that is in no list, while lists change: each look at two places at two moments can miss it.
const LOOKS: usize = 8;
/// Bytes of a scheduler, and of what it points to, that are searched for lists of one.
pub const SCHEDULER: u64 = 4 << 10;
const SHARDS: u64 = 16 << 10;
/// Schedulers, and bytes near them, that are searched at most, whatever memory claims; the search through all memory that
/// comes last knows no such bound.
const SCHEDULERS: usize = 1024;
const NEAR: u64 = 64 << 20;
/// Cells that are doubted at a time: there can be as many as memory claims, and each is copied with its neighbours.
const BATCH: usize = 1 << 18;
/// Neighbours that the search did not meet and that are looked at for one look, whatever memory claims.
const STRANGERS: usize = 50_000;

/// What is needed to tell.
pub struct Listing<'a> {
    /// How to look again.
    pub look: Look<'a>,
    /// The process's memory.
    pub memory: &'a Memory<'a>,
    /// All memory that is searched, for the last resort.
    pub walk: &'a Walk,
}

impl Listing<'_> {
    /// Positions of those of the futures, none of them complete, that are in no list. `cells` are in order of address.
    pub fn unlisted(&self, cells: &[Cell]) -> Result<Vec<u32>, MemoryError> {
        let types = self.look.types;
        let addresses = Addresses::new(cells.iter().map(|cell| cell.header), types.stride());
        let names_back = |link: u64, header: ProcAddr| {
            link != header.0 && addresses.position(link).is_some_and(|at| names(&cells[at], header))
        };
        let is_alone = |cell: &Cell| !cell.links.iter().any(|link| names_back(*link, cell.header));
        let is_doubtful = |cell: &Cell| cell.is_future(types) && !cell.state.is_complete() && is_alone(cell);
        let doubtful = positions(cells, is_doubtful);
        let mut out = Vec::new();
        for batch in doubtful.chunks(BATCH) {
            let batch = batch.iter().map(|position| cells[*position as usize]).collect();
            out.extend(self.unlisted_of(batch, cells, &addresses)?.into_iter().map(|cell| cell.header));
        }
        let mut out = out.into_iter().peekable();
        Ok(positions(cells, |cell| out.next_if_eq(&cell.header).is_some()))
    }

    /// Those of the doubtful ones that are in no list, as often as one looks.
    fn unlisted_of(
        &self,
        mut doubtful: Vec<Cell>,
        cells: &[Cell],
        addresses: &Addresses,
    ) -> Result<Vec<Cell>, MemoryError> {
        for _ in 0..LOOKS {
            if doubtful.is_empty() {
                return Ok(doubtful);
            }
            let near = self.near_schedulers(&doubtful)?;
            self.drop_paired(&mut doubtful, &near)?;
            doubtful = self.without_neighbour(self.still_open(doubtful)?, cells, addresses)?;
        }
        self.drop_paired(&mut doubtful, self.walk)?;
        self.without_neighbour(self.still_open(doubtful)?, cells, addresses)
    }

    /// Those whose links name no task that names them. `cells` are all that the search met.
    fn without_neighbour(
        &self,
        mut doubtful: Vec<Cell>,
        cells: &[Cell],
        addresses: &Addresses,
    ) -> Result<Vec<Cell>, MemoryError> {
        let linked = || doubtful.iter().flat_map(|cell| cell.links).filter(|link| *link != 0);
        let mut known: Vec<usize> = linked().filter_map(|link| addresses.position(link)).collect();
        known.sort_unstable();
        known.dedup();
        // As they are now.
        let mut neighbours: Vec<Cell> = known.into_iter().map(|position| cells[position]).collect();
        self.look.at(&mut neighbours)?;
        // Born after the search, perhaps.
        let strangers = linked().filter(|link| !addresses.contains(*link)).take(STRANGERS);
        for stranger in strangers {
            neighbours.extend(self.look.meet(ProcAddr(stranger))?);
        }
        neighbours.sort_unstable_by_key(|cell| cell.header);
        let named_back = |cell: &Cell, link: &u64| {
            let place = neighbours.binary_search_by_key(link, |other| other.header.0);
            *link != cell.header.0 && place.is_ok_and(|place| names(&neighbours[place], cell.header))
        };
        doubtful.retain(|cell| !cell.links.iter().any(|link| named_back(cell, link)));
        Ok(doubtful)
    }

    /// Those that have neither ended nor come to their end meanwhile; of the others there is nothing to tell any more.
    fn still_open(&self, mut cells: Vec<Cell>) -> Result<Vec<Cell>, MemoryError> {
        let mut gone = self.look.at(&mut cells)?.gone.into_iter().peekable();
        let kept = (0..).zip(cells).filter(|(position, _)| gone.next_if_eq(position).is_none());
        Ok(kept.map(|(_, cell)| cell).filter(|cell| !cell.state.is_complete()).collect())
    }

    /// Drops those that are all there is in some list within this memory.
    fn drop_paired(&self, cells: &mut Vec<Cell>, walk: &Walk) -> Result<(), MemoryError> {
        let headers = Addresses::new(cells.iter().map(|cell| cell.header), self.look.types.stride());
        let mut paired = Pointers::find(&headers, &[], walk, self.memory)?.paired.into_iter();
        cells.retain(|_| !paired.next().unwrap_or(false));
        Ok(())
    }

    /// The schedulers of these cells and what they point to.
    fn near_schedulers(&self, cells: &[Cell]) -> Result<Walk, MemoryError> {
        let mut schedulers: Vec<u64> = cells.iter().map(|cell| cell.scheduler).collect();
        schedulers.sort_unstable();
        schedulers.dedup();
        schedulers.truncate(SCHEDULERS);
        let mut ranges = Vec::new();
        for scheduler in schedulers {
            let Some(own) = writable(self.look.maps, scheduler, SCHEDULER) else { continue };
            ranges.push(own);
            Walk::over([own]).run(self.memory, |_, bytes| {
                let words = bytes.chunks_exact(8).filter_map(|word| word_at(word, 0));
                ranges.extend(words.filter_map(|word| writable(self.look.maps, word, SHARDS)));
            })?;
        }
        ranges.sort_unstable();
        ranges.dedup();
        let mut room = NEAR;
        ranges.retain(|range| {
            room = room.saturating_sub(range.len());
            room > 0
        });
        Ok(Walk::over(ranges))
    }
}

fn names(cell: &Cell, header: ProcAddr) -> bool {
    cell.links.contains(&header.0)
}

/// At most `len` bytes from this address on, as far as the process's own writable memory goes.
pub fn writable(maps: &[Mapping], address: u64, len: u64) -> Option<AddressRange> {
    let start = ProcAddr(address);
    let after = maps.partition_point(|mapping| mapping.range.start <= start);
    let home = maps.get(after.checked_sub(1)?).filter(|home| home.is_private_writable())?.range;
    let end = ProcAddr(address.saturating_add(len).min(home.end.0));
    (home.contains(start) && address.is_multiple_of(8)).then_some(AddressRange { start, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::cell_types::{CellType, CellTypes, ImageIndex};
    use crate::census::places::Places;
    use crate::census::search::search;
    use crate::census::tests::layout;
    use crate::model::{Pid, Resource};
    use crate::target::Process;

    const VTABLE: u64 = 0x5555_0000_1000;
    const CELL_WORDS: usize = 32;

    /// Cells laid out in this process's own memory, 256 bytes each, with their links at the third word of the trailer.
    struct Scene {
        memory: Vec<u64>,
        types: CellTypes,
    }

    impl Scene {
        fn new(cells: usize) -> Self {
            let cell = CellType { layout: layout(8), resource: Resource::Task, image: ImageIndex(0) };
            let mut memory = vec![0; cells * CELL_WORDS + 64];
            for cell in 0..cells {
                let head = [0x84, 0, VTABLE, 1, 0, 1 + cell as u64];
                memory[cell * CELL_WORDS..][..head.len()].copy_from_slice(&head);
            }
            Self { memory, types: CellTypes::new([(ProcAddr(VTABLE), cell)]) }
        }

        fn header(&self, cell: usize) -> u64 {
            self.memory.as_ptr() as u64 + (cell * CELL_WORDS * 8) as u64
        }

        fn link(&mut self, cell: usize, before: Option<usize>, after: Option<usize>) {
            let links = [before, after].map(|other| other.map_or(0, |other| self.header(other)));
            let place = cell * CELL_WORDS + 96 / 8 + 2;
            self.memory[place..place + 2].copy_from_slice(&links);
        }

        /// Cells in no list, of all that are told apart by number.
        fn unlisted(&self, cells: &[usize]) -> Vec<usize> {
            let us = Process::open(Pid(std::process::id())).unwrap();
            let (memory, maps) = (us.memory(), us.maps().unwrap());
            let start = ProcAddr(self.memory.as_ptr() as u64);
            let end = ProcAddr(start.0 + 8 * self.memory.len() as u64);
            let walk = Walk::over([AddressRange { start, end }]);
            let found = search(&us, &self.types, &walk, &Places::default(), 1000).unwrap();
            let look = Look { process: &us, types: &self.types, places: &found.places, maps: &maps };
            let listing = Listing { look, memory: &memory, walk: &walk };
            let number = |cell: &Cell| ((cell.header.0 - start.0) / 8) as usize / CELL_WORDS;
            let met: Vec<Cell> = found.cells.into_iter().filter(|cell| cells.contains(&number(cell))).collect();
            let unlisted = listing.unlisted(&met).unwrap();
            let mut unlisted: Vec<usize> = unlisted.into_iter().map(|at| number(&met[at as usize])).collect();
            unlisted.sort_unstable();
            unlisted
        }
    }

    #[test]
    fn cells_that_name_each_other_are_listed_and_one_that_nobody_names_is_not() {
        let mut scene = Scene::new(4);
        scene.link(0, None, Some(1));
        scene.link(1, Some(0), Some(2));
        scene.link(2, Some(1), None);
        assert_eq!(scene.unlisted(&[0, 1, 2, 3]), [3]);
    }

    #[test]
    fn the_only_cell_of_a_list_is_known_by_the_lists_head_and_tail() {
        let mut scene = Scene::new(3);
        scene.link(0, None, Some(1));
        scene.link(1, Some(0), None);
        assert_eq!(scene.unlisted(&[0, 1, 2]), [2]);
        let (end, alone) = (scene.memory.len(), scene.header(2));
        scene.memory[end - 2..].copy_from_slice(&[alone, alone]);
        assert_eq!(scene.unlisted(&[0, 1, 2]), Vec::<usize>::new());
        assert_eq!(scene.unlisted(&[2]), Vec::<usize>::new());
    }

    #[test]
    fn a_neighbour_that_the_search_did_not_meet_counts_if_it_is_a_task_that_names_it() {
        let mut scene = Scene::new(4);
        scene.link(0, None, Some(1));
        scene.link(1, Some(0), None);
        scene.link(2, Some(3), None);
        assert_eq!(scene.unlisted(&[0, 1, 2]), [2]);
        scene.link(3, None, Some(2));
        assert_eq!(scene.unlisted(&[0, 1, 2]), Vec::<usize>::new());
        scene.memory[3 * CELL_WORDS + 2] = 0;
        assert_eq!(scene.unlisted(&[0, 1, 2]), [2]);
    }

    #[test]
    fn a_waker_that_holds_another_tasks_address_is_no_link() {
        let mut scene = Scene::new(4);
        scene.link(0, None, Some(1));
        scene.link(1, Some(0), None);
        // The data pointer of the waker that the freed cell still holds.
        let joiner = scene.header(0);
        scene.memory[2 * CELL_WORDS + 96 / 8 + 1] = joiner;
        assert_eq!(scene.unlisted(&[0, 1, 2]), [2]);
    }
}
