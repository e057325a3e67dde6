//! The state machine of one process: observations in order of time become events.
//!
//! Does not know other processes. The rules are tables in the documentation of [`Resources::observe`] (transitions),
//! `outcome` (what a JoinHandle would say) and `thread` (pairing).

use std::sync::Arc;

use crate::model::{
    AsyncId, Cell, CellWords, Event, EventKind, Frame, Naming, Ns, Observation, Outcome, PanicSight, Place, ProcAddr,
    QuickMap, Resource, ResourceFacts, Role, Seen, Sight, StageWords, TargetEntry, TaskId, TaskState, Tid, Unnamed,
};

use super::outcome::{Ending, Verdict, outcome};
use super::slots::Key;
use super::table::{Mint, Table};
use super::task::Task;
use super::thread::{Span, Thread};
use super::{Rules, Tally, Watched};

/// The resources of one process.
#[derive(Debug)]
pub(super) struct Resources {
    pub(super) entry: Arc<TargetEntry>,
    pub(super) table: Table,
    threads: QuickMap<Tid, Thread>,
    pub(super) rules: Rules,
    /// Records were lost: what was not seen may have happened.
    pub(super) lossy: bool,
    /// Since when calls are watched again, after they were not, unless a census has told since what threads were amid then.
    pub(super) resumed: Option<Ns>,
    /// There was a time at which not all was watched.
    pub(super) interrupted: bool,
    /// The last moment at which something may have happened that was not seen: who was not seen since may be gone.
    pub(super) blind: Option<Ns>,
    /// When a call was last seen of a task that nobody knows, unless a census has looked for it since.
    pub(super) missed: Option<Ns>,
    /// Entries at which no task of a known type stood.
    pub(super) foreign: u64,
    /// See [`super::Tally::unfollowed`].
    pub(super) unfollowed: u64,
}

impl Resources {
    /// Begins with nothing known.
    pub(super) fn new(entry: Arc<TargetEntry>, rules: Rules, mint: Mint) -> Self {
        Self {
            entry,
            table: Table::new(mint),
            threads: QuickMap::default(),
            rules,
            // Whoever begins meanwhile does so half seen.
            lossy: rules.sight != Sight::All,
            resumed: None,
            interrupted: rules.sight != Sight::All,
            blind: None,
            missed: None,
            foreign: 0,
            unfollowed: 0,
        }
    }

    /// How much is watched, steps in between aside.
    pub(super) fn watched(&self) -> Watched {
        match (self.entry.is_probed(), self.rules.ends) {
            (false, _) => Watched::Nothing,
            (true, false) => Watched::Births,
            (true, true) => Watched::Lives,
        }
    }

    /// Adds its counts, but for those of who lives.
    pub(super) fn added_to(&self, sum: Tally) -> Tally {
        let watched = self.watched();
        Tally {
            foreign: sum.foreign + self.foreign,
            unfollowed: sum.unfollowed + self.unfollowed,
            watched: sum.watched.max(watched),
            unplanted: sum.unplanted + u64::from(watched == Watched::Nothing),
            ..sum
        }
    }

    /// A thread has ended: nothing of its own is open any more.
    pub(super) fn thread_ended(&mut self, tid: Tid) {
        self.threads.remove(&tid);
    }

    /// See [`super::Lifecycle::sees`]. What threads are amid then is not seen to end, and what they are amid when calls are watched
    /// again was not seen to begin.
    pub(super) fn sees(&mut self, at: Ns, sight: Sight) {
        let before = std::mem::replace(&mut self.rules.sight, sight);
        if before == sight {
            return;
        }
        (self.lossy, self.interrupted) = (true, true);
        self.blind = self.blind.max(Some(at));
        self.resumed = (sight == Sight::All).then_some(at);
        self.threads.values_mut().for_each(Thread::lose_sight);
    }

