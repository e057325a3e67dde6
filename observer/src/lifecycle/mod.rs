//! The state machine: observations in order of time become events with minted ids.
//!
//! Pure: no clock, no `/proc`. Does not know bytes, probes or rendering. What is known of a process goes with it: each has
//! its own `Resources`, and only the ids are common.

mod resources;
mod outcome;
mod reconcile;
mod slots;
mod table;
mod task;
mod thread;
mod watched;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::model::{Event, EventKind, Ns, Observation, Place, QuickMap, Sight, TargetEntry, TargetId, Tid};

pub use reconcile::{Census, KnownCell};
pub use watched::Watched;

use resources::Resources;
use table::Mint;

/// The life of every resource of one session.
#[derive(Debug)]
pub struct Lifecycle {
    targets: QuickMap<TargetId, Resources>,
    rules: Rules,
    mint: Mint,
    /// In targets that are gone.
    before: Tally,
}

/// What the session attached, as far as the rules depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Polls are observed: without them no trigger is known.
    pub polls: bool,
    /// Spawn sites are observed: without them a task is first met at its first poll.
    pub births: bool,
    /// All that may free a task is observed: without that nobody knows of one that was born whether it lives.
    pub ends: bool,
    /// There may be other processes than those that are known: nobody can tell whose records are lost.
    pub others: bool,
    /// There is room for resources that are new.
    pub room: bool,
    /// What of all that is watched at the moment.
    pub sight: Sight,
}

/// Counts that are no events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Resources alive now.
    pub live: u64,
    /// Those of them that may have been freed, unseen: [`Left::unsure`].
    pub unsure: u64,
    /// Entries at which no task of a known type stood, or whose memory could not be read where none was known to stand.
    pub foreign: u64,
    /// Births, and first sights of tasks, that were not taken in for want of room.
    pub unfollowed: u64,
    /// What was watched where most was.
    pub watched: Watched,
    /// Targets in which nothing was.
    pub unplanted: u64,
}

/// What a target left when it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Resources of which no end was seen: they ended with it, at the latest.
    pub live: u64,
    /// Those of them that may have ended before, unseen: their memory could not be read when a call was last seen to return from them;
    /// or records were lost, or not all was watched, after they were last seen; or no end is watched.
    pub unsure: u64,
    /// What was watched.
    pub watched: Watched,
}

impl Lifecycle {
    /// Begins with nothing known.
    pub fn new(rules: Rules) -> Self {
        Self { targets: QuickMap::default(), rules, mint: Mint::default(), before: Tally::default() }
    }

    /// What is known of a target, from now on.
    pub fn target(&mut self, id: TargetId, entry: Arc<TargetEntry>) {
        match self.targets.get_mut(&id) {
            Some(known) => known.entry = entry,
            None => drop(self.targets.insert(id, Resources::new(entry, self.rules, self.mint.clone()))),
        }
    }

    /// The process has ended, or runs another program: all of it is forgotten. Gives what of it was left.
    pub fn target_ended(&mut self, id: TargetId) -> Left {
        let Some(ended) = self.targets.remove(&id) else { return Left::default() };
        self.before = ended.added_to(self.before);
        Left { live: ended.table.len() as u64, unsure: ended.unsure(), watched: ended.watched() }
    }

    /// A thread has ended.
    pub fn thread_ended(&mut self, target: TargetId, tid: Tid) {
        if let Some(resources) = self.targets.get_mut(&target) {
            resources.thread_ended(tid);
        }
    }

    /// Counts that are no events.
    pub fn tally(&self) -> Tally {
        self.targets.values().fold(self.before, |sum, resources| Tally {
            live: sum.live + resources.table.len() as u64,
            unsure: sum.unsure + resources.unsure(),
            ..resources.added_to(sum)
        })
    }

    /// Whether there is room for resources that are new. Those that are known stay known.
    pub fn has_room(&mut self, room: bool) {
        self.rules.room = room;
        self.targets.values_mut().for_each(|resources| resources.rules.room = room);
    }

    /// From this moment on so much is watched. What was not watched may have happened, as after a loss; a census that begins later
    /// tells what became of those that are known.
    pub fn sees(&mut self, at: Ns, sight: Sight) {
        self.rules.sight = sight;
        self.targets.values_mut().for_each(|resources| resources.sees(at, sight));
    }

    /// Takes one observation and says the events that follow from it, see `Resources::observe`.
    pub fn observe(&mut self, seen: &Observation, out: &mut Vec<Event>) {
        if let Some(resources) = self.targets.get_mut(&seen.target) {
            resources.observe(seen, out);
        }
    }

    /// Takes in that a panic is told to the program's hook ([`crate::model::Seen::Hook`]), with its place where that could be read.
    pub fn panics(&mut self, seen: &Observation, at: Option<Arc<Place>>) {
        if let Some(resources) = self.targets.get_mut(&seen.target) {
            resources.panics(seen, at);
        }
    }

    /// Says at this moment that `count` records found no room, the last of them `until` then at the latest.
    pub fn lost(&mut self, at: Ns, (count, until): (u64, Ns), out: &mut Vec<Event>) {
        self.targets.values_mut().for_each(|resources| resources.lost(until));
        // The rings are shared: with several targets nobody can tell whose records were lost.
        let only = if self.targets.len() == 1 && !self.rules.others { self.targets.values().next() } else { None };
        let pid = only.map(|resources| resources.entry.pid);
        out.push(Event { at, pid, tid: None, root: None, inferred: false, kind: EventKind::Lost { count } });
    }

    /// A census of this target begins: until it is taken in, remember who is freed.
    pub fn census_begins(&mut self, target: TargetId) {
        if let Some(resources) = self.targets.get_mut(&target) {
            resources.table.remember_buried();
        }
    }

    /// Takes in a census. All observations up to its end must have been taken before.
    pub fn reconcile(&mut self, census: &Census, out: &mut Vec<Event>) {
        if let Some(resources) = self.targets.get_mut(&census.target) {
            resources.reconcile(census, out);
        }
    }

    /// The cells of a target's resources that may be gone unseen: whoever takes the census reads each one that it did
    /// not find, and says which are gone. After a loss these are all, without one those whose memory could not be read
    /// when a call of theirs ended.
    pub fn known_cells(&self, target: TargetId) -> Vec<KnownCell> {
        self.targets.get(&target).map_or_else(Vec::new, Resources::known_cells)
    }

    /// Whether a resource of this target is in doubt, so that its cell should be looked at again.
    pub fn is_in_doubt(&self, target: TargetId) -> bool {
        self.targets.get(&target).is_some_and(Resources::is_in_doubt)
    }
}
