//! What a census adds to what the probes told: tasks from before the attach, and the truth again after a loss.
//!
//! | the census | the table | then |
//! |---|---|---|
//! | found it | has it | its header is noted; complete and unresolved: resolve (unknown, inferred) |
//! | found it | freed it since the census began | nothing: it is gone |
//! | found it | has a birth of its type that waits for its id | that birth is this task |
//! | found it | does not have it | init, existing; after a loss: init, inferred |
//! | found it running, the first since calls are watched again | | its thread may be in a poll of it: no trigger is known there |
//! | looked and did not find it, complete census | has it, not seen since the census began | destroy (inferred) |
//!
//! The probes are attached before the census begins, and the census is taken in when all records up to its end are:
//! a task born in between has its record, and appears once.

use crate::model::{
    AsyncId, Event, EventKind, LiveTask, Ns, Outcome, ProcAddr, Resource, Sight, TargetId, TaskId, Tid,
};

use super::resources::{Moment, Resources};
use super::slots::Key;
use super::task::Task;

/// From a birth to the task's place in its list at most, a thread that is kept from running included.
const UNBORN: Ns = Ns(1_000_000_000);

/// A finished census of one target.
#[derive(Clone, Debug)]
pub struct Census {
    /// The process.
    pub target: TargetId,
    /// When reading began.
    pub began: Ns,
    /// When reading ended.
    pub ended: Ns,
    /// All memory that can hold a task was read.
    pub complete: bool,
    /// What stands in memory.
    pub found: Vec<LiveTask>,
    /// Resources whose headers were read one by one and are not theirs any more.
    pub gone: Vec<AsyncId>,
}

/// Where a resource's cell was seen.
#[derive(Clone, Copy, Debug)]
pub struct KnownCell {
    /// The resource.
    pub id: AsyncId,
    /// Its header.
    pub header: ProcAddr,
    /// Its type.
    pub vtable: ProcAddr,
    /// Its task id.
    pub task: TaskId,
}

impl Resources {
    /// Takes in a census. All observations up to its end must have been taken before.
    pub(super) fn reconcile(&mut self, census: &Census, out: &mut Vec<Event>) {
        let buried = self.table.take_buried();
        self.missed = self.missed.filter(|at| !census.complete || *at >= census.began);
        let mut found: Vec<&LiveTask> = census.found.iter().collect();
        // By id, so that resources get their async ids in the order in which they were spawned.
        found.sort_by_key(|task| task.id);
        let mut there = std::collections::HashSet::new();
        for task in found {
            let key = Key { vtable: task.vtable, id: task.id };
            if !buried.contains(&key) {
                there.extend(self.found(census, key, task, out));
            }
        }
        for id in self.vanished(census, &there) {
            self.conclude_end(census, id, out);
        }
        // What began before calls were watched has been met by now.
        self.resumed = self.resumed.filter(|at| !census.complete || *at >= census.began);
    }

    /// See [`super::Lifecycle::known_cells`].
    pub(super) fn known_cells(&self) -> Vec<KnownCell> {
        let of = |(id, task): (AsyncId, &Task)| {
            Some(KnownCell { id, header: task.header()?, vtable: task.vtable, task: task.task_id()? })
        };
        self.table.iter().filter(|(_, task)| self.lossy || task.doubtful).filter_map(of).collect()
    }

