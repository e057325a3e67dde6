//! Which thread is inside which running task.
//!
//! Does not know: how the runtime keeps it. There are two traces. The thread that runs a task has the header's address
//! on its stack; others may have it, too (a join handle, what a frame left behind). And the runtime keeps the id of the
//! task that a thread is inside in the thread's own storage, at the same place in each thread (`slot`).

use std::collections::{HashMap, HashSet};

use super::cell::{Cell, word_at};
use super::cell_types::{CellTypes, ImageIndex};
use super::slot;
use super::stacks::Stack;
use super::walk::Walk;
use crate::model::{ProcAddr, Tid};
use crate::target::{Memory, MemoryError};

/// What the threads hold of the running tasks.
#[derive(Debug, Default)]
pub struct Execution {
    /// Threads with the header's address on the part of their stack that is in use.
    holders: HashMap<ProcAddr, Vec<Tid>>,
    /// Threads whose stack pointer is not known: they may hold anything.
    unknown: Vec<Tid>,
    /// The thread whose storage names the task.
    named: HashMap<ProcAddr, Tid>,
}

impl Execution {
    /// Looks at all stacks for these running tasks.
    pub fn observe(
        running: &[Cell],
        types: &CellTypes,
        stacks: &[Stack],
        memory: &Memory<'_>,
    ) -> Result<Self, MemoryError> {
        let mut execution = Self::default();
        if running.is_empty() {
            return Ok(execution);
        }
        let headers: HashSet<u64> = running.iter().map(|cell| cell.header.0).collect();
        for stack in stacks {
            let Some(used) = stack.used else {
                execution.unknown.push(stack.tid);
                continue;
            };
            let mut found = HashSet::new();
            Walk::over([used]).run(memory, |_, bytes| {
                let words = bytes.chunks_exact(8).filter_map(|word| word_at(word, 0));
                found.extend(words.filter(|word| headers.contains(word)));
            })?;
            for header in found {
                execution.holders.entry(ProcAddr(header)).or_default().push(stack.tid);
            }
        }
        let storages = slot::read(stacks, memory)?;
        let images: HashSet<ImageIndex> = running.iter().map(|cell| types.get(cell.cell_type).image).collect();
        for image in images {
            let ours = running.iter().filter(|cell| types.get(cell.cell_type).image == image);
            let by_id: HashMap<u64, ProcAddr> = ours.map(|cell| (cell.id, cell.header)).collect();
            let may_run = |tid, id: &u64| by_id.get(id).is_some_and(|header| execution.may_hold(tid, *header));
            let named = slot::threads_by_id(&storages, |id| by_id.contains_key(&id), |tid, id| may_run(tid, &id));
            let named = named.into_iter().filter_map(|(id, tid)| Some((*by_id.get(&id)?, tid)));
            execution.named.extend(named.collect::<Vec<_>>());
        }
        Ok(execution)
    }

    /// The one thread that is inside the task, if the evidence leaves exactly one.
    pub fn thread_of(&self, cell: &Cell) -> Option<Tid> {
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
