//! Taking a census by a scan: the order of its looks and what each decides.
//!
//! 1. All private writable memory once: candidates, each judged by itself (`search`).
//! 2. What cells say of each other: schedulers, queues, an allocator's links (`links`), lists (`listing`).
//! 3. Closures: one cell an id, held by a queue or a handle unless it runs (`evidence`).
//! 4. The stacks: which thread is inside which task (`execution`).
//! 5. Every cell that is left once more: what changed identity meanwhile is dropped, the state is the latest.

use super::addresses::Addresses;
use super::bounds::Unbounded;
use super::cell::Cell;
use super::cell_types::CellTypes;
use super::counters::{Counters, Reading};
use super::evidence::Pointers;
use super::execution::{Execution, Surroundings};
use super::last_look::LastLook;
use super::links::{self, positions};
use super::listing::Listing;
use super::look::Look;
use super::places::Places;
use super::rejection::{Rejected, Rejection};
use super::search::{Found, search};
use super::stacks;
use super::tasks::to_tasks;
use super::walk::{Walk, Walked};
use super::{Allowance, Census, CensusError, How, Unlisted};
use crate::model::Ns;
use crate::target::{Mapping, Memory, MemoryError, Pagemap, Process, Thread, monotonic_now};

/// Looks at a queue link that leads to no task: the task may have left its queue, and the one behind it ended.
const LOOKS: usize = 4;

impl Census {
    /// Finds the live tasks of these types. Without counters there is no bound from above.
    pub fn take(process: &Process, types: &CellTypes, allowance: Allowance) -> Result<Self, CensusError> {
        Ok(scan(process, types, &mut Counters::default(), &Places::default(), allowance)?.census)
    }
}

/// A census by a scan, and what a walk needs to know of it.
pub struct Scanned {
    /// The census.
    pub census: Census,
    /// Every cell in it, in order of address.
    pub cells: Vec<Cell>,
    /// Where links are.
    pub places: Places,
    /// The process's mappings.
    pub maps: Vec<Mapping>,
    /// What the counters held at its beginning.
    pub counted: Reading,
}

/// Takes one. `known` is what was learned of links before.
pub fn scan(
    process: &Process,
    types: &CellTypes,
    counters: &mut Counters,
    known: &Places,
    allowance: Allowance,
) -> Result<Scanned, CensusError> {
    let mut taking = Taking::begin(process, types, counters, known, allowance)?;
    taking.drop_broken_links()?;
    taking.drop_stray_closures()?;
    let execution = taking.observe_threads()?;
    let scanned = taking.finish(counters, &execution)?;
    refuse_another_program(process)?;
    Ok(scanned)
}

/// Fails if the process has replaced its program: what was read then was read with another program's layouts.
pub fn refuse_another_program(process: &Process) -> Result<(), CensusError> {
    match process.runs_same_program()? {
        true => Ok(()),
        false => Err(CensusError::Replaced { pid: process.pid() }),
    }
}

struct Taking<'a> {
    process: &'a Process,
    types: &'a CellTypes,
    memory: Memory<'a>,
    threads: Vec<Thread>,
    maps: Vec<Mapping>,
    pagemap: Option<Pagemap>,
    walk: Walk,
    walked: Walked,
    started: Ns,
    counted: Reading,
    cells: Vec<Cell>,
    places: Places,
    rejected: Rejected,
    truncated: bool,
}

impl<'a> Taking<'a> {
    fn begin(
        process: &'a Process,
        types: &'a CellTypes,
        counters: &Counters,
        known: &Places,
        allowance: Allowance,
    ) -> Result<Self, CensusError> {
        refuse_another_program(process)?;
        let started = monotonic_now();
        let memory = process.memory();
        let counted = counters.read(&memory)?;
        let (maps, pagemap) = (process.maps()?, process.pagemap());
        let walk = match types.is_empty() {
            true => Walk::new(&[], None),
            false => Walk::new(&maps, pagemap.as_ref()),
        };
        let threads = process.threads()?;
        let room = allowance.cells();
        let Found { cells, walked, rejected, truncated, places } = search(process, types, &walk, known, room)?;
        Ok(Self {
            process,
            types,
            memory,
            threads,
            maps,
            pagemap,
            walk,
            walked,
            started,
            counted,
            cells,
            places,
            rejected,
            truncated,
        })
    }

    fn drop_broken_links(&mut self) -> Result<(), MemoryError> {
        let foreign = links::foreign_schedulers(&self.cells, self.types);
        self.drop_at(Rejection::Scheduler, &foreign);
        let broken = self.broken_queue_links()?;
        self.drop_at(Rejection::QueueLink, &broken);
        let free = positions(&self.cells, |cell| links::is_free(cell, &self.maps));
        self.drop_at(Rejection::Free, &free);
        let listing = Listing { look: self.look(), memory: &self.memory, walk: &self.walk };
        let unlisted = listing.unlisted(&self.cells)?;
        self.drop_at(Rejection::Unlisted, &unlisted);
        Ok(())
    }

