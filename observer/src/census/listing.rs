//! Whether a future's cell is in its scheduler's list of tasks: every live one is, from its binding to its completion.
//!
//! Does not know: where in a trailer the list's links are (the compiler chose, the same for all types of an image), nor
//! where in a scheduler its lists begin. The first is learned from cells that name each other; of the second it is enough
//! that a list of one has its head and its tail, side by side, at that one. What this finds out: memory of a freed cell
//! that somebody else uses now and in which only the state word has changed.

use std::collections::{HashMap, HashSet};

use super::cell::{Cell, word_at};
use super::cell_types::{CellTypes, ImageIndex};
use super::evidence::Pointers;
use super::walk::Walk;
use crate::model::{ProcAddr, Resource};
use crate::target::{AddressRange, Mapping, Memory, MemoryError};

/// Words of a trailer that hold the list's links (two), the waker (two) and hooks.
const TRAILER: usize = 6;
/// Cells of an image that the links' place is learned from.
const SAMPLE: usize = 4096;
/// Looks at a cell that is in no list, while lists change: each look at two places at two moments can miss it.
const LOOKS: usize = 8;
/// Bytes of a scheduler, and of what it points to, that are searched for lists of one.
const SCHEDULER: u64 = 4 << 10;
const SHARDS: u64 = 16 << 10;

/// What is needed to tell.
pub struct Listing<'a> {
    /// The types.
    pub types: &'a CellTypes,
    /// The process's memory.
    pub memory: &'a Memory<'a>,
    /// Its mappings.
    pub maps: &'a [Mapping],
    /// All memory that is searched, for the last resort.
    pub walk: &'a Walk,
}

type Trailer = [u64; TRAILER];

