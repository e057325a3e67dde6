//! What cells say of each other and of their surroundings: schedulers, queues, and an allocator's free lists.
//!
//! Does not know: who else points to a cell.

use std::collections::{HashMap, HashSet};

use super::cell::{Cell, word_at};
use super::cell_types::CellTypes;
use crate::model::{ProcAddr, Resource};
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

/// Those of the futures' cells whose scheduler is not the one that most cells of the same list name: every list belongs
/// to one scheduler. Where no scheduler has the most, all are kept.
pub fn foreign_schedulers(cells: &[Cell], types: &CellTypes) -> HashSet<ProcAddr> {
    let futures = || cells.iter().filter(|cell| types.get(cell.cell_type).resource == Resource::Task);
    let list_of = |cell: &Cell| (types.get(cell.cell_type).image, cell.owner);
    let mut votes: HashMap<_, HashMap<u64, usize>> = HashMap::new();
    for cell in futures() {
        *votes.entry(list_of(cell)).or_default().entry(cell.scheduler).or_default() += 1;
    }
    let most = |cell: &Cell| votes[&list_of(cell)].values().copied().max().unwrap_or(0);
    let own = |cell: &Cell| votes[&list_of(cell)][&cell.scheduler];
    futures().filter(|cell| own(cell) < most(cell)).map(|cell| cell.header).collect()
}

/// Those of the cells whose queue link names something that is no task.
pub fn broken_queue_links(
    cells: &[Cell],
    types: &CellTypes,
    memory: &Memory<'_>,
) -> Result<HashSet<ProcAddr>, MemoryError> {
    let queued: Vec<&Cell> = cells.iter().filter(|cell| cell.queue_next != 0).collect();
    let vtable_of = |cell: &&Cell| {
        let layout = &types.get(cell.cell_type).layout;
        ProcAddr(cell.queue_next.wrapping_add(u64::from(layout.vtable)))
    };
    let addresses: Vec<ProcAddr> = queued.iter().map(vtable_of).collect();
    let mut broken = HashSet::new();
    memory.read_each(&addresses, 8, |index, bytes| {
        let vtable = bytes.and_then(|bytes| word_at(bytes, 0));
        if vtable.is_none_or(|vtable| types.find(vtable).is_none()) {
            broken.insert(queued[index].header);
        }
    })?;
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::cell_types::{CellType, ImageIndex};
    use crate::census::tests::layout;
    use crate::model::TaskState;
    use crate::target::parse_maps;

    fn cell(header: u64, state: u64, scheduler: u64) -> (Cell, CellTypes) {
        let task = CellType { layout: layout(16), resource: Resource::Task, image: ImageIndex(0) };
        let types = CellTypes::new([(ProcAddr(0x40_1000), task)]);
        let cell_type = types.find(0x40_1000).unwrap();
        let state = TaskState(state);
        let header = ProcAddr(header);
        (Cell { header, cell_type, state, queue_next: 0, owner: 1, scheduler, id: 1, spawn_location: None }, types)
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
        assert_eq!(foreign_schedulers(&one_off, &types), HashSet::from([ProcAddr(2)]));
        let (even, types) = cells(&[8, 9]);
        assert_eq!(foreign_schedulers(&even, &types), HashSet::new());
    }
}
