//! Which thread is inside which running task.
//!
//! Does not know: how the runtime keeps it. Evidence is what every runtime leaves: the thread that runs a task has the
//! header's address on its stack, and the task's id in its thread-local storage. Others may have the address, too (a
//! join handle, a frame's leftover), so a thread is named only where the evidence leaves exactly one.

use std::collections::{HashMap, HashSet};

use super::cell::{Cell, word_at};
use super::stacks::Stack;
use super::walk::Walk;
use crate::model::{ProcAddr, Tid};
use crate::target::{Memory, MemoryError};

/// What the threads hold of the running tasks.
#[derive(Debug, Default)]
pub struct Execution {
    /// Threads with the header's address on the part of their stack that is in use.
    holders: HashMap<ProcAddr, Vec<Tid>>,
    /// Ids in each thread's local storage; a thread whose storage was not found is not in it.
    stored: HashMap<Tid, HashSet<u64>>,
    /// Threads whose stack pointer is not known.
    unknown: Vec<Tid>,
}

impl Execution {
    /// Looks at all stacks for these running tasks.
    pub fn observe(running: &[Cell], stacks: &[Stack], memory: &Memory<'_>) -> Result<Self, MemoryError> {
        let mut execution = Self::default();
        if running.is_empty() {
            return Ok(execution);
        }
        let headers: HashSet<u64> = running.iter().map(|cell| cell.header.0).collect();
        let ids: HashSet<u64> = running.iter().map(|cell| cell.id).collect();
        for stack in stacks {
            let mut found = HashSet::new();
            match stack.used {
                Some(used) => {
                    Walk::over(used)
                        .run(memory, |_, bytes| found.extend(words(bytes).filter(|w| headers.contains(w))))?;
                }
                None => execution.unknown.push(stack.tid),
            }
            for header in found {
                execution.holders.entry(ProcAddr(header)).or_default().push(stack.tid);
            }
            if let Some(storage) = stack.local_storage {
                let mut stored = HashSet::new();
                Walk::over(storage).run(memory, |_, bytes| stored.extend(words(bytes).filter(|w| ids.contains(w))))?;
                execution.stored.insert(stack.tid, stored);
            }
        }
        Ok(execution)
    }

    /// The one thread that is inside the task, if the evidence leaves exactly one.
    pub fn thread_of(&self, cell: &Cell) -> Option<Tid> {
        eprintln!("DBG {cell:x?} {self:?}");
        let candidates = || self.holders.get(&cell.header).into_iter().flatten().chain(&self.unknown);
        let may_run = |tid: &&Tid| self.stored.get(tid).is_none_or(|ids| ids.contains(&cell.id));
        let only = |mut tids: Box<dyn Iterator<Item = &Tid> + '_>| match (tids.next(), tids.next()) {
            (Some(tid), None) => Some(*tid),
            _ => None,
        };
        match candidates().any(|tid| may_run(&tid)) {
            true => only(Box::new(candidates().filter(may_run))),
            // No storage tells (a runtime in a loaded library keeps it elsewhere): the stacks alone.
            false => only(Box::new(candidates())),
        }
    }

    /// Whether some thread may be inside the task: one holds its address, or the registers of one are not known.
    pub fn may_be_running(&self, cell: &Cell) -> bool {
        self.holders.contains_key(&cell.header) || !self.unknown.is_empty()
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).filter_map(|word| word_at(word, 0))
}
