//! Links between cells: what tells a live future from a freed one whose state word an allocator has overwritten with a
//! link of its own that happens to pass for a state.
//!
//! That takes a free list's pointer below 2^30, or glibc's scrambled one (shifted right by 12) below it: only in memory
//! below 2^42, where the heap of an executable with fixed addresses lies. Cells aligned to 128 bytes are too large for
//! the lists that leave the queue link alone, so it concerns tokio before 1.29 only.

use std::collections::{HashMap, HashSet};

use super::cell::{Cell, word_at};
use super::cell_types::CellTypes;
use crate::model::{ProcAddr, Resource};
use crate::target::{Memory, MemoryError};

/// Above this no allocator's link can pass for a state word.
const LOW: u64 = 1 << 42;
/// Below this alignment a freed cell's queue link may stay empty.
const LARGE: u32 = 128;
/// Words of a trailer that hold the list's links (two), the waker (two) and hooks, in an order the compiler chose.
const TRAILER: usize = 8;

/// Whether an allocator's link can pass for this cell's state word.
pub fn is_doubtful(cell: &Cell, types: &CellTypes) -> bool {
    let cell_type = types.get(cell.cell_type);
    cell_type.resource == Resource::Task && cell.header.0 < LOW && cell_type.layout.align < LARGE
}

/// Those of the doubtful cells that are linked with another one, each naming the other in its trailer.
pub fn linked(doubtful: &[Cell], types: &CellTypes, memory: &Memory<'_>) -> Result<HashSet<ProcAddr>, MemoryError> {
    let trailer = |cell: &Cell| ProcAddr(cell.header.0 + u64::from(types.get(cell.cell_type).layout.trailer));
    let addresses: Vec<ProcAddr> = doubtful.iter().map(trailer).collect();
    let mut named: HashMap<u64, Vec<u64>> = HashMap::new();
    memory.read_each(&addresses, 8 * TRAILER, |index, bytes| {
        let words = bytes.into_iter().flat_map(|bytes| bytes.chunks_exact(8)).filter_map(|word| word_at(word, 0));
        named.insert(doubtful[index].header.0, words.filter(|word| *word != 0).collect());
    })?;
    let names = |one: u64, other: u64| one != other && named.get(&one).is_some_and(|words| words.contains(&other));
    let is_linked = |header: &u64| named[header].iter().any(|other| names(*other, *header));
    Ok(named.keys().copied().filter(is_linked).map(ProcAddr).collect())
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
