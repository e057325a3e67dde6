//! Which thread is inside which running task.
//!
//! Does not know: how the runtime keeps it. There are two traces. The thread that runs a task has the header's address
//! on its stack; others may have it, too (a join handle, what a frame left behind). And the runtime keeps the id of the
//! task that a thread is inside in the thread's own storage, at the same place in each thread (`slot`).

use std::collections::{HashMap, HashSet};

use super::addresses::Addresses;
use super::cell::Cell;
use super::cell_types::{CellTypes, ImageIndex};
use super::slot;
use super::stacks;
use super::walk::Walk;
use crate::model::{ProcAddr, Tid, word_at};
use crate::target::{Mapping, Memory, MemoryError, Pagemap, Thread};

/// What the threads hold of the running tasks.
#[derive(Debug, Default)]
pub struct Execution {
    /// Those that were running at the first look.
    running: Addresses,
    /// Threads with the header's address on the part of their stack that is in use.
    holders: HashMap<ProcAddr, Vec<Tid>>,
    /// Threads whose stack pointer is not known: they may hold anything.
    unknown: Vec<Tid>,
    /// The thread whose storage names the task.
    named: HashMap<ProcAddr, Tid>,
}

/// Where threads are.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The threads.
    pub threads: &'a [Thread],
    /// The process's mappings.
    pub maps: &'a [Mapping],
    /// Which pages are there.
    pub pagemap: Option<&'a Pagemap>,
}

impl Execution {
    /// Looks at all stacks for those of the cells that run, which are at these positions.
    pub fn of(
        cells: &[Cell],
        running: &[u32],
        types: &CellTypes,
        surroundings: Surroundings<'_>,
        memory: &Memory<'_>,
    ) -> Result<Self, MemoryError> {
        let running = || running.iter().map(|position| &cells[*position as usize]);
        let headers = Addresses::new(running().map(|cell| cell.header), types.stride());
        let mut execution = Self { running: headers, ..Self::default() };
        if execution.running.is_empty() {
            return Ok(execution);
        }
        let Surroundings { threads, maps, pagemap } = surroundings;
        let stacks = stacks::of_threads(threads, maps, pagemap, memory)?;
        for stack in &stacks {
            let Some(used) = stack.used else {
                execution.unknown.push(stack.tid);
                continue;
            };
            let mut found = HashSet::new();
            Walk::over([used]).run(memory, |_, bytes| {
                let words = bytes.chunks_exact(8).filter_map(|word| word_at(word, 0));
                found.extend(words.filter(|word| execution.running.contains(*word)));
            })?;
            for header in found {
                execution.holders.entry(ProcAddr(header)).or_default().push(stack.tid);
            }
        }
        let storages = slot::read(&stacks, memory)?;
        // Memory may claim any number of running tasks; threads name only so many.
        let words: HashSet<u64> = storages.iter().flat_map(|storage| storage.words.iter().copied()).collect();
        let mut named: HashMap<ImageIndex, HashMap<u64, ProcAddr>> = HashMap::new();
        for cell in running().filter(|cell| words.contains(&cell.id)) {
            named.entry(types.get(cell.cell_type).image).or_default().insert(cell.id, cell.header);
        }
        for by_id in named.into_values() {
            let may_run = |tid, id: &u64| by_id.get(id).is_some_and(|header| execution.may_hold(tid, *header));
            let named = slot::threads_by_id(&storages, |id| by_id.contains_key(&id), |tid, id| may_run(tid, &id));
            let named = named.into_iter().filter_map(|(id, tid)| Some((*by_id.get(&id)?, tid)));
            execution.named.extend(named.collect::<Vec<_>>());
        }
        Ok(execution)
    }

    /// The one thread that is inside the task, if it runs and ran before, and the evidence leaves exactly one.
    pub fn thread_of(&self, cell: &Cell) -> Option<Tid> {
        if !cell.state.is_running() || !self.running.contains(cell.header.0) {
            return None;
        }
        let holders = self.holders.get(&cell.header).map_or(&[][..], Vec::as_slice);
        match (self.named.get(&cell.header), holders, &self.unknown[..]) {
            (Some(tid), ..) => Some(*tid),
            (None, [tid], []) | (None, [], [tid]) => Some(*tid),
            _ => None,
        }
    }

    /// Whether some thread may be inside the task: one holds its address, or what one holds is not known.
    pub fn may_be_running(&self, cell: &Cell) -> bool {
        self.holders.contains_key(&cell.header) || !self.unknown.is_empty()
    }

    fn may_hold(&self, tid: Tid, header: ProcAddr) -> bool {
        self.unknown.contains(&tid) || self.holders.get(&header).is_some_and(|holders| holders.contains(&tid))
    }
}
