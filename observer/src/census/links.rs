//! What cells say of each other and of their surroundings: schedulers, queues, and an allocator's free lists.
//!
//! Does not know: who else points to a cell.

use std::collections::HashMap;

use super::cell::Cell;
use super::cell_types::{CellTypes, ImageIndex};
use crate::model::{ProcAddr, word_at};
use crate::target::{AddressRange, Mapping, Memory, MemoryError};

/// Whether the cell's state word is an allocator's link from this free cell to another.
///
/// Allocators write the link where the state was and may leave everything behind it. A link passes for a state only
/// below 2^30, in the low heap of an executable with fixed addresses. Plain (mimalloc, glibc before 2.32), or scrambled
/// with its own place shifted right by 12, and then also empty (glibc). No state of a live cell leads into the mapping
/// that the cell is in: with fewer than 2^15 references it is too small.
pub fn is_free(cell: &Cell, maps: &[Mapping]) -> bool {
    let state = cell.state.0;
    let scrambled = state ^ (cell.header.0 >> 12);
    if scrambled == 0 {
        return true;
    }
    let leads_home = |link: u64, home: &AddressRange| link.is_multiple_of(16) && home.contains(ProcAddr(link));
    let after = maps.partition_point(|mapping| mapping.range.start <= cell.header);
    let home = after.checked_sub(1).map(|index| maps[index].range).filter(|range| range.contains(cell.header));
    home.is_some_and(|home| leads_home(state, &home) || leads_home(scrambled, &home))
}

/// Positions of those of the futures' cells whose scheduler is not the one that most cells of the same list name: every
/// list belongs to one scheduler. Where no scheduler has the most, all are kept.
pub fn foreign_schedulers(cells: &[Cell], types: &CellTypes) -> Vec<u32> {
    let list_of = |cell: &Cell| (types.get(cell.cell_type).image, cell.owner);
    let mut numbers: HashMap<(ImageIndex, u64, u64), usize> = HashMap::new();
    let mut votes: Vec<u32> = Vec::new();
    // Neighbours in memory are mostly of one list.
    let mut last = None;
    for cell in cells.iter().filter(|cell| cell.is_future(types)) {
        let (image, owner) = list_of(cell);
        let key = (image, owner, cell.scheduler);
        let number = match last {
            Some((last_key, number)) if last_key == key => number,
            _ => *numbers.entry(key).or_insert_with(|| {
                votes.push(0);
                votes.len() - 1
            }),
        };
        votes[number] += 1;
        last = Some((key, number));
    }
    let mut most: HashMap<(ImageIndex, u64), u32> = HashMap::new();
    for ((image, owner, _), number) in &numbers {
        let most = most.entry((*image, *owner)).or_default();
        *most = votes[*number].max(*most);
    }
    if numbers.len() == most.len() {
        return Vec::new();
    }
    let has_most = |cell: &Cell| {
        let (image, owner) = list_of(cell);
        votes[numbers[&(image, owner, cell.scheduler)]] == most[&(image, owner)]
    };
    positions(cells, |cell| cell.is_future(types) && !has_most(cell))
}

/// Positions of those of the cells whose queue link names something that is no task.
pub fn broken_queue_links(cells: &[Cell], types: &CellTypes, memory: &Memory<'_>) -> Result<Vec<u32>, MemoryError> {
    let queued = positions(cells, |cell| cell.queue_next != 0);
    let vtable_of = |position: &u32| {
        let cell = &cells[*position as usize];
        ProcAddr(cell.queue_next.wrapping_add(u64::from(types.get(cell.cell_type).layout.vtable)))
    };
    let addresses: Vec<ProcAddr> = queued.iter().map(vtable_of).collect();
    let mut broken = Vec::new();
    memory.read_each(&addresses, 8, |index, bytes| {
        let vtable = bytes.and_then(|bytes| word_at(bytes, 0));
        if vtable.is_none_or(|vtable| types.find(vtable).is_none()) {
            broken.push(queued[index]);
        }
    })?;
    Ok(broken)
}

/// Where in `cells` those are that are wanted.
pub fn positions(cells: &[Cell], mut wanted: impl FnMut(&Cell) -> bool) -> Vec<u32> {
    (0..).zip(cells).filter_map(|(position, cell)| wanted(cell).then_some(position)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::cell_types::CellType;
    use crate::census::tests::layout;
    use crate::model::{Resource, TaskState};
    use crate::target::parse_maps;

    fn cell(header: u64, state: u64, scheduler: u64) -> (Cell, CellTypes) {
        let task = CellType { layout: layout(16), resource: Resource::Task, image: ImageIndex(0) };
        let types = CellTypes::new([(ProcAddr(0x40_1000), task)]);
        let cell_type = types.find(0x40_1000).unwrap();
        let state = TaskState(state);
        let header = ProcAddr(header);
        (
            Cell {
                header,
                cell_type,
                state,
                queue_next: 0,
                owner: 1,
                scheduler,
                id: 1,
                spawn_location: 0,
                links: [0; 2],
            },
            types,
        )
    }

    #[test]
    fn a_state_that_leads_to_another_free_cell_is_an_allocators_link() {
        let text = "400000-401000 r-xp 0 fe:00 7 /a\n20ff000-2120000 rw-p 0 00:00 0 [heap]\n";
        let maps = parse_maps(text).unwrap();
        let header = 0x210_8a40;
        let free = |state: u64| is_free(&cell(header, state, 0).0, &maps);
        let scramble = header >> 12;
        assert!(free(0x210_0a30), "plain");
        assert!(free(0x210_0a30 ^ scramble), "scrambled");
        assert!(free(scramble), "the last of a scrambled list");
        for state in [0x84, 0xcc, 0x40, 0x13c, 0x4a, 30_000 << 6, 0x210_0a34, 0x40_0a30] {
            assert!(!free(state), "0x{state:x}");
        }
    }

    #[test]
    fn the_scheduler_that_most_cells_of_a_list_name_is_the_lists() {
        let cells = |schedulers: &[u64]| -> (Vec<Cell>, CellTypes) {
            let (first, types) = cell(0, 0x84, 0);
            let cell = |(index, scheduler): (usize, &u64)| Cell {
                header: ProcAddr(index as u64),
                scheduler: *scheduler,
                ..first
            };
            (schedulers.iter().enumerate().map(cell).collect(), types)
        };
        let (one_off, types) = cells(&[8, 8, 9, 8]);
        assert_eq!(foreign_schedulers(&one_off, &types), [2]);
        let (even, types) = cells(&[8, 9]);
        assert_eq!(foreign_schedulers(&even, &types), Vec::<u32>::new());
    }
}