    /// Those whose queue link leads to no task, as often as one looks.
    fn broken_queue_links(&self) -> Result<Vec<u32>, MemoryError> {
        let mut broken = links::broken_queue_links(&self.cells, self.types, &self.memory)?;
        for _ in 0..LOOKS {
            if broken.is_empty() {
                break;
            }
            let mut again: Vec<Cell> = broken.iter().map(|position| self.cells[*position as usize]).collect();
            // What is gone keeps its broken link.
            self.look().at(&mut again)?;
            let still = links::broken_queue_links(&again, self.types, &self.memory)?;
            broken = still.into_iter().map(|position| broken[position as usize]).collect();
        }
        Ok(broken)
    }

    /// A closure's cell is moved into its place after it was built, and never bound to a list: the copy left on the
    /// spawner's stack looks like a queued one, with the live one's own id.
    fn drop_stray_closures(&mut self) -> Result<(), MemoryError> {
        let stacks = stacks::stack_mappings(&self.threads, &self.maps);
        let types = self.types;
        let on_stack = |cell: &Cell| stacks.iter().any(|stack| stack.contains(cell.header));
        let mut closures = positions(&self.cells, |cell| !cell.is_future(types));
        if closures.is_empty() {
            return Ok(());
        }
        let task_of = |position: &u32| {
            let cell = &self.cells[*position as usize];
            (types.get(cell.cell_type).image, cell.id)
        };
        closures.sort_by_key(task_of);
        // A left copy was never run.
        let rank = |position: &u32| {
            let cell = &self.cells[*position as usize];
            (!on_stack(cell), cell.state.is_running() || cell.state.is_complete())
        };
        let mut copies = Vec::new();
        let same_task = |one: &u32, other: &u32| task_of(one) == task_of(other);
        for group in closures.chunk_by(same_task).filter(|group| group.len() > 1) {
            let best = group.iter().map(rank).max();
            copies.extend(group.iter().copied().filter(|position| Some(rank(position)) != best));
        }
        copies.sort_unstable();
        self.drop_at(Rejection::Copy, &copies);

        let is_queued = |cell: &Cell| !cell.is_future(types) && !cell.state.is_running() && !cell.state.is_complete();
        let queued = positions(&self.cells, is_queued);
        let headers = queued.iter().map(|position| self.cells[*position as usize].header);
        let headers = Addresses::new(headers, types.stride());
        let pointers = Pointers::find(&headers, &stacks, &self.walk, &self.memory)?;
        let unheld: Vec<u32> =
            queued.into_iter().zip(pointers.held).filter_map(|(position, held)| (!held).then_some(position)).collect();
        self.drop_at(Rejection::Unheld, &unheld);
        Ok(())
    }

    fn observe_threads(&mut self) -> Result<Execution, MemoryError> {
        let surroundings = Surroundings { threads: &self.threads, maps: &self.maps, pagemap: self.pagemap.as_ref() };
        let running = positions(&self.cells, |cell| cell.state.is_running());
        let execution = Execution::of(&self.cells, &running, self.types, surroundings, &self.memory)?;
        let types = self.types;
        let is_stray =
            |cell: &Cell| !cell.is_future(types) && cell.state.is_running() && !execution.may_be_running(cell);
        let unheld = positions(&self.cells, is_stray);
        self.drop_at(Rejection::Unheld, &unheld);
        Ok(execution)
    }

    fn finish(mut self, counters: &mut Counters, execution: &Execution) -> Result<Scanned, MemoryError> {
        let mut cells = std::mem::take(&mut self.cells);
        let threads = self.threads.len() as u64;
        let last = LastLook::take(&self.look(), counters, &self.counted, threads, &mut cells)?;
        (0..last.gone).for_each(|_| self.rejected.add(Rejection::Changed));
        let bounds = match () {
            () if self.truncated => last.bounds.unbounded(Unbounded::Truncated),
            () if !self.walked.unread.is_empty() => last.bounds.unbounded(Unbounded::Unread),
            () => last.bounds,
        };
        let census = Census {
            tasks: to_tasks(&cells, self.types, |cell| execution.thread_of(cell), Vec::new()),
            how: How::Scan,
            unlisted: Unlisted::Searched,
            bounds,
            started: self.started,
            ended: monotonic_now(),
            bytes_read: self.walked.bytes,
            unread: self.walked.unread,
            rejected: self.rejected,
            truncated: self.truncated,
        };
        Ok(Scanned { census, cells, places: self.places, maps: self.maps, counted: self.counted })
    }

    fn look(&self) -> Look<'_> {
        Look { process: self.process, types: self.types, places: &self.places, maps: &self.maps }
    }

    /// Drops the cells at these positions, which are in order.
    fn drop_at(&mut self, reason: Rejection, out: &[u32]) {
        remove(&mut self.cells, out);
        out.iter().for_each(|_| self.rejected.add(reason));
    }
}

/// Removes what is at these positions, which are in order.
pub fn remove(cells: &mut Vec<Cell>, out: &[u32]) {
    if out.is_empty() {
        return;
    }
    let mut out = out.iter().copied().peekable();
    let mut position = 0;
    cells.retain(|_| {
        let is_out = out.next_if_eq(&position).is_some();
        position += 1;
        !is_out
    });
}