    /// Whether a resource is in doubt, so that its cell should be looked at again, or nobody knows which one.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.missed.is_some() || self.table.iter().any(|(_, task)| task.doubtful)
    }

    /// How many may have ended, unseen: [`super::Left::unsure`].
    pub(super) fn unsure(&self) -> u64 {
        let watches = self.rules.ends && self.rules.sight == Sight::All && self.resumed.is_none();
        let may_be_gone = |task: &Task| !watches || task.doubtful || self.blind.is_some_and(|at| task.seen_at <= at);
        self.table.iter().filter(|(_, task)| may_be_gone(task)).count() as u64
    }

    fn found(&mut self, census: &Census, key: Key, task: &LiveTask, out: &mut Vec<Event>) -> Option<AsyncId> {
        let known = self.table.find(&key).or_else(|| self.table.identify(&key));
        if known.is_none() && !self.rules.room {
            self.unfollowed += 1;
            return None;
        }
        let running = task.state.is_running();
        // A poll that began out of sight is not seen to end the task.
        let followed = self.resumed.filter(|_| running).unwrap_or(census.began);
        let id = known.unwrap_or_else(|| {
            let moment = Moment { at: followed, tid: Tid(0) };
            let id = self.table.add(Task::met(moment, key.vtable, key.id));
            let resource = self.facts(key.vtable, Some(key.id), Some(task.header));
            // It may have been born since, unseen.
            let inferred = self.lossy || (self.rules.births && !self.sees_born(key.vtable));
            let kind = EventKind::Init { id, trigger: None, existing: !inferred, resource };
            out.push(self.concluded(census, inferred, kind));
            id
        });
        // Only where nothing was seen there yet: a later record knows better than an earlier reading.
        if self.table.get(id).is_some_and(|entry| entry.header().is_none())
            && let Some(freed) = self.table.settle(id, task.header)
        {
            self.conclude_end(census, freed, out);
        }
        if let Some(entry) = self.table.get_mut(id) {
            entry.seen_at = entry.seen_at.max(followed);
        }
        let complete = task.state.is_complete();
        if known.is_none() {
            // A new acquaintance: what it is doing now began before our time.
            if let Some(entry) = self.table.get_mut(id) {
                entry.resolved = complete;
                entry.notice(task.state);
            }
        }
        // Whose poll was not seen to begin; of those that are known that is so if calls were out of sight.
        if (known.is_none() || self.resumed.is_some()) && running && !self.is_worker(key.vtable) {
            match task.running_on {
                Some(tid) => {
                    let resumed = self.resumed.is_some();
                    let thread = self.thread(Moment { at: census.ended, tid });
                    if resumed { thread.may_be_in_a_task() } else { thread.attached_in(id) }
                }
                None => self.table.unplace(id),
            }
        }
        if complete && self.lossy {
            self.conclude_resolve(census, id, out);
        }
        Some(id)
    }

    /// Who is in the table, was not seen since the census began, and is not in memory.
    fn vanished(&self, census: &Census, there: &std::collections::HashSet<AsyncId>) -> Vec<AsyncId> {
        let mut ids: Vec<AsyncId> = census.gone.clone();
        if self.lossy && census.complete {
            let absent = |(id, task): &(AsyncId, &Task)| {
                let async_task =
                    self.entry.type_at(task.vtable).is_some_and(|entry| entry.task.resource == Resource::Task);
                async_task && !there.contains(id)
            };
            ids.extend(self.table.iter().filter(absent).map(|(id, _)| id));
        }
        ids.retain(|id| {
            self.table.get(*id).is_some_and(|task| task.seen_at < census.began && !self.is_unborn(task, census))
        });
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether only its birth was seen, shortly before the census, and its polls are not watched: its cell may have been made after
    /// that place was read. A later census tells.
    fn is_unborn(&self, task: &Task, census: &Census) -> bool {
        self.interrupted && task.header().is_none() && census.began.since(task.seen_at) < UNBORN
    }

    fn conclude_end(&mut self, census: &Census, id: AsyncId, out: &mut Vec<Event>) {
        let Some(task) = self.table.get_mut(id) else { return };
        for _ in 0..task.close_polls() {
            out.push(self.concluded(census, true, EventKind::After(id)));
        }
        self.conclude_resolve(census, id, out);
        out.push(self.concluded(census, true, EventKind::Destroy(id)));
        self.table.remove(id);
    }

    fn conclude_resolve(&mut self, census: &Census, id: AsyncId, out: &mut Vec<Event>) {
        let first = self.table.get_mut(id).is_some_and(|task| !std::mem::replace(&mut task.resolved, true));
        if first {
            out.push(self.concluded(census, true, EventKind::Resolve(id, Outcome::Unknown, None)));
        }
    }

    fn concluded(&self, census: &Census, inferred: bool, kind: EventKind) -> Event {
        let root = kind.id().map(|id| self.table.root(id));
        Event { at: census.ended, pid: Some(self.entry.pid), tid: None, root, inferred, kind }
    }
}
