//! What holds a waker at one place, taken by itself.
//!
//! Does not know: how many references the task has, other places.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::blocks::Blocks;
use super::cells::{Cells, Part, TaskIndex};
use super::io::Descriptors;
use super::queue::{self, Queue};
use super::timer::{self, Timer};
use super::wakers::Place;
use super::window::Window;
use crate::model::{Ns, ProcAddr, word_at};
use crate::target::{AddressRange, Memory, MemoryError};

/// Places that are judged together, so that what they need is read together.
const BATCH: usize = 1 << 12;
/// Bytes of a runtime's handle in which its clock's beginning is looked for.
const HANDLE: usize = 4 << 10;
/// Handles, and what is none, that are remembered.
const MAX_HANDLES: usize = 1 << 14;
/// Words around a place among which the page of its slot is.
const SLOT: usize = 12;

/// Who holds a waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A task, for who awaits its handle.
    Join(TaskIndex),
    /// A file descriptor's `ScheduledIo`.
    Io {
        /// The descriptor, where it can be told which.
        fd: Option<u32>,
    },
    /// A timer.
    Timer(Timer),
    /// A node that is linked in a list.
    Queue(Queue),
    /// The task's own future.
    OwnFuture,
    /// Another task's future.
    HeldBy(TaskIndex),
    /// Something that is neither a task nor on a stack.
    Object,
    /// A thread's stack.
    Stack,
    /// A task's slot for who awaits its handle, while the task says that nobody does.
    Left,
}

/// Tells of places who holds what is there.
pub struct Judge<'a> {
    cells: &'a Cells<'a>,
    stacks: &'a [AddressRange],
    memory: &'a Memory<'a>,
    blocks: Blocks<'a>,
    descriptors: Descriptors,
    /// When the clocks of the process's runtimes can have begun.
    life: RangeInclusive<Ns>,
    /// What a clock's beginning may be, by the address of what may be a runtime's handle.
    begins: HashMap<u64, Vec<Ns>>,
}

impl<'a> Judge<'a> {
    /// With all that is known of the process.
    pub fn new(
        cells: &'a Cells<'a>,
        stacks: &'a [AddressRange],
        memory: &'a Memory<'a>,
        blocks: Blocks<'a>,
        descriptors: Descriptors,
        life: RangeInclusive<Ns>,
    ) -> Self {
        Self { cells, stacks, memory, blocks, descriptors, life, begins: HashMap::new() }
    }

    /// The holder of each place, in order.
    pub fn judge(mut self, places: &[Place]) -> Result<Vec<Holder>, MemoryError> {
        let mut holders = vec![Holder::Stack; places.len()];
        let mut open: Vec<usize> = Vec::new();
        for (index, place) in places.iter().enumerate() {
            match self.by_address(place) {
                Some(holder) => holders[index] = holder,
                None => open.push(index),
            }
        }
        open.sort_unstable_by_key(|index| places[*index].at);
        for batch in open.chunks(BATCH) {
            let addresses: Vec<ProcAddr> = batch.iter().map(|index| places[*index].at).collect();
            let mut windows = Vec::with_capacity(batch.len());
            Window::read_each(&addresses, self.memory, |at, window| windows.push((batch[at], window)))?;
            let mut rest = Vec::new();
            for (index, window) in windows {
                match self.by_words(&places[index], &window)? {
                    Some(holder) => holders[index] = holder,
                    None => rest.push((index, window)),
                }
            }
            self.blocks.prepare(rest.iter().flat_map(|(_, window)| queue::pointers(window)))?;
            for (index, window) in rest {
                holders[index] = self.by_links(&places[index], &window);
            }
        }
        self.blocks.finish()?;
        Ok(holders)
    }

    /// What the address alone tells.
    fn by_address(&self, place: &Place) -> Option<Holder> {
        if self.stacks.iter().any(|stack| stack.contains(place.at)) {
            return Some(Holder::Stack);
        }
        match self.cells.containing(place.at) {
            Some((task, Part::Trailer)) => match self.cells.task(task).state.has_join_waker() {
                true => Some(Holder::Join(task)),
                false => Some(Holder::Left),
            },
            _ => None,
        }
    }

    /// What the words around it tell by themselves.
    fn by_words(&mut self, place: &Place, window: &Window) -> Result<Option<Holder>, MemoryError> {
        let near = window.near(SLOT).map(|(_, word)| word);
        if let Some(fd) = self.descriptors.with(place.at, near, |at| self.blocks.get(at)) {
            return Ok(Some(Holder::Io { fd }));
        }
        Ok(self.timer(place, window)?.map(Holder::Timer))
    }

    /// What they lead to tells.
    fn by_links(&mut self, place: &Place, window: &Window) -> Holder {
        let home = self.cells.containing(place.at).map(|(task, _)| task);
        let is_own = |at| self.cells.containing(at).map(|(task, _)| task) == home;
        if let Some(queue) = queue::judge(window, |at| self.blocks.get(at), is_own) {
            return self.in_queue(queue);
        }
        match home {
            Some(task) if task == place.task => Holder::OwnFuture,
            Some(task) => Holder::HeldBy(task),
            None => Holder::Object,
        }
    }

    fn timer(&mut self, place: &Place, window: &Window) -> Result<Option<Timer>, MemoryError> {
        if !timer::may_be(window, place.table()) {
            return Ok(None);
        }
        let mut begins = Vec::new();
        for handle in timer::handles(window) {
            if !self.begins.contains_key(&handle) {
                if self.begins.len() >= MAX_HANDLES {
                    continue;
                }
                let found = self.begins_in(handle)?;
                self.begins.insert(handle, found);
            }
            begins.extend(&self.begins[&handle]);
        }
        Ok(timer::judge(window, place.table(), &begins, *self.life.end()))
    }

    fn begins_in(&self, handle: u64) -> Result<Vec<Ns>, MemoryError> {
        // Only the process's own memory is looked at.
        if self.blocks.get(handle).is_none() {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; HANDLE];
        let read = self.memory.read(ProcAddr(handle), &mut bytes)?;
        let words: Vec<u64> = bytes[..read].chunks_exact(8).filter_map(|word| word_at(word, 0)).collect();
        Ok(timer::instants(&words, self.life.clone()))
    }

    /// A list of those who wait for a file descriptor is its `ScheduledIo`'s.
    fn in_queue(&mut self, queue: Queue) -> Holder {
        let words = self.blocks.get(queue.owner.0).unwrap_or_default();
        match self.descriptors.with(queue.owner, words.into_iter(), |at| self.blocks.get(at)) {
            Some(fd) => Holder::Io { fd },
            None => Holder::Queue(queue),
        }
    }
}
