//! Which task's cell an address lies in, and in which part of it.
//!
//! Does not know: what lies there.

use crate::census::cell_types::CellTypes;
use crate::model::{CellLayout, LiveTask, ProcAddr};

/// Bytes of a trailer: the list's links, the waker and the hooks.
const TRAILER: u64 = 48;

/// All tasks of a process, by where their cells are.
pub struct Cells<'a> {
    types: &'a CellTypes,
    tasks: &'a [LiveTask],
    /// Indices of the tasks, in order of their headers.
    order: Vec<TaskIndex>,
}

/// A task among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskIndex(u32);

/// A part of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The header, or the future.
    Future,
    /// Behind the future, where the waker of who joins the task is.
    Trailer,
}

impl<'a> Cells<'a> {
    /// Of these tasks; those of unknown types are left out.
    pub fn new(types: &'a CellTypes, tasks: &'a [LiveTask]) -> Self {
        let known = |index: &TaskIndex| types.find(tasks[index.0 as usize].vtable.0).is_some();
        let count = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        let mut order: Vec<TaskIndex> = (0..count).map(TaskIndex).filter(known).collect();
        order.sort_unstable_by_key(|index| tasks[index.0 as usize].header);
        Self { types, tasks, order }
    }

    /// All of them, in order of address.
    pub fn iter(&self) -> impl Iterator<Item = (TaskIndex, &'a LiveTask)> {
        self.order.iter().map(|index| (*index, self.task(*index)))
    }

    /// The task.
    pub fn task(&self, index: TaskIndex) -> &'a LiveTask {
        &self.tasks[index.0 as usize]
    }

    /// Where the fields of its cell are.
    pub fn layout(&self, index: TaskIndex) -> &'a CellLayout {
        let known = self.types.find(self.task(index).vtable.0);
        // `new` has left out all others.
        let known = known.unwrap_or_else(|| unreachable!("a task of an unknown type"));
        &self.types.get(known).layout
    }

    /// The longest head of all types, in bytes.
    pub fn head_len(&self) -> usize {
        self.types.head_len()
    }

    /// Whether a type's vtable is there.
    pub fn is_vtable(&self, at: ProcAddr) -> bool {
        self.types.find(at.0).is_some()
    }

    /// From the lowest header to the highest.
    pub fn span(&self) -> Option<(u64, u64)> {
        Some((self.task(*self.order.first()?).header.0, self.task(*self.order.last()?).header.0))
    }

    /// The task whose header is at this address.
    #[inline]
    pub fn with_header(&self, at: u64) -> Option<TaskIndex> {
        let found = self.order.binary_search_by_key(&at, |index| self.task(*index).header.0).ok()?;
        Some(self.order[found])
    }

    /// The task in whose cell this address lies.
    pub fn containing(&self, at: ProcAddr) -> Option<(TaskIndex, Part)> {
        let after = self.order.partition_point(|index| self.task(*index).header <= at);
        let index = *self.order.get(after.checked_sub(1)?)?;
        let trailer = u64::from(self.layout(index).trailer);
        match at.0 - self.task(index).header.0 {
            offset if offset < trailer => Some((index, Part::Future)),
            offset if offset < trailer + TRAILER => Some((index, Part::Trailer)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::tests::only_type;
    use crate::model::{TaskId, TaskState};

    #[test]
    fn an_address_belongs_to_the_cell_around_it() {
        let types = only_type(0x1000, 128);
        let task = |header, vtable| LiveTask {
            header: ProcAddr(header),
            vtable: ProcAddr(vtable),
            id: TaskId(header),
            state: TaskState(0x84),
            owner: 1,
            spawn_location: None,
            running_on: None,
        };
        let tasks = [task(0x9000, 0x1000), task(0x8000, 0x1000), task(0x8800, 0x2000)];
        let cells = Cells::new(&types, &tasks);
        let at = |at| cells.containing(ProcAddr(at)).map(|(index, part)| (cells.task(index).id.0, part));
        assert_eq!(cells.iter().map(|(_, task)| task.header.0).collect::<Vec<_>>(), [0x8000, 0x9000]);
        assert_eq!(cells.span(), Some((0x8000, 0x9000)));
        assert_eq!(at(0x7fff), None);
        assert_eq!(at(0x8000), Some((0x8000, Part::Future)));
        assert_eq!(at(0x8000 + 95), Some((0x8000, Part::Future)));
        assert_eq!(at(0x8000 + 96), Some((0x8000, Part::Trailer)));
        assert_eq!(at(0x8000 + 96 + 48), None);
        assert_eq!(at(0x8800), None, "a task of an unknown type has no extent");
        assert_eq!(cells.with_header(0x9000).map(|index| cells.task(index).header.0), Some(0x9000));
        assert_eq!(cells.with_header(0x9008), None);
    }
}
