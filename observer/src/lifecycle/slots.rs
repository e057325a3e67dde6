//! Where live resources are kept, close together, and three ways to one: by its id, by its identity in the process, by its header.
//!
//! The ways keep no keys, only which slot: what is kept of a resource holds them, and of a million tasks a table of keys that has
//! just doubled takes more than the tasks. Does not know what becomes of a resource.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::task::Task;
use crate::model::{AsyncId, ProcAddr, TaskId};

/// A task's identity in its process. The id alone is not enough: two copies of tokio in one process count apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) vtable: ProcAddr,
    pub(super) id: TaskId,
}

/// The slots and the ways to them.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_id: Way,
    by_key: Way,
    by_header: Way,
}

/// One resource.
#[derive(Debug)]
struct Slot {
    id: AsyncId,
    task: Task,
}

impl Slot {
    fn key(&self) -> Option<Key> {
        Some(Key { vtable: self.task.vtable, id: self.task.task_id()? })
    }
}

impl Slots {
    /// Takes a resource in. Its identity leads to it from now on; where it led to another, not to that.
    pub(super) fn insert(&mut self, id: AsyncId, task: Task) {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("four thousand million tasks do not fit into memory")
        });
        let slot = Slot { id, task };
        let key = slot.key();
        self.slots[at as usize] = Some(slot);
        self.by_id.lead(&id, at, &self.slots, |slot| Some(slot.id));
        if let Some(key) = key {
            self.by_key.lead(&key, at, &self.slots, Slot::key);
        }
    }

    /// Takes a resource out.
    pub(super) fn remove(&mut self, id: AsyncId) -> Option<Task> {
        let at = self.place_of(id)?;
        let slot = self.slots[at as usize].as_ref()?;
        let (key, header) = (slot.key(), slot.task.header());
        self.by_id.forget(&id, at);
        if let Some(key) = key {
            self.by_key.forget(&key, at);
        }
        if let Some(header) = header {
            self.by_header.forget(&header, at);
        }
        self.free.push(at);
        self.slots[at as usize].take().map(|slot| slot.task)
    }

    /// The number of a resource's slot.
    fn place_of(&self, id: AsyncId) -> Option<u32> {
        self.by_id.find(&id, &self.slots, |slot| Some(slot.id))
    }

    pub(super) fn get(&self, id: AsyncId) -> Option<&Task> {
        let at = self.place_of(id)?;
        self.slots[at as usize].as_ref().map(|slot| &slot.task)
    }

    pub(super) fn get_mut(&mut self, id: AsyncId) -> Option<&mut Task> {
        let at = self.place_of(id)?;
        self.slots[at as usize].as_mut().map(|slot| &mut slot.task)
    }

    /// Who has this identity.
    pub(super) fn find(&self, key: &Key) -> Option<AsyncId> {
        let at = self.by_key.find(key, &self.slots, Slot::key)?;
        self.slots[at as usize].as_ref().map(|slot| slot.id)
    }

    /// Who was last seen at this header.
    pub(super) fn at(&self, header: ProcAddr) -> Option<AsyncId> {
        let at = self.by_header.find(&header, &self.slots, |slot| slot.task.header())?;
        self.slots[at as usize].as_ref().map(|slot| slot.id)
    }

    /// A resource's id is known from now on.
    pub(super) fn identify(&mut self, id: AsyncId, task_id: TaskId) {
        let Some(at) = self.place_of(id) else { return };
        let Some(slot) = &mut self.slots[at as usize] else { return };
        if let Some(key) = slot.key() {
            self.by_key.forget(&key, at);
        }
        slot.task.identify(task_id);
        let key = Key { vtable: slot.task.vtable, id: task_id };
        self.by_key.lead(&key, at, &self.slots, Slot::key);
    }

    /// A resource is at this header. Gives another one that was last seen there.
    pub(super) fn place(&mut self, id: AsyncId, header: ProcAddr) -> Option<AsyncId> {
        let at = self.place_of(id)?;
        let slot = self.slots[at as usize].as_mut()?;
        let had = slot.task.header();
        if had == Some(header) && self.by_header.leads_to(&header, at) {
            return None;
        }
        if let Some(had) = had {
            self.by_header.forget(&had, at);
        }
        slot.task.place(header);
        let other = self.by_header.lead(&header, at, &self.slots, |slot| slot.task.header())?;
        self.slots[other as usize].as_ref().map(|slot| slot.id)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (AsyncId, &Task)> {
        self.slots.iter().flatten().map(|slot| (slot.id, &slot.task))
    }
}

