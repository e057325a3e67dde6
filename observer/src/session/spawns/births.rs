//! What was seen of spawns, by the task born: bounded, each stack once.
//!
//! Does not know: how it was seen.

use std::collections::{HashMap, HashSet, VecDeque};

use super::copies::Copies;
use crate::model::{Ns, PointIndex, ProcAddr, SpawnSeen, StackId, TargetId, TaskId, Trigger, UnwindEnd};

/// One task of a session: ids are unique in one copy of the runtime only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Born {
    /// The process.
    pub target: TargetId,
    /// The image that holds the copy, by the number of the first of its points.
    pub image: PointIndex,
    /// The task.
    pub task: TaskId,
}

/// The calls that led to a spawn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// The process.
    pub target: TargetId,
    /// Innermost first: the spawn site, then where each call returns to.
    pub addresses: Vec<ProcAddr>,
    /// Why there are no more.
    pub end: UnwindEnd,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Tasks whose spawn is remembered: about 100 bytes each.
    pub tasks: usize,
    /// Different stacks: at most half a kilobyte each.
    pub stacks: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { tasks: 1 << 19, stacks: 1 << 14 }
    }
}

/// What was not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Spawns that were forgotten, oldest first, when there was no room for a new one.
    pub tasks: u64,
    /// Spawns without a stack, because there were too many different ones.
    pub stacks: u64,
}

/// All that is kept.
#[derive(Debug, Default)]
pub(super) struct Births {
    caps: Caps,
    copies: Copies,
    by_task: HashMap<Born, SpawnSeen>,
    /// In the order in which they came. Some may be forgotten already.
    order: VecDeque<Born>,
    stacks: Vec<Stack>,
    by_stack: HashMap<Stack, StackId>,
    dropped: Dropped,
}

impl Births {
    pub(super) fn new(caps: Caps, copies: Copies) -> Self {
        Self { caps, copies, ..Self::default() }
    }

    /// See [`Copies::born`].
    pub(super) fn born(&self, target: TargetId, vtable: ProcAddr, task: TaskId) -> Option<Born> {
        self.copies.born(target, vtable, task)
    }

    /// The number of this stack; `None` where there is no room for another.
    pub(super) fn stack_id(&mut self, stack: Stack) -> Option<StackId> {
        if let Some(known) = self.by_stack.get(&stack) {
            return Some(*known);
        }
        if self.stacks.len() >= self.caps.stacks {
            self.dropped.stacks += 1;
            return None;
        }
        let id = StackId(u32::try_from(self.stacks.len()).ok()?);
        self.stacks.push(stack.clone());
        self.by_stack.insert(stack, id);
        Some(id)
    }

    pub(super) fn stack(&self, id: StackId) -> Option<&Stack> {
        self.stacks.get(id.0 as usize)
    }

    /// Remembers a spawn.
    pub(super) fn keep(&mut self, seen: SpawnSeen) {
        let born = Born { target: seen.target, image: seen.image, task: seen.task };
        while self.by_task.len() >= self.caps.tasks && !self.by_task.contains_key(&born) {
            let Some(oldest) = self.order.pop_front() else { break };
            self.dropped.tasks += u64::from(self.by_task.remove(&oldest).is_some());
        }
        if self.by_task.insert(born, seen).is_none() {
            self.order.push_back(born);
        }
    }

    pub(super) fn of(&self, born: &Born) -> Option<&SpawnSeen> {
        self.by_task.get(born)
    }

    /// From the task's own spawn on: its spawner's, and so on, as far as they were seen.
    pub(super) fn chain(&self, born: &Born) -> Vec<&SpawnSeen> {
        let mut chain = Vec::new();
        let mut next = self.of(born);
        while let Some(seen) = next {
            chain.push(seen);
            // A spawner is older than what it spawns, whatever a stack may have said.
            let spawner = self.spawner(born.target, seen).and_then(|spawner| self.of(&spawner));
            next = spawner.filter(|spawner| spawner.at < seen.at);
        }
        chain
    }

    /// The task that made this spawn, where that is told.
    fn spawner(&self, target: TargetId, seen: &SpawnSeen) -> Option<Born> {
        match seen.trigger {
            Trigger::Task { id, vtable } => self.born(target, vtable, id),
            Trigger::OfType { .. } | Trigger::NoTask | Trigger::Unknown(_) => None,
        }
    }

