//! Taking a census: the order of its looks and what each decides.
//!
//! 1. All private writable memory once: candidates, each judged by itself (`cell`).
//! 2. What cells say of each other: schedulers, queues, an allocator's links (`links`), lists (`listing`).
//! 3. Closures: one cell an id, held by a queue or a handle unless it runs (`evidence`).
//! 4. The stacks: which thread is inside which task (`execution`).
//! 5. Every cell that is left once more: what changed identity meanwhile is dropped, the state is the latest.

use std::collections::HashSet;

use super::cell::{self, Cell};
use super::cell_types::{CellTypeIndex, CellTypes};
use super::evidence::{Pointers, same_id};
use super::execution::Execution;
use super::links;
use super::listing::Listing;
use super::rejection::{Rejected, Rejection};
use super::stacks;
use super::walk::{Walk, Walked};
use crate::model::{LiveTask, Ns, ProcAddr, Resource};
use crate::target::{AddressRange, Memory, MemoryError, Process, TargetError, monotonic_now};

/// More cells than this are not taken in.
const MAX_CELLS: usize = 1 << 24;

/// The live tasks of one process.
///
/// Exact for tasks that exist during the whole census; of those that begin or end meanwhile some are in it. Tasks that
/// are complete and whose output is still kept by a handle are in it, too: their state says so.
#[derive(Clone, Debug)]
pub struct Census {
    /// The tasks, in order of address. No id occurs twice in one image.
    pub tasks: Vec<LiveTask>,
    /// When it began.
    pub started: Ns,
    /// When it was over. Every task's state was read between the two.
    pub ended: Ns,
    /// Bytes of memory that were searched.
    pub bytes_read: u64,
    /// Memory that should have been searched and could not be read. Tasks in it are missing.
    pub unread: Vec<AddressRange>,
    /// Candidates turned away.
    pub rejected: Rejected,
    /// The bound on the number of cells was met: there are more tasks than these.
    pub truncated: bool,
}

/// Why there is no census.
#[derive(Debug, thiserror::Error)]
pub enum CensusError {
    /// The process cannot be looked at.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Its memory cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl Census {
    /// Finds the live tasks of these types.
    pub fn take(process: &Process, types: &CellTypes) -> Result<Self, CensusError> {
        let mut taking = Taking::begin(process, types)?;
        taking.search()?;
        taking.drop_broken_links()?;
        taking.drop_stray_closures()?;
        let execution = taking.observe_threads()?;
        Ok(taking.finish(&execution)?)
    }
}

struct Taking<'a> {
    types: &'a CellTypes,
    memory: Memory<'a>,
    threads: Vec<crate::target::Thread>,
    maps: Vec<crate::target::Mapping>,
    pagemap: Option<crate::target::Pagemap>,
    walk: Walk,
    walked: Walked,
    started: Ns,
    cells: Vec<Cell>,
    rejected: Rejected,
    truncated: bool,
}

impl<'a> Taking<'a> {
    fn begin(process: &'a Process, types: &'a CellTypes) -> Result<Self, CensusError> {
        let started = monotonic_now();
        let (maps, pagemap) = (process.maps()?, process.pagemap());
        let walk = match types.is_empty() {
            true => Walk::new(&[], None),
            false => Walk::new(&maps, pagemap.as_ref()),
        };
        Ok(Self {
            types,
            memory: process.memory(),
            threads: process.threads()?,
            maps,
            pagemap,
            walk,
            walked: Walked::default(),
            started,
            cells: Vec::new(),
            rejected: Rejected::default(),
            truncated: false,
        })
    }

    fn search(&mut self) -> Result<(), MemoryError> {
        let Self { types, memory, walk, cells, rejected, truncated, .. } = self;
        let mut edges: Vec<(ProcAddr, CellTypeIndex)> = Vec::new();
        let mut reasons = Vec::new();
        let mut add = |cell, cells: &mut Vec<Cell>| match cells.len() < MAX_CELLS {
            true => cells.push(cell),
            false => *truncated = true,
        };
        self.walked = walk.run(memory, |at, bytes| {
            let edge = |header, index| edges.push((header, index));
            cell::scan(at, bytes, types, |cell| add(cell, cells), |reason| reasons.push(reason), edge);
            reasons.drain(..).for_each(|reason| rejected.add(reason));
        })?;
        let addresses: Vec<ProcAddr> = edges.iter().map(|(header, _)| *header).collect();
        memory.read_each(&addresses, types.head_len(), |position, bytes| {
            let (header, index) = edges[position];
            match Cell::read(header, index, types, bytes.unwrap_or_default()) {
                Ok(cell) => add(cell, cells),
                Err(reason) => rejected.add(reason),
            }
        })?;
        Ok(())
    }