    /// Takes one observation and says the events that follow from it.
    ///
    /// | seen | when | events, in this order |
    /// |---|---|---|
    /// | birth | always | init |
    /// | poll entered | task unknown | init (existing, or inferred after a loss or without spawn points), before |
    /// | poll entered | task known | before |
    /// | poll left | not complete, still there | after |
    /// | poll left | unsaid: nothing had changed | after (inferred) |
    /// | poll left | complete, or gone, by the task's latest poll | resolve, after, and destroy if gone |
    /// | any entered | its memory cannot be read, its task is known | as if it could |
    /// | any entered | its memory cannot be read, its task is not known | nothing; the session is asked to look again |
    /// | any left | its memory cannot be read | after (poll); the session is asked to look again |
    /// | poll left | complete or gone, a later poll of the task was seen | after, and destroy if gone and none is open |
    /// | shutdown left | entered idle, now complete or gone | resolve, and destroy if gone |
    /// | join or abort handle dropped | gone | destroy |
    /// | last reference given up | task known | destroy |
    /// | last reference given up | task unknown | nothing: its destroy was said before |
    /// | any entry at the header of another live task | that one was freed unseen | destroy (inferred) of that one |
    /// | anything that is not watched at the moment | | nothing: probes are half in, or half out |
    ///
    /// A destroy waits for the task's open polls: it is always a task's last event.
    pub(super) fn observe(&mut self, seen: &Observation, out: &mut Vec<Event>) {
        let moment = Moment { at: seen.at, tid: seen.tid };
        let least = if matches!(seen.seen, Seen::Birth { .. }) { Sight::Births } else { Sight::All };
        if self.rules.sight < least {
            return;
        }
        match seen.seen {
            Seen::Birth { vtable, minted } => self.born(moment, vtable, minted, out),
            Seen::Enter { role, frame, header, cell } => match self.entered_words(header, cell) {
                Some(words) => self.entered(moment, role, frame, header, words, out),
                None => self.is_nobody_s(moment, cell),
            },
            Seen::Release { header, cell } => match self.entered_words(header, cell) {
                Some(words) => self.released(moment, header, words, out),
                None => self.is_nobody_s(moment, cell),
            },
            Seen::Leave { role, frame, header, cell, stage } => {
                self.left(moment, (role, frame, header), cell, stage, out);
            }
            // What it says must be read first, see `panics`.
            Seen::Hook(_) => {}
            Seen::Raise => self.thread(moment).raised(),
        }
    }

    /// See [`super::Lifecycle::panics`].
    pub(super) fn panics(&mut self, seen: &Observation, at: Option<Arc<Place>>) {
        if self.rules.sight >= Sight::All {
            self.thread(Moment { at: seen.at, tid: seen.tid }).hooked(at);
        }
    }

    /// See [`super::Lifecycle::lost`].
    pub(super) fn lost(&mut self, until: Ns) {
        self.lossy = true;
        self.blind = self.blind.max(Some(until));
        self.threads.values_mut().for_each(Thread::forget_panics);
    }

    fn born(&mut self, moment: Moment, vtable: ProcAddr, minted: Option<TaskId>, out: &mut Vec<Event>) {
        // An id that is already taken was not this task's: the mint of this birth was not seen.
        let minted = minted.filter(|id| self.table.find(&Key { vtable, id: *id }).is_none());
        if !self.rules.room {
            self.unfollowed += 1;
            return;
        }
        let trigger = self.trigger(moment);
        let id = self.table.add(Task::born(moment, vtable, minted));
        if let Some(Some(from)) = trigger {
            self.table.descend(id, from);
        }
        let facts = self.facts(vtable, minted, None);
        out.push(self.event(moment, false, EventKind::Init { id, trigger, existing: false, resource: facts }));
    }

    /// The words of the task that is entered. Where they cannot be read its page is away for a moment, and not the task: who
    /// is called with a header holds a reference. It is the one that was last seen there, unless that may be gone.
    fn entered_words(&mut self, header: ProcAddr, cell: Cell) -> Option<CellWords> {
        match cell {
            Cell::Task(words) => Some(words),
            Cell::Foreign | Cell::Unsaid => None,
            Cell::Unreadable if self.lossy => None,
            Cell::Unreadable => {
                let id = self.table.at(header)?;
                let task = self.table.get_mut(id).filter(|task| !task.doubtful)?;
                task.miss_a_sight();
                Some(CellWords { vtable: task.vtable, id: task.task_id()?, state: TaskState::UNSEEN, queue_next: 0 })
            }
        }
    }

    /// A call of a task that cannot be told.
    fn is_nobody_s(&mut self, moment: Moment, cell: Cell) {
        self.foreign += 1;
        // It is as if its record had been lost.
        if cell == Cell::Unreadable {
            self.lossy = true;
            self.missed = Some(moment.at);
            self.blind = self.blind.max(self.missed);
        }
    }

    fn entered(
        &mut self,
        moment: Moment,
        role: Role,
        frame: Frame,
        header: ProcAddr,
        words: CellWords,
        out: &mut Vec<Event>,
    ) {
        let Some(id) = self.stands(moment, header, words, out) else { return };
        if self.threads.get(&moment.tid).is_some_and(|thread| thread.is_in(id, role, frame)) {
            // One vtable's function jumps to another's: two probes, one call.
            return;
        }
        let Some(task) = self.table.get_mut(id) else { return };
        let serial = task.enter(role, words.state);
        let span = Span { id, role, frame, header, serial, entered: words.state };
        let worker = self.is_worker(words.vtable);
        for ended in self.thread(moment).push(span, worker) {
            self.ended_unseen(moment, ended, out);
        }
        if role == Role::Poll {
            out.push(self.event(moment, false, EventKind::Before(id)));
        }
    }