/// Keys of one kind to slots, which hold the keys.
#[derive(Debug, Default)]
struct Way {
    slots: HashTable<u32>,
    hash: RandomState,
}

impl Way {
    /// The slot whose key this is.
    fn find<K: Hash + Eq>(&self, key: &K, slots: &[Option<Slot>], key_of: impl Fn(&Slot) -> Option<K>) -> Option<u32> {
        self.slots.find(self.hash.hash_one(key), |at| key_at(slots, *at, &key_of).as_ref() == Some(key)).copied()
    }

    /// Whether the key, which that slot has, leads to it and not to another that has it, too.
    fn leads_to<K: Hash>(&self, key: &K, at: u32) -> bool {
        self.slots.find(self.hash.hash_one(key), |found| *found == at).is_some()
    }

    /// The key leads to this slot, which holds it, from now on. Gives the one that it led to.
    fn lead<K: Hash + Eq>(
        &mut self,
        key: &K,
        at: u32,
        slots: &[Option<Slot>],
        key_of: impl Fn(&Slot) -> Option<K>,
    ) -> Option<u32> {
        let Self { slots: table, hash } = self;
        let hashed = hash.hash_one(key);
        if let Some(there) = table.find_mut(hashed, |at| key_at(slots, *at, &key_of).as_ref() == Some(key)) {
            return Some(std::mem::replace(there, at)).filter(|other| *other != at);
        }
        table.insert_unique(hashed, at, |at| key_at(slots, *at, &key_of).map_or(0, |key| hash.hash_one(&key)));
        None
    }

    /// The key leads to this slot no more. Where it leads to another it still does.
    fn forget<K: Hash>(&mut self, key: &K, at: u32) {
        if let Ok(entry) = self.slots.find_entry(self.hash.hash_one(key), |found| *found == at) {
            entry.remove();
        }
    }
}

