//! Where idle tasks wait: who holds their wakers.
//!
//! Does not know: versions, names, symbols. A waker is two words that can be recognised (`wakers`); where they lie, and what
//! the words around them prove (`holder`), tells what the task waits for. What lies on the heap and is neither a
//! descriptor's nor a timer's is an object; who else holds its address is found by one look at all cells (`objects`).
//!
//! Cost: one walk over all memory, one look at each waker's surroundings, one walk over the cells.

mod blocks;
mod cells;
mod holder;
mod images;
mod io;
mod objects;
mod queue;
mod slab;
mod timer;
mod verdict;
mod wakers;
mod window;

use std::collections::HashMap;

use self::blocks::Blocks;
use self::cells::{Cells, TaskIndex};
use self::holder::{Holder, Judge};
pub use self::images::ImageSpan;
use self::io::Descriptors;
use self::objects::Objects;
use self::verdict::{Answer, Held};
use self::wakers::{Place, Wakers};
use super::CensusError;
use super::cell_types::CellTypes;
use super::stacks;
use super::walk::Walk;
use crate::model::{LiveTask, Ns, ProcAddr, TaskState, UnknownWaiting, Waiting, word_at};
use crate::target::{Memory, MemoryError, Process, monotonic_now};

/// What the idle ones among some tasks wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// When the search began.
    pub started: Ns,
    /// When it was over. Every answer was true at some moment between the two.
    pub ended: Ns,
    /// By header, where in `all` a task's answers are.
    places: HashMap<ProcAddr, (u32, u32)>,
    all: Vec<Waiting>,
}

impl Waits {
    /// For every idle future among `tasks`, as a census of the process found them.
    pub fn find(
        process: &Process,
        types: &CellTypes,
        tasks: &[LiveTask],
        images: &[ImageSpan],
    ) -> Result<Self, CensusError> {
        Self::find_for(process, types, tasks, images, |_| true)
    }

    /// Only for those that are wanted. `tasks` are all the same: the others may be who they wait for.
    pub fn find_for(
        process: &Process,
        types: &CellTypes,
        tasks: &[LiveTask],
        images: &[ImageSpan],
        wanted: impl Fn(&LiveTask) -> bool,
    ) -> Result<Self, CensusError> {
        let started = monotonic_now();
        let (memory, maps) = (process.memory(), process.maps()?);
        let stacks = stacks::stack_mappings(&process.threads()?, &maps);
        let cells = Cells::new(types, tasks);
        let asked: Vec<TaskIndex> =
            cells.iter().filter(|(_, task)| may_wait(task) && wanted(task)).map(|at| at.0).collect();
        let can_wait = |index: TaskIndex| may_wait(cells.task(index)) && wanted(cells.task(index));
        let walk = Walk::new(if asked.is_empty() { &[] } else { &maps }, process.pagemap().as_ref());
        let mut wakers = Wakers::find(&cells, images, &stacks, &walk, &memory, can_wait)?;
        let descriptors = Descriptors::new(&process.watched()?);
        let blocks = Blocks::new(&memory, &maps);
        let judge = Judge::new(
            &cells,
            &stacks,
            &memory,
            blocks,
            descriptors,
            process.not_before().unwrap_or(Ns(0))..=monotonic_now(),
        );
        let holders = judge.judge(&wakers.places)?;
        let mut found: Vec<(Place, Holder)> = wakers.places.drain(..).zip(holders).collect();
        keep_standing(&mut found, &memory)?;
        let objects = Objects::find(&cells, &found, &memory)?;
        let now = states(&asked, &cells, &memory)?;
        let mut link_of = HashMap::new();
        let mut waits = Self { started, ended: started, places: HashMap::with_capacity(asked.len()), all: Vec::new() };
        for (index, now) in asked.into_iter().zip(now) {
            let first = found.partition_point(|(place, _)| place.task < index);
            let own = found[first..].iter().take_while(|(place, _)| place.task == index).enumerate();
            let held = own.map(|(at, (_, holder))| Held {
                found: first + at,
                holder: *holder,
                pointed_at: objects.begin(first + at).is_some(),
            });
            let task = cells.task(index);
            let answers = match now {
                Some(state) if state == task.state => {
                    verdict::of(state, !wakers.tables.is_empty(), wakers.truncated, &held.collect::<Vec<_>>())
                }
                _ => vec![Answer::Unknown(UnknownWaiting::Changed)],
            };
            let begin = waits.all.len() as u32;
            for answer in answers {
                let link =
                    |fd: u32| link_of.entry(fd).or_insert_with(|| process.descriptor(fd).map(Into::into)).clone();
                let place = |index: usize| found[index].0.at;
                waits.all.push(answer.into_waiting(&cells, &objects, place, link));
            }
            waits.places.insert(task.header, (begin, waits.all.len() as u32));
        }
        waits.ended = monotonic_now();
        Ok(waits)
    }

    /// What this task waits for, surest first; empty where it was not idle, or not asked for.
    pub fn of(&self, task: &LiveTask) -> &[Waiting] {
        self.at(task.header)
    }

    /// The same, by the task's header.
    pub fn at(&self, header: ProcAddr) -> &[Waiting] {
        let place = self.places.get(&header);
        place.map_or(&[], |(begin, end)| &self.all[*begin as usize..*end as usize])
    }
}

/// Whether it is a future that waits: not polled, not queued to be, not over.
fn may_wait(task: &LiveTask) -> bool {
    task.owner != 0 && task.state.is_idle() && !task.state.is_notified()
}

/// Keeps the wakers that are still where they were found.
fn keep_standing(found: &mut Vec<(Place, Holder)>, memory: &Memory<'_>) -> Result<(), MemoryError> {
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_unstable_by_key(|index| found[*index].0.at);
    let addresses: Vec<ProcAddr> = order.iter().map(|index| found[*index].0.at).collect();
    let mut stands = vec![false; found.len()];
    memory.read_each(&addresses, 16, |position, bytes| {
        let place = &found[order[position]].0;
        let words = bytes.and_then(|bytes| Some([word_at(bytes, 0)?, word_at(bytes, 8)?]));
        stands[order[position]] = words == Some(place.words);
    })?;
    let mut stands = stands.into_iter();
    found.retain(|_| stands.next().unwrap_or(false));
    Ok(())
}

/// The states of these tasks now; `None` for what is another task by now.
fn states(asked: &[TaskIndex], cells: &Cells<'_>, memory: &Memory<'_>) -> Result<Vec<Option<TaskState>>, MemoryError> {
    let addresses: Vec<ProcAddr> = asked.iter().map(|index| cells.task(*index).header).collect();
    let mut states = vec![None; asked.len()];
    memory.read_each(&addresses, cells.head_len(), |position, bytes| {
        let (task, layout) = (cells.task(asked[position]), cells.layout(asked[position]));
        let word = |offset: u32| bytes.and_then(|bytes| word_at(bytes, offset as usize));
        let same = word(layout.id) == Some(task.id.0) && word(layout.vtable) == Some(task.vtable.0);
        states[position] = word(layout.state).filter(|_| same).map(TaskState);
    })?;
    Ok(states)
}