impl Listing<'_> {
    /// Those of the futures, none of them complete, that are in no list. `cells` are in order of address.
    pub fn unlisted(&self, cells: &[Cell]) -> Result<HashSet<ProcAddr>, MemoryError> {
        let is_open =
            |cell: &&Cell| self.types.get(cell.cell_type).resource == Resource::Task && !cell.state.is_complete();
        let open: Vec<Cell> = cells.iter().filter(is_open).copied().collect();
        let places = self.learn_places(&open)?;
        let headers: Vec<ProcAddr> = cells.iter().map(|cell| cell.header).collect();
        let mut doubtful = self.without_neighbour(&open, &headers, &places)?;
        for _ in 0..LOOKS {
            if doubtful.is_empty() {
                return Ok(HashSet::new());
            }
            let near = self.near_schedulers(&doubtful)?;
            self.drop_paired(&mut doubtful, &near)?;
            doubtful = self.without_neighbour(&self.still_open(&doubtful)?, &headers, &places)?;
        }
        self.drop_paired(&mut doubtful, self.walk)?;
        doubtful = self.without_neighbour(&self.still_open(&doubtful)?, &headers, &places)?;
        Ok(doubtful.into_iter().map(|cell| cell.header).collect())
    }

    /// For each image the index in a trailer of the first of the two links.
    fn learn_places(&self, open: &[Cell]) -> Result<HashMap<ImageIndex, usize>, MemoryError> {
        let mut samples: HashMap<ImageIndex, Vec<Cell>> = HashMap::new();
        for cell in open {
            let sample = samples.entry(self.types.get(cell.cell_type).image).or_default();
            if sample.len() < SAMPLE {
                sample.push(*cell);
            }
        }
        let mut places = HashMap::new();
        for (image, sample) in samples {
            let mut trailers: HashMap<u64, Trailer> = HashMap::new();
            self.read_trailers(&sample, |cell, trailer| {
                trailers.insert(cell.header.0, trailer.unwrap_or_default());
            })?;
            let names = |one: u64, place: usize, other: u64| {
                trailers.get(&one).is_some_and(|trailer| trailer[place..place + 2].contains(&other))
            };
            let agreeing = |place: usize| {
                let mutual = |(header, trailer): (&u64, &Trailer)| {
                    trailer[place..place + 2].iter().any(|other| other != header && names(*other, place, *header))
                };
                trailers.iter().filter(|entry| mutual(*entry)).count()
            };
            let best = (0..TRAILER - 1).rev().map(|place| (agreeing(place), place)).max_by_key(|(votes, _)| *votes);
            if let Some((1.., place)) = best {
                places.insert(image, place);
            }
        }
        Ok(places)
    }

    /// Those whose links name no other task.
    fn without_neighbour(
        &self,
        cells: &[Cell],
        headers: &[ProcAddr],
        places: &HashMap<ImageIndex, usize>,
    ) -> Result<Vec<Cell>, MemoryError> {
        let mut alone = Vec::new();
        let mut unsure: Vec<(Cell, ProcAddr)> = Vec::new();
        self.read_trailers(cells, |cell, trailer| {
            let place = places.get(&self.types.get(cell.cell_type).image);
            let links = trailer.zip(place).map_or([0, 0], |(trailer, place)| [trailer[*place], trailer[*place + 1]]);
            let mut named = links.into_iter().filter(|link| *link != 0).map(ProcAddr);
            if !named.clone().any(|link| headers.binary_search(&link).is_ok()) {
                match named.next() {
                    Some(link) => unsure.push((*cell, link)),
                    None => alone.push(*cell),
                }
            }
        })?;
        // Born after the search, perhaps.
        let addresses: Vec<ProcAddr> = unsure
            .iter()
            .map(|(cell, link)| ProcAddr(link.0.wrapping_add(u64::from(self.types.get(cell.cell_type).layout.vtable))))
            .collect();
        self.memory.read_each(&addresses, 8, |index, bytes| {
            let vtable = bytes.and_then(|bytes| word_at(bytes, 0));
            if vtable.is_none_or(|vtable| self.types.find(vtable).is_none()) {
                alone.push(unsure[index].0);
            }
        })?;
        Ok(alone)
    }

    /// Those that have neither ended nor come to their end meanwhile; of the others there is nothing to tell any more.
    fn still_open(&self, cells: &[Cell]) -> Result<Vec<Cell>, MemoryError> {
        let addresses: Vec<ProcAddr> = cells.iter().map(|cell| cell.header).collect();
        let mut open = Vec::new();
        self.memory.read_each(&addresses, self.types.head_len(), |index, bytes| {
            let cell = &cells[index];
            let now = Cell::read(cell.header, cell.cell_type, self.types, bytes.unwrap_or_default());
            open.extend(now.ok().filter(|now| now.is_same_task(cell) && !now.state.is_complete()));
        })?;
        Ok(open)
    }

    /// Drops those that are all there is in some list within this memory.
    fn drop_paired(&self, cells: &mut Vec<Cell>, walk: &Walk) -> Result<(), MemoryError> {
        let headers = cells.iter().map(|cell| cell.header).collect();
        let pointers = Pointers::find(&headers, &[], walk, self.memory)?;
        cells.retain(|cell| !pointers.paired.contains(&cell.header));
        Ok(())
    }

    /// The schedulers of these cells and what they point to.
    fn near_schedulers(&self, cells: &[Cell]) -> Result<Walk, MemoryError> {
        let schedulers: HashSet<u64> = cells.iter().map(|cell| cell.scheduler).collect();
        let mut ranges = Vec::new();
        for scheduler in schedulers {
            let Some(own) = self.writable(scheduler, SCHEDULER) else { continue };
            ranges.push(own);
            Walk::over([own]).run(self.memory, |_, bytes| {
                let words = bytes.chunks_exact(8).filter_map(|word| word_at(word, 0));
                ranges.extend(words.filter_map(|word| self.writable(word, SHARDS)));
            })?;
        }
        ranges.sort_unstable();
        ranges.dedup();
        Ok(Walk::over(ranges))
    }

    /// At most `len` bytes from this address on, as far as the process's own writable memory goes.
    fn writable(&self, address: u64, len: u64) -> Option<AddressRange> {
        let start = ProcAddr(address);
        let after = self.maps.partition_point(|mapping| mapping.range.start <= start);
        let home = self.maps.get(after.checked_sub(1)?).filter(|home| home.is_private_writable())?.range;
        let end = ProcAddr(address.saturating_add(len).min(home.end.0));
        (home.contains(start) && address.is_multiple_of(8)).then_some(AddressRange { start, end })
    }

    fn read_trailers(&self, cells: &[Cell], mut each: impl FnMut(&Cell, Option<Trailer>)) -> Result<(), MemoryError> {
        let trailer = |cell: &Cell| {
            ProcAddr(cell.header.0.wrapping_add(u64::from(self.types.get(cell.cell_type).layout.trailer)))
        };
        let addresses: Vec<ProcAddr> = cells.iter().map(trailer).collect();
        self.memory.read_each(&addresses, 8 * TRAILER, |index, bytes| {
            let words = |bytes: &[u8]| std::array::from_fn(|word| word_at(bytes, 8 * word).unwrap_or(0));
            each(&cells[index], bytes.map(words));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::cell_types::CellType;
    use crate::census::tests::layout;
    use crate::model::{Pid, TaskState};
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
            let listing = Listing { types: &self.types, memory: &memory, maps: &maps, walk: &walk };
            let as_cell = |cell: &usize| Cell {
                header: ProcAddr(self.header(*cell)),
                cell_type: self.types.find(VTABLE).unwrap(),
                state: TaskState(0x84),
                queue_next: 0,
                owner: 1,
                scheduler: 0,
                id: 1 + *cell as u64,
                spawn_location: None,
            };
            let cells: Vec<Cell> = cells.iter().map(as_cell).collect();
            let unlisted = listing.unlisted(&cells).unwrap();
            let mut unlisted: Vec<usize> =
                unlisted.into_iter().map(|at| ((at.0 - start.0) / 8) as usize / CELL_WORDS).collect();
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
    fn a_neighbour_that_the_search_did_not_meet_counts_if_it_is_a_task() {
        let mut scene = Scene::new(4);
        scene.link(0, None, Some(1));
        scene.link(1, Some(0), None);
        scene.link(2, Some(3), None);
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