    /// Forgets the tasks of a target that were born before this moment and neither live nor led to one that lives.
    pub(super) fn forget_ended(&mut self, target: TargetId, before: Ns, live: &HashSet<(ProcAddr, TaskId)>) {
        let live: HashSet<Born> = live.iter().filter_map(|(vtable, task)| self.born(target, *vtable, *task)).collect();
        let lives = |born: &Born, seen: &SpawnSeen| born.target != target || seen.at >= before || live.contains(born);
        let mut wanted: HashSet<Born> = HashSet::new();
        let living: Vec<Born> =
            self.by_task.iter().filter(|(born, seen)| lives(born, seen)).map(|(born, _)| *born).collect();
        for born in living {
            let mut next = Some(born);
            while let Some(born) = next.filter(|born| wanted.insert(*born)) {
                next = self.of(&born).and_then(|seen| self.spawner(born.target, seen));
            }
        }
        self.by_task.retain(|born, _| wanted.contains(born));
        self.order.retain(|born| wanted.contains(born) && self.by_task.contains_key(born));
    }

    pub(super) fn len(&self) -> usize {
        self.by_task.len()
    }

    pub(super) fn dropped(&self) -> Dropped {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Tid;
    use crate::session::spawns::copies::tests::copies;

    const TYPE: ProcAddr = ProcAddr(0x9000);

    fn spawn(task: u64, by: Option<u64>) -> SpawnSeen {
        let trigger = by.map_or(Trigger::NoTask, |id| Trigger::Task { id: TaskId(id), vtable: TYPE });
        let (at, target, image) = (Ns(task * 10), TargetId(0), PointIndex(3));
        SpawnSeen { at, target, image, tid: Tid(1), task: TaskId(task), stack: None, trigger }
    }

    fn born(task: u64) -> Born {
        Born { target: TargetId(0), image: PointIndex(3), task: TaskId(task) }
    }

    fn births(tasks: usize, spawns: &[(u64, Option<u64>)]) -> Births {
        let mut births = Births::new(Caps { tasks, stacks: 2 }, copies(&[(3, &[TYPE.0])]));
        spawns.iter().for_each(|(task, by)| births.keep(spawn(*task, *by)));
        births
    }

    fn chain(births: &Births, task: u64) -> Vec<u64> {
        births.chain(&born(task)).iter().map(|seen| seen.task.0).collect()
    }

    #[test]
    fn a_task_leads_to_its_spawner_and_on_to_the_first_that_was_seen() {
        let births = births(9, &[(3, Some(1)), (5, Some(3)), (6, None), (7, Some(5))]);
        assert_eq!(chain(&births, 7), [7, 5, 3]);
        assert_eq!(chain(&births, 6), [6]);
        assert_eq!(chain(&births, 8), [0; 0]);
    }

    #[test]
    fn a_chain_that_leads_back_to_itself_ends() {
        let births = births(9, &[(3, Some(5)), (5, Some(3)), (6, Some(6))]);
        assert_eq!((chain(&births, 5), chain(&births, 6)), (vec![5, 3], vec![6]));
    }

    #[test]
    fn the_oldest_make_room_and_are_counted() {
        let births = births(2, &[(1, None), (2, None), (3, None), (3, None)]);
        assert!(births.of(&born(1)).is_none() && births.of(&born(3)).is_some());
        assert_eq!((births.len(), births.dropped()), (2, Dropped { tasks: 1, stacks: 0 }));
    }

    #[test]
    fn the_same_calls_are_one_stack_and_too_many_different_ones_are_counted() {
        let mut births = births(9, &[]);
        let stack = |at: u64| Stack { target: TargetId(0), addresses: vec![ProcAddr(at)], end: UnwindEnd::Root };
        let ids: Vec<Option<StackId>> = [1, 2, 1, 3, 2].into_iter().map(|at| births.stack_id(stack(at))).collect();
        let [first, second] = [0, 1].map(|n| Some(StackId(n)));
        assert_eq!(ids, [first, second, first, None, second]);
        assert_eq!((births.dropped().stacks, births.stack(StackId(1))), (1, Some(&stack(2))));
    }

    #[test]
    fn who_ended_is_forgotten_unless_it_led_to_one_that_lives() {
        let mut births = births(9, &[(1, None), (2, Some(1)), (3, Some(2)), (4, None), (5, Some(4)), (6, None)]);
        births.forget_ended(TargetId(0), Ns(60), &HashSet::from([(TYPE, TaskId(3))]));
        let left: Vec<u64> = (1..=6).filter(|task| births.of(&born(*task)).is_some()).collect();
        assert_eq!(left, [1, 2, 3, 6], "the last was born too late to be judged");
        births.forget_ended(TargetId(1), Ns(u64::MAX), &HashSet::new());
        assert_eq!((births.len(), chain(&births, 3)), (4, vec![3, 2, 1]));
    }
}
