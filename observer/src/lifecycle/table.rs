//! The live resources and the ways to find one. Ids are minted here and nowhere else.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::model::{AsyncId, ProcAddr, TaskId};

use super::task::Task;

/// A task's identity in its process. The id alone is not enough: two copies of tokio in one process count apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) target: u16,
    pub(super) vtable: ProcAddr,
    pub(super) id: TaskId,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Table {
    minted: u64,
    tasks: HashMap<AsyncId, Task>,
    by_key: HashMap<Key, AsyncId>,
    by_header: HashMap<(u16, ProcAddr), AsyncId>,
    /// Births whose mint was not seen, oldest first, until the task's first sight gives them their id.
    unidentified: HashMap<(u16, ProcAddr), VecDeque<AsyncId>>,
    /// Running at the attach, on a thread that the census could not tell.
    unplaced: HashSet<(u16, AsyncId)>,
    /// Identities freed while a census of their target was under way: what it still finds of them is gone.
    buried: HashMap<u16, HashSet<Key>>,
}

impl Table {
    /// Takes a resource in and mints its id. Ids begin at 1: 0 means "none" on output.
    pub(super) fn add(&mut self, task: Task) -> AsyncId {
        self.minted += 1;
        let id = AsyncId(self.minted);
        match task.task_id {
            Some(task_id) => {
                self.by_key.insert(Key { target: task.target, vtable: task.vtable, id: task_id }, id);
            }
            None => self.unidentified.entry((task.target, task.vtable)).or_default().push_back(id),
        }
        self.tasks.insert(id, task);
        id
    }

    /// Ends a resource.
    pub(super) fn remove(&mut self, id: AsyncId) {
        let Some(task) = self.tasks.remove(&id) else { return };
        match task.task_id {
            Some(task_id) => {
                let key = Key { target: task.target, vtable: task.vtable, id: task_id };
                self.by_key.remove(&key);
                if let Some(buried) = self.buried.get_mut(&task.target) {
                    buried.insert(key);
                }
            }
            None => {
                if let Some(waiting) = self.unidentified.get_mut(&(task.target, task.vtable)) {
                    waiting.retain(|other| *other != id);
                }
            }
        }
        if let Some(header) = task.header
            && self.by_header.get(&(task.target, header)) == Some(&id)
        {
            self.by_header.remove(&(task.target, header));
        }
        self.unplaced.remove(&(task.target, id));
    }

    pub(super) fn get(&self, id: AsyncId) -> Option<&Task> {
        self.tasks.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: AsyncId) -> Option<&mut Task> {
        self.tasks.get_mut(&id)
    }

    pub(super) fn find(&self, key: &Key) -> Option<AsyncId> {
        self.by_key.get(key).copied()
    }

    /// Gives the oldest birth of this type that waits for its id this one.
    pub(super) fn identify(&mut self, key: &Key) -> Option<AsyncId> {
        let id = self.unidentified.get_mut(&(key.target, key.vtable))?.pop_front()?;
        if let Some(task) = self.tasks.get_mut(&id) {
            task.task_id = Some(key.id);
        }
        self.by_key.insert(*key, id);
        Some(id)
    }

    /// The resource is at this header. Gives another one that was there and so must be gone.
    pub(super) fn settle(&mut self, id: AsyncId, target: u16, header: ProcAddr) -> Option<AsyncId> {
        self.unplaced.remove(&(target, id));
        if let Some(task) = self.tasks.get_mut(&id) {
            task.header = Some(header);
        }
        self.by_header.insert((target, header), id).filter(|other| *other != id)
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (AsyncId, &Task)> {
        self.tasks.iter().map(|(id, task)| (*id, task))
    }

    /// Notes that this one was running at the attach, nobody knows where.
    pub(super) fn unplace(&mut self, target: u16, id: AsyncId) {
        self.unplaced.insert((target, id));
    }

    pub(super) fn has_unplaced(&self, target: u16) -> bool {
        self.unplaced.iter().any(|(other, _)| *other == target)
    }

    /// A census of this target begins: from now on remember who is freed.
    pub(super) fn remember_buried(&mut self, target: u16) {
        self.buried.entry(target).or_default();
    }

    /// The census is taken in: no need to remember any more.
    pub(super) fn take_buried(&mut self, target: u16) -> HashSet<Key> {
        self.buried.remove(&target).unwrap_or_default()
    }
}
