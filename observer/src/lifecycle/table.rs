//! The live resources of one process and the ways to find one. Ids are minted here and nowhere else.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::model::{AsyncId, ProcAddr, QuickMap, QuickSet};

use super::slots::{Key, Slots};
use super::task::Task;

/// Where async ids come from: one for all processes of a session.
#[derive(Clone, Debug, Default)]
pub(super) struct Mint(Rc<Cell<u64>>);

impl Mint {
    /// The next one. Ids begin at 1: 0 means "none" on output.
    fn next(&self) -> AsyncId {
        self.0.set(self.0.get() + 1);
        AsyncId(self.0.get())
    }
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Table {
    mint: Mint,
    tasks: Slots,
    /// Births whose mint was not seen, oldest first, until the task's first sight gives them their id.
    unidentified: QuickMap<ProcAddr, VecDeque<AsyncId>>,
    /// Running at the attach, on a thread that the census could not tell.
    unplaced: QuickSet<AsyncId>,
    /// Identities freed while a census is under way: what it still finds of them is gone. `None` while there is none.
    buried: Option<QuickSet<Key>>,
}

impl Table {
    pub(super) fn new(mint: Mint) -> Self {
        Self { mint, ..Self::default() }
    }

    /// Takes a resource in and mints its id.
    pub(super) fn add(&mut self, task: Task) -> AsyncId {
        let id = self.mint.next();
        if task.task_id().is_none() {
            self.unidentified.entry(task.vtable).or_default().push_back(id);
        }
        self.tasks.insert(id, task);
        id
    }

    /// This resource was led to by that one. A root that has ended still is one.
    pub(super) fn descend(&mut self, id: AsyncId, from: AsyncId) {
        let root = self.root(from);
        if let Some(task) = self.tasks.get_mut(id) {
            task.descends(root, id);
        }
    }

    /// The root of a resource; its own of one that is not there.
    pub(super) fn root(&self, id: AsyncId) -> AsyncId {
        self.tasks.get(id).map_or(id, |task| task.root(id))
    }

    /// Ends a resource.
    pub(super) fn remove(&mut self, id: AsyncId) {
        let Some(task) = self.tasks.remove(id) else { return };
        match task.task_id() {
            Some(task_id) => {
                if let Some(buried) = &mut self.buried {
                    buried.insert(Key { vtable: task.vtable, id: task_id });
                }
            }
            None => {
                if let Some(waiting) = self.unidentified.get_mut(&task.vtable) {
                    waiting.retain(|other| *other != id);
                }
            }
        }
        self.unplaced.remove(&id);
    }

    pub(super) fn get(&self, id: AsyncId) -> Option<&Task> {
        self.tasks.get(id)
    }

    pub(super) fn get_mut(&mut self, id: AsyncId) -> Option<&mut Task> {
        self.tasks.get_mut(id)
    }

    pub(super) fn find(&self, key: &Key) -> Option<AsyncId> {
        self.tasks.find(key)
    }

    /// Who was last seen at this header.
    pub(super) fn at(&self, header: ProcAddr) -> Option<AsyncId> {
        self.tasks.at(header)
    }

    /// Gives the oldest birth of this type that waits for its id this one.
    pub(super) fn identify(&mut self, key: &Key) -> Option<AsyncId> {
        let id = self.unidentified.get_mut(&key.vtable)?.pop_front()?;
        self.tasks.identify(id, key.id);
        Some(id)
    }

    /// The resource is at this header. Gives another one that was there and so must be gone.
    pub(super) fn settle(&mut self, id: AsyncId, header: ProcAddr) -> Option<AsyncId> {
        self.unplaced.remove(&id);
        self.tasks.place(id, header)
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (AsyncId, &Task)> {
        self.tasks.iter()
    }

    /// Notes that this one was running at the attach, nobody knows where.
    pub(super) fn unplace(&mut self, id: AsyncId) {
        self.unplaced.insert(id);
    }

    pub(super) fn has_unplaced(&self) -> bool {
        !self.unplaced.is_empty()
    }

    /// A census begins: from now on remember who is freed.
    pub(super) fn remember_buried(&mut self) {
        self.buried.get_or_insert_default();
    }

    /// The census is taken in: no need to remember any more.
    pub(super) fn take_buried(&mut self) -> QuickSet<Key> {
        self.buried.take().unwrap_or_default()
    }
}