    /// The last reference to the task with these words is given up. A task that was never seen, or not since it was freed (one function
    /// may jump to another's that is probed, too), is none of which there would be anything to say.
    fn released(&mut self, moment: Moment, header: ProcAddr, words: CellWords, out: &mut Vec<Event>) {
        if self.table.find(&Key { vtable: words.vtable, id: words.id }).is_none() {
            return;
        }
        let Some(id) = self.stands(moment, header, words, out) else { return };
        if let Some(task) = self.table.get_mut(id) {
            task.gone = true;
        }
        self.bury_if_done(moment, id, out);
    }

    /// The task with these words stands at this header, and is what they say: which it is.
    fn stands(&mut self, moment: Moment, header: ProcAddr, words: CellWords, out: &mut Vec<Event>) -> Option<AsyncId> {
        let id = self.meet(moment, Key { vtable: words.vtable, id: words.id }, header, words.state, out)?;
        let task = self.table.get_mut(id)?;
        task.seen_at = moment.at;
        task.doubtful = false;
        task.notice(words.state);
        if words.state.is_complete() && task.missed_its_end() {
            self.resolve(moment, id, (Outcome::Unknown, None), true, out);
        }
        Some(id)
    }

    fn left(
        &mut self,
        moment: Moment,
        (role, frame, header): (Role, Frame, Option<ProcAddr>),
        cell: Cell,
        stage: Option<StageWords>,
        out: &mut Vec<Event>,
    ) {
        let (ended, left) = self.thread(moment).pop(role, frame, header);
        for span in ended {
            self.ended_unseen(moment, span, out);
        }
        // Without its entry (lost, or before the attach) a return says nothing that can be told safely.
        let Some(span) = left else { return };
        // One that began before calls went out of sight is over, whoever it is that returns now.
        if cell == Cell::Unsaid || (header.is_none() && span.is_stale()) {
            return self.ended_unseen(moment, span.span, out);
        }
        let (raised, panicked_at) = self.thread(moment).take_raised();
        let Some(task) = self.table.get_mut(span.span.id) else { return };
        let contested = task.is_contested();
        task.leave(role, span.span.entered);
        let Some(task) = self.table.get(span.span.id) else { return };
        let holder = self.entry.holder_of(task.vtable);
        let task_type = holder.map(|(_, entry)| &entry.task);
        // A panic is seen where the code of the task's own image begins it.
        let panics = holder.map_or(PanicSight::Unseen, |(mapped, _)| mapped.image.panics);
        let closure = task_type.is_some_and(|known| known.resource == Resource::Blocking);
        let layout = task_type.map(|known| known.layout);
        let unreadable = cell == Cell::Unreadable;
        let alive = match cell {
            Cell::Task(words) if task.is_at(words.vtable, words.id) => {
                layout.filter(|layout| words.is_plausible(layout)).map(|_| words)
            }
            _ => None,
        };
        let Some(task) = self.table.get_mut(span.span.id) else { return };
        if let Some(words) = alive {
            task.notice(words.state);
        }
        let verdict = if unreadable {
            Verdict::Pending
        } else {
            outcome(&Ending {
                role,
                closure,
                entered: span.span.entered,
                latest: task.may_be_completed_by(span.span.serial),
                alive: alive.map(|words| words.state),
                contested,
                cancel_seen: task.may_be_cancelled(),
                evidence: stage
                    .zip(task.task_id())
                    .zip(layout)
                    .map(|((s, id), layout)| s.evidence(id, layout.stage_tagged)),
                raised,
                panics,
            })
        };
        let id = span.span.id;
        if let Verdict::Resolved { outcome, inferred } = verdict {
            let panicked_at = panicked_at.filter(|_| outcome == Outcome::Panicked);
            self.resolve(moment, id, (outcome, panicked_at), inferred, out);
        }
        if role == Role::Poll {
            out.push(self.event(moment, false, EventKind::After(id)));
        }
        if let Some(task) = self.table.get_mut(id) {
            task.seen_at = moment.at;
            task.gone |= alive.is_none() && !unreadable;
            task.doubtful = unreadable;
        }
        self.bury_if_done(moment, id, out);
    }

