//! What a process's memory says of the words of a stack: which are tasks' headers, which are tables of waker functions.
//! A stack is a spawner's, or that of a thread that was sampled.
//!
//! Does not know: where in a stack they stand.

use std::collections::HashMap;

use crate::model::{CellWords, Glimpse, MappedImage, ProcAddr, SpawnHit, TargetEntry, TaskId, TaskState, TypeEntry};
use crate::target;
use crate::unwind;

use super::code::Code;

/// Where a header has its vtable, since tokio 1.21; the types' layouts repeat it.
const VTABLE_AT: u32 = 16;
/// Functions in a table of waker functions: clone, wake, wake by reference, drop.
const WAKER_FUNCTIONS: usize = 4;
/// More places than these are not remembered.
const MOST_TABLES: usize = 1 << 14;

/// What is known to be a table of waker functions, or known not to be one, in one process.
#[derive(Default)]
pub(in crate::session) struct Tables(HashMap<ProcAddr, bool>);

/// One process's memory, looked at for one stack.
pub(in crate::session) struct Look<'a> {
    memory: target::Memory<'a>,
    entry: &'a TargetEntry,
    /// The task that was born through the calls of the stack, and the copy of the runtime that it is of.
    born: Option<(TaskId, &'a MappedImage)>,
    glimpse: Option<&'a Glimpse>,
    code: &'a mut Code,
    tables: &'a mut Tables,
}

impl<'a> Look<'a> {
    pub(super) fn new(
        memory: target::Memory<'a>,
        entry: &'a TargetEntry,
        hit: &'a SpawnHit,
        code: &'a mut Code,
        tables: &'a mut Tables,
    ) -> Self {
        let copy = entry.images.iter().find(|mapped| mapped.image.first_point == hit.image);
        let born = copy.map(|copy| (hit.task, copy));
        Self { memory, entry, born, glimpse: hit.glimpse.as_ref(), code, tables }
    }

    /// For a stack at no particular place.
    pub(in crate::session) fn anywhere(
        memory: target::Memory<'a>,
        entry: &'a TargetEntry,
        code: &'a mut Code,
        tables: &'a mut Tables,
    ) -> Self {
        Self { memory, entry, born: None, glimpse: None, code, tables }
    }

    /// A word of a header, by its offset: as it was at the hit where the probe copied it, else as it is now.
    fn word(&self, header: ProcAddr, offset: u32) -> Option<u64> {
        match self.glimpse.filter(|glimpse| glimpse.at == header) {
            Some(glimpse) => glimpse.words.get(offset as usize / 8).copied(),
            None => Some(self.words::<1>(ProcAddr(header.0.checked_add(offset.into())?))?[0]),
        }
    }

    fn words<const N: usize>(&self, at: ProcAddr) -> Option<[u64; N]> {
        let mut bytes = [[0; 8]; N];
        // Memory that cannot be read any more, for whatever reason, holds nothing that is known.
        self.memory.read_exact(at, bytes.as_flattened_mut()).ok()?;
        Some(bytes.map(u64::from_ne_bytes))
    }

    /// Whether the task was there when the other was born. Ids count up in one copy of the runtime, and are never given
    /// twice: whoever has a smaller one and lives now was there then.
    fn is_older(&self, entry: &TypeEntry, id: TaskId) -> bool {
        self.born.is_none_or(|(born, copy)| copy.image.build_id != entry.id.build_id || id < born)
    }
}

impl unwind::Memory for Look<'_> {
    fn task(&mut self, header: ProcAddr) -> Option<CellWords> {
        let vtable = ProcAddr(self.word(header, VTABLE_AT)?);
        let entry = self.entry.type_at(vtable)?;
        let layout = &entry.task.layout;
        let word = |offset: u32| self.word(header, offset);
        let id = TaskId(word(layout.id)?);
        let task = CellWords {
            vtable: ProcAddr(word(layout.vtable)?),
            id,
            state: TaskState(word(layout.state)?),
            queue_next: word(layout.queue_next)?,
        };
        let is_one = layout.is_header(header) && task.vtable == vtable && id.0 != 0;
        // At the hit, whoever was polled was running, or just complete.
        let then = self.glimpse.is_some_and(|glimpse| glimpse.at == header);
        let was_polled = !then || task.state.is_running() || task.state.is_complete();
        (is_one && was_polled && task.is_plausible(layout) && self.is_older(entry, id)).then_some(task)
    }

    fn is_waker_table(&mut self, at: ProcAddr) -> bool {
        if let Some(known) = self.tables.0.get(&at) {
            return *known;
        }
        // Most words are not even an image's data: that is known without a look into memory.
        let is_data = self.entry.type_at(at).is_none() && self.code.is_of_one_image(at, &[]);
        let functions = is_data.then(|| self.words::<WAKER_FUNCTIONS>(at)).flatten();
        let is_one = functions.is_some_and(|functions| self.code.is_of_one_image(at, &functions.map(ProcAddr)));
        if self.tables.0.len() >= MOST_TABLES {
            self.tables.0.clear();
        }
        self.tables.0.insert(at, is_one);
        is_one
    }
}