fn key_at<K>(slots: &[Option<Slot>], at: u32, key_of: impl Fn(&Slot) -> Option<K>) -> Option<K> {
    slots.get(at as usize)?.as_ref().and_then(key_of)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::lifecycle::resources::Moment;
    use crate::model::{Ns, Tid};

    /// What is done to a resource, by its number.
    #[derive(Clone, Copy, Debug)]
    enum Deed {
        Insert(Option<u64>),
        Remove(usize),
        Identify(usize, u64),
        Place(usize, u64),
    }

    /// Few identities and headers, so that they meet.
    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            3 => proptest::option::of(0..8u64).prop_map(Deed::Insert),
            2 => (0..40usize).prop_map(Deed::Remove),
            1 => (0..40usize, 0..8u64).prop_map(|(n, id)| Deed::Identify(n, id)),
            3 => (0..40usize, 1..6u64).prop_map(|(n, header)| Deed::Place(n, header)),
        ]
    }

    fn key(id: u64) -> Key {
        Key { vtable: ProcAddr(id % 3), id: TaskId(id) }
    }

    fn task(id: Option<u64>) -> Task {
        let vtable = ProcAddr(id.map_or(0, |id| id % 3));
        Task::born(Moment { at: Ns(0), tid: Tid(0) }, vtable, id.map(TaskId))
    }

    /// The same, kept with its keys.
    #[derive(Default)]
    struct Plain {
        tasks: HashMap<AsyncId, (ProcAddr, Option<Key>, Option<ProcAddr>)>,
        by_key: HashMap<Key, AsyncId>,
        by_header: HashMap<ProcAddr, AsyncId>,
    }

    impl Plain {
        fn forget(&mut self, id: AsyncId, key: Option<Key>, header: Option<ProcAddr>) {
            if let Some(key) = key.filter(|key| self.by_key.get(key) == Some(&id)) {
                self.by_key.remove(&key);
            }
            if let Some(header) = header.filter(|header| self.by_header.get(header) == Some(&id)) {
                self.by_header.remove(&header);
            }
        }
    }

    proptest! {
        #[test]
        fn every_way_leads_where_a_map_with_keys_leads(deeds in vec(deed(), 1..200)) {
            let (mut slots, mut plain) = (Slots::default(), Plain::default());
            let mut minted = 0;
            for deed in deeds {
                let alive = |n: usize| AsyncId(n as u64);
                match deed {
                    Deed::Insert(id) => {
                        minted += 1;
                        let key = id.map(key);
                        slots.insert(AsyncId(minted), task(id));
                        let vtable = task(id).vtable;
                        plain.tasks.insert(AsyncId(minted), (vtable, key, None));
                        key.map(|key| plain.by_key.insert(key, AsyncId(minted)));
                    }
                    Deed::Remove(n) => {
                        let removed = plain.tasks.remove(&alive(n));
                        prop_assert_eq!(slots.remove(alive(n)).is_some(), removed.is_some());
                        if let Some((_, key, header)) = removed {
                            plain.forget(alive(n), key, header);
                        }
                    }
                    Deed::Identify(n, id) => {
                        slots.identify(alive(n), TaskId(id));
                        if let Some((vtable, had, _)) = plain.tasks.get(&alive(n)).copied() {
                            plain.forget(alive(n), had, None);
                            let key = Key { vtable, id: TaskId(id) };
                            plain.tasks.entry(alive(n)).and_modify(|task| task.1 = Some(key));
                            plain.by_key.insert(key, alive(n));
                        }
                    }
                    Deed::Place(n, header) => {
                        let header = ProcAddr(header * 128);
                        let other = slots.place(alive(n), header);
                        if let Some((_, _, had)) = plain.tasks.get(&alive(n)).copied() {
                            plain.forget(alive(n), None, had.filter(|had| *had != header));
                            plain.tasks.entry(alive(n)).and_modify(|task| task.2 = Some(header));
                            let was = plain.by_header.insert(header, alive(n));
                            prop_assert_eq!(other, was.filter(|was| *was != alive(n)));
                        } else {
                            prop_assert_eq!(other, None);
                        }
                    }
                }
                prop_assert_eq!(slots.len(), plain.tasks.len());
                let mut ids: Vec<_> = slots.iter().map(|(id, _)| id.0).collect();
                ids.sort_unstable();
                let mut expected: Vec<_> = plain.tasks.keys().map(|id| id.0).collect();
                expected.sort_unstable();
                prop_assert_eq!(ids, expected);
                for (id, (_, key, _)) in &plain.tasks {
                    prop_assert_eq!(slots.get(*id).map(Task::task_id), Some(key.map(|key| key.id)));
                }
                for vtable in 0..3 {
                    for id in 0..8 {
                        let key = Key { vtable: ProcAddr(vtable), id: TaskId(id) };
                        prop_assert_eq!(slots.find(&key), plain.by_key.get(&key).copied());
                    }
                }
                for header in 1..6 {
                    let header = ProcAddr(header * 128);
                    prop_assert_eq!(slots.at(header), plain.by_header.get(&header).copied());
                }
            }
        }
    }

    #[test]
    fn a_resource_takes_seven_words() {
        assert_eq!(size_of::<Option<Slot>>(), 56);
    }

    #[test]
    fn many_are_found_again_after_the_ways_have_grown() {
        let mut slots = Slots::default();
        for n in 1..=5000u64 {
            slots.insert(AsyncId(n), task(Some(n)));
            slots.place(AsyncId(n), ProcAddr(n * 128));
        }
        for n in 1..=5000u64 {
            let all = (slots.find(&key(n)), slots.at(ProcAddr(n * 128)), slots.get(AsyncId(n)).is_some());
            assert_eq!(all, (Some(AsyncId(n)), Some(AsyncId(n)), true));
        }
    }
}