    /// The task at this header: known by its id, or by a birth that still waits for its first sight, or new to us. `None`
    /// where there is no room for a new one.
    fn meet(
        &mut self,
        moment: Moment,
        key: Key,
        header: ProcAddr,
        state: TaskState,
        out: &mut Vec<Event>,
    ) -> Option<AsyncId> {
        let known = self.table.find(&key).or_else(|| self.table.identify(&key));
        if known.is_none() && !self.rules.room {
            self.unfollowed += 1;
            return None;
        }
        let id = known.unwrap_or_else(|| {
            let id = self.table.add(Task::met(moment, key.vtable, key.id));
            // Who would have been seen born was born before.
            let existing = self.rules.births && !self.lossy && self.sees_born(key.vtable);
            let facts = self.facts(key.vtable, Some(key.id), Some(header));
            let kind = EventKind::Init { id, trigger: None, existing, resource: facts };
            out.push(self.event(moment, true, kind));
            id
        });
        if let Some(freed) = self.table.settle(id, header) {
            self.ended_by_reuse(moment, freed, out);
        }
        if state.is_complete()
            && let Some(task) = self.table.get_mut(id)
            && known.is_none()
        {
            // It was complete when first met: its end was before our time.
            task.resolved = true;
        }
        Some(id)
    }

    fn resolve(
        &mut self,
        moment: Moment,
        id: AsyncId,
        (outcome, panicked_at): (Outcome, Option<Arc<Place>>),
        inferred: bool,
        out: &mut Vec<Event>,
    ) {
        let first = self.table.get_mut(id).is_some_and(|task| !std::mem::replace(&mut task.resolved, true));
        if first {
            out.push(self.event(moment, inferred, EventKind::Resolve(id, outcome, panicked_at)));
        }
    }

    fn bury_if_done(&mut self, moment: Moment, id: AsyncId, out: &mut Vec<Event>) {
        if self.table.get(id).is_some_and(Task::is_done) {
            out.push(self.event(moment, false, EventKind::Destroy(id)));
            self.table.remove(id);
        }
    }

    /// A call whose return was not seen, but must have happened.
    fn ended_unseen(&mut self, moment: Moment, span: Span, out: &mut Vec<Event>) {
        let Some(task) = self.table.get_mut(span.id) else { return };
        task.leave(span.role, span.entered);
        if span.role == Role::Poll {
            out.push(self.event(moment, true, EventKind::After(span.id)));
        }
        self.bury_if_done(moment, span.id, out);
    }

    /// Another task stands at this one's address: it was freed, on a way we did not see.
    fn ended_by_reuse(&mut self, moment: Moment, id: AsyncId, out: &mut Vec<Event>) {
        let Some(task) = self.table.get_mut(id) else { return };
        task.gone = true;
        if task.is_done() {
            let resolved = task.resolved;
            if !resolved {
                self.resolve(moment, id, (Outcome::Unknown, None), true, out);
            }
            out.push(self.event(moment, true, EventKind::Destroy(id)));
            self.table.remove(id);
        }
    }

    /// What this thread is running: `None` unknown, `Some(None)` nothing that can be a trigger.
    fn trigger(&mut self, moment: Moment) -> Option<Option<AsyncId>> {
        if !self.rules.polls || self.rules.sight != Sight::All {
            return None;
        }
        match self.threads.get(&moment.tid) {
            Some(thread) if thread.is_known() => thread.innermost(),
            Some(thread) if thread.is_doubtful() => None,
            // It may have been amid a poll when calls came into sight.
            _ if self.resumed.is_some() => None,
            // A task was running at the attach on a thread that could not be told: it may be this one.
            _ if self.table.has_unplaced() => None,
            _ => Some(None),
        }
    }

    pub(super) fn thread(&mut self, moment: Moment) -> &mut Thread {
        self.threads.entry(moment.tid).or_default()
    }

    /// Whether births of this type are watched.
    pub(super) fn sees_born(&self, vtable: ProcAddr) -> bool {
        self.entry.type_at(vtable).is_some_and(|entry| entry.births)
    }

    pub(super) fn is_worker(&self, vtable: ProcAddr) -> bool {
        self.entry.type_at(vtable).is_some_and(|entry| entry.task.worker)
    }

    fn event(&self, moment: Moment, inferred: bool, kind: EventKind) -> Event {
        let root = kind.id().map(|id| self.table.root(id));
        Event { at: moment.at, pid: Some(self.entry.pid), tid: Some(moment.tid), root, inferred, kind }
    }

    pub(super) fn facts(
        &self,
        vtable: ProcAddr,
        task_id: Option<TaskId>,
        address: Option<ProcAddr>,
    ) -> Box<ResourceFacts> {
        let entry = self.entry.type_at(vtable);
        Box::new(ResourceFacts {
            resource: entry.map_or(Resource::Task, |entry| entry.task.resource),
            task_id,
            address,
            type_id: entry.map(|entry| entry.id.clone()),
            future: entry.map_or(Naming::Unknown(Unnamed::NotSearched), |entry| entry.task.future.clone()),
            place: entry.and_then(|entry| entry.task.place.clone()),
        })
    }
}

/// When and where an observation was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Ns,
    pub(super) tid: Tid,
}