    fn drop_broken_links(&mut self) -> Result<(), MemoryError> {
        let foreign = links::foreign_schedulers(&self.cells, self.types);
        self.drop_if(Rejection::Scheduler, |cell| foreign.contains(&cell.header));
        let broken = links::broken_queue_links(&self.cells, self.types, &self.memory)?;
        self.drop_if(Rejection::QueueLink, |cell| broken.contains(&cell.header));

        let Self { cells, maps, .. } = &*self;
        let free: HashSet<ProcAddr> =
            cells.iter().filter(|cell| links::is_free(cell, maps)).map(|cell| cell.header).collect();
        self.drop_if(Rejection::Free, |cell| free.contains(&cell.header));

        self.cells.sort_unstable_by_key(|cell| cell.header);
        let listing = Listing { types: self.types, memory: &self.memory, maps: &self.maps, walk: &self.walk };
        let unlisted = listing.unlisted(&self.cells)?;
        self.drop_if(Rejection::Unlisted, |cell| unlisted.contains(&cell.header));
        Ok(())
    }

    /// A closure's cell is moved into its place after it was built, and never bound to a list: the copy left on the
    /// spawner's stack looks like a queued one, with the live one's own id.
    fn drop_stray_closures(&mut self) -> Result<(), MemoryError> {
        let stacks = stacks::stack_mappings(&self.threads, &self.maps);
        let on_stack = |cell: &Cell| stacks.iter().any(|stack| stack.contains(cell.header));
        let types = self.types;
        let is_closure = |cell: &Cell| types.get(cell.cell_type).resource == Resource::Blocking;
        let closures = self.cells.iter().copied().filter(is_closure);
        let groups = same_id(closures.map(|cell| ((types.get(cell.cell_type).image, cell.id), cell)));
        // A left copy was never run.
        let rank = |cell: &Cell| (!on_stack(cell), cell.state.is_running() || cell.state.is_complete());
        let mut copies = HashSet::new();
        for group in groups.into_values().filter(|group| group.len() > 1) {
            let best = group.iter().map(rank).max();
            copies.extend(group.iter().filter(|cell| Some(rank(cell)) != best).map(|cell| cell.header));
        }
        self.drop_if(Rejection::Copy, |cell| copies.contains(&cell.header));

        let is_queued = |cell: &Cell| is_closure(cell) && !cell.state.is_running() && !cell.state.is_complete();
        let queued: HashSet<ProcAddr> = self.cells.iter().filter(|c| is_queued(c)).map(|cell| cell.header).collect();
        let pointers = Pointers::find(&queued, &stacks, &self.walk, &self.memory)?;
        self.drop_if(Rejection::Unheld, |cell| queued.contains(&cell.header) && !pointers.held.contains(&cell.header));
        Ok(())
    }

    fn observe_threads(&mut self) -> Result<Execution, MemoryError> {
        let running: Vec<Cell> = self.cells.iter().copied().filter(|cell| cell.state.is_running()).collect();
        let stacks = match running.is_empty() {
            true => Vec::new(),
            false => stacks::of_threads(&self.threads, &self.maps, self.pagemap.as_ref(), &self.memory)?,
        };
        let execution = Execution::observe(&running, self.types, &stacks, &self.memory)?;
        let types = self.types;
        self.drop_if(Rejection::Unheld, |cell| {
            let closure = types.get(cell.cell_type).resource == Resource::Blocking;
            closure && cell.state.is_running() && !execution.may_be_running(cell)
        });
        Ok(execution)
    }

    fn finish(mut self, execution: &Execution) -> Result<Census, MemoryError> {
        let addresses: Vec<ProcAddr> = self.cells.iter().map(|cell| cell.header).collect();
        let mut tasks = Vec::with_capacity(self.cells.len());
        let Self { types, memory, cells, rejected, .. } = &mut self;
        memory.read_each(&addresses, types.head_len(), |position, bytes| {
            let first = &cells[position];
            match Cell::read(first.header, first.cell_type, types, bytes.unwrap_or_default()) {
                Ok(now) if now.is_same_task(first) => {
                    let ran_all_along = first.state.is_running() && now.state.is_running();
                    let thread = if ran_all_along { execution.thread_of(&now) } else { None };
                    tasks.push(now.to_task(types, thread));
                }
                _ => rejected.add(Rejection::Changed),
            }
        })?;
        Ok(Census {
            tasks,
            started: self.started,
            ended: monotonic_now(),
            bytes_read: self.walked.bytes,
            unread: self.walked.unread,
            rejected: self.rejected,
            truncated: self.truncated,
        })
    }

    fn drop_if(&mut self, reason: Rejection, mut is_out: impl FnMut(&Cell) -> bool) {
        let rejected = &mut self.rejected;
        self.cells.retain(|cell| {
            let out = is_out(cell);
            if out {
                rejected.add(reason);
            }
            !out
        });
    }
}
