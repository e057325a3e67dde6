//! The event arm: records and news in order of time become events, and events go to the sink.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;

use crate::attach::{AttachError, Counters, Probes};
use crate::decode::{Malformed, decode, image_of};
use crate::lifecycle::{Census, Left, Lifecycle};
use crate::model::{Event, EventKind, Ns, Observation, Pid, Seen, TargetId};
use crate::sink::{Gone, Sink, Spawned, Totals};
use crate::target::monotonic_now;

use super::budget::Level;
use super::error::SessionError;
use super::intake::Intake;
use super::long_stacks::LongStacks;
use super::marks::{Mark, Marks};
use super::outlet::{Left as Unwritten, Outlet};
use super::overhead::{Costs, as_far_as_known};
use super::panic_places::PanicPlaces;
use super::population::{Beginning, Change, Ending, Population};
use super::said_polls::SaidPolls;
use super::sums::Sums;
use super::tier::Tier;

/// For how long records are held back at most to be put in order, where the kernel does not say sooner that all that is
/// earlier has been written: longer than a thread may be descheduled between a probe's clock and its write to the ring.
pub(super) const WINDOW: Ns = Ns(100_000_000);

/// And for how long where memory is short.
pub(super) const SHORT_WINDOW: Ns = Ns(20_000_000);

/// How often the rings are looked at when no watermark wakes us.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// Records that are rendered between two glances at whether what is rendered can be written.
const BETWEEN_GLANCES: u64 = 1024;
/// And as many at most before the loop looks at the clock, and hears whether it is to end: milliseconds, where this program is not
/// starved.
const AT_ONCE: u64 = 4096;

/// The event arm: everything after the kernel.
pub(super) struct Stream {
    pub(super) population: Population,
    lifecycle: Lifecycle,
    pub(super) intake: Intake,
    marks: Marks,
    sink: Box<dyn Sink>,
    out: Outlet,
    totals: Totals,
    lost: u64,
    /// Up to when all has been taken in and said.
    told: Ns,
    /// There is more to be said at once than was.
    behind: bool,
    events: Vec<Event>,
    malformed: Option<Malformed>,
    changes: Vec<(Ns, Change)>,
    sums: Option<Sums>,
    /// `None` where it does not change which polls are said.
    said_polls: Option<SaidPolls>,
    panic_places: PanicPlaces,
    /// `None` where nobody asked for them.
    stacks: Option<LongStacks>,
}

impl Stream {
    /// With sums of polls, if they are wanted.
    pub(super) fn new(
        population: Population,
        mut lifecycle: Lifecycle,
        (sink, out): (Box<dyn Sink>, Outlet),
        every_poll: bool,
        sums: Option<Sums>,
    ) -> Self {
        for (id, entry) in population.catalog().targets() {
            lifecycle.target(id, entry.clone());
        }
        Self {
            population,
            lifecycle,
            intake: Intake::default(),
            marks: Marks::default(),
            sink,
            out,
            totals: Totals { every_poll, ..Totals::default() },
            lost: 0,
            told: Ns(0),
            behind: false,
            events: Vec::new(),
            malformed: None,
            changes: Vec::new(),
            sums,
            said_polls: None,
            panic_places: PanicPlaces::default(),
            stacks: None,
        }
    }

    /// Whether each poll is said may change from now on: at first it is. Those that are not said are summed up, where there are sums.
    pub(super) fn may_sum_up(&mut self) {
        self.said_polls = Some(SaidPolls::new());
    }

    /// Births are said with the stacks that they were spawned through.
    pub(super) fn say_stacks(&mut self, stacks: LongStacks) {
        self.stacks = Some(stacks);
    }

    /// The stacks, if they are said.
    pub(super) fn stacks(&mut self) -> Option<&mut LongStacks> {
        self.stacks.as_mut()
    }

    /// Says of stacks what has become known, or all that is left.
    pub(super) fn report_stacks(&mut self, now: Ns, last: bool) -> io::Result<()> {
        let Self { stacks: Some(stacks), sink, out, .. } = self else { return Ok(()) };
        if !last && out.is_full() {
            return Ok(());
        }
        let told = if last { stacks.rest() } else { stacks.told() };
        told.iter().try_for_each(|stack| sink.stack(now, stack, out))
    }

    pub(super) fn lifecycle(&mut self) -> &mut Lifecycle {
        &mut self.lifecycle
    }

    /// The sink and where it writes.
    pub(super) fn sink(&mut self) -> (&mut dyn Sink, &mut dyn Write) {
        (self.sink.as_mut(), &mut self.out)
    }

    /// Whether what is to be said has to wait, because what was said is not written yet.
    pub(super) fn is_stalled(&self) -> bool {
        self.out.is_full()
    }

    /// Takes in how many records were lost since the last time, and gives that. While nothing can be said they are put together.
    pub(super) fn count_lost(&mut self, probes: &Probes, now: Ns) -> Result<u64, AttachError> {
        let counters = probes.counters()?;
        // Of calls on other stacks nothing is known either.
        let lost = counters.lost + counters.elsewhere;
        self.totals.elsewhere = counters.elsewhere;
        let new = lost.saturating_sub(self.lost);
        if new > 0 {
            self.lost = lost;
            // Some may have been lost since that moment.
            self.marks.lost(now, new, monotonic_now());
        }
        Ok(new)
    }

    /// Takes in a census when all records up to its end have been.
    pub(super) fn census(&mut self, census: Census) {
        self.mark(census.ended, Mark::Census(census));
    }

    /// Takes this in when all records up to that moment have been.
    pub(super) fn mark(&mut self, at: Ns, mark: Mark) {
        self.marks.push(at, mark);
    }

    /// Whether something waits for its turn.
    pub(super) fn holds_back(&self) -> bool {
        !self.marks.is_empty() || !self.intake.is_empty()
    }

    /// Whether the last [`Self::release`] has left some for the next, because there were many.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// Says the events up to the horizon, or as many as find room, or a great many of them. Gives what became of the targets, and when.
    pub(super) fn release(&mut self, horizon: Ns) -> io::Result<Vec<(Ns, Change)>> {
        if let Some(stacks) = &mut self.stacks {
            stacks.fill();
        }
        self.say_up_to(horizon, true)?;
        self.out.flush()?;
        Ok(std::mem::take(&mut self.changes))
    }

    /// Says all events up to the horizon, however much is not written yet.
    pub(super) fn release_all(&mut self, horizon: Ns) -> io::Result<()> {
        self.say_up_to(horizon, false)?;
        self.out.flush()
    }

    /// What is left to be written.
    pub(super) fn unwritten(&self) -> io::Result<Unwritten> {
        self.out.left()
    }

    fn say_up_to(&mut self, horizon: Ns, holds: bool) -> io::Result<()> {
        let mut room = if holds { AT_ONCE } else { u64::MAX };
        while let Some(at) = self.marks.due(horizon) {
            if !self.records(at, holds, &mut room)? {
                return Ok(());
            }
            if let Some((at, mark)) = self.marks.pop() {
                self.take_mark(at, mark)?;
            }
        }
        if self.records(horizon, holds, &mut room)? {
            self.told = self.told.max(horizon);
        }
        Ok(())
    }

    fn take_mark(&mut self, at: Ns, mark: Mark) -> io::Result<()> {
        let changes = match mark {
            Mark::Lost(count, until) => {
                self.lifecycle.lost(at, (count, until), &mut self.events);
                return self.say();
            }
            Mark::LostNews(lost) => {
                self.totals.lost_news += lost.count.unwrap_or(0);
                return self.sink.lost_news(&lost, &mut self.out);
            }
            Mark::Census(census) => {
                self.lifecycle.reconcile(&census, &mut self.events);
                return self.say();
            }
            Mark::ThreadEnded(pid, tid) => {
                if let Some(target) = self.population.catalog().of_process(pid) {
                    self.lifecycle.thread_ended(target, tid);
                }
                if let Some(sums) = &mut self.sums {
                    sums.thread_ended(tid);
                }
                if let Some(polls) = &mut self.said_polls {
                    polls.thread_ended(tid);
                }
                self.changes.push((at, Change::ThreadEnded(pid, tid)));
                return Ok(());
            }
            Mark::Sight(sight) => {
                self.lifecycle.sees(at, sight);
                return Ok(());
            }
            Mark::Tier(tier, stepped) => {
                if let Some(polls) = &mut self.said_polls {
                    polls.say_each(tier == Tier::Full);
                }
                return self.sink.stepped(&stepped, &mut self.out);
            }
            Mark::Step(pid, step) => self.population.step(pid, &step),
            Mark::Listed(residents) => self.population.listed(residents),
            Mark::ListingOver => self.population.listing_over(),
            Mark::Attached(file, attached) => self.population.attached(file, attached),
            Mark::Released(file) => self.population.released(file),
        };
        changes.into_iter().try_for_each(|change| self.change(at, change))
    }

    /// A target begins, changes or ends.
    fn change(&mut self, at: Ns, change: Change) -> io::Result<()> {
        let Self { population, lifecycle, sink, out, totals, sums, said_polls, panic_places, stacks, .. } = self;
        match change {
            Change::Begins { id, why } => {
                let Some(entry) = population.catalog().target(id) else { return Ok(()) };
                lifecycle.target(id, entry.clone());
                if why != Beginning::Loaded {
                    totals.targets += 1;
                }
                sink.target(at, entry, why.as_str(), out)?;
            }
            Change::Ends { id, pid, why } => {
                if let Some(sums) = sums {
                    // Nothing is said of its tasks after its end.
                    sink.polled(at, &sums.report(at, None)?, out)?;
                    sums.process_ended(pid, why != Ending::Exited)?;
                }
                if let Some(polls) = said_polls {
                    polls.process_ended(pid);
                }
                if let Some(stacks) = stacks {
                    stacks.process_ended(pid);
                }
                panic_places.target_ended(id);
                let Left { live, unsure, watched } = lifecycle.target_ended(id);
                totals.ended_with_process += live;
                sink.gone(&Gone { at, pid, why: why.as_str(), live, unsure, watched }, out)?;
            }
            Change::ThreadEnded(..) => {}
        }
        self.changes.push((at, change));
        Ok(())
    }

    /// Says what records up to the horizon tell. Whether it was all of them: not, if it `holds` back where nothing more can be
    /// written, nor where there are more than there is room for.
    fn records(&mut self, horizon: Ns, holds: bool, room: &mut u64) -> io::Result<bool> {
        self.behind = false;
        while let Some((at, bytes)) = self.intake.pop(horizon) {
            *room = room.saturating_sub(1);
            match decode(&bytes, self.population.catalog()) {
                Ok(seen) => self.observe(&seen),
                Err(Malformed::Process(pid)) => self.of_nobody(at, pid, &bytes)?,
                Err(reason) => self.malformed(reason),
            }
            if !self.events.is_empty() {
                self.say()?;
            }
            if holds && room.is_multiple_of(BETWEEN_GLANCES) && self.out.is_full() {
                return Ok(false);
            }
            if *room == 0 {
                self.behind = true;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A record of a process that is no target: it may be the child of one.
    fn of_nobody(&mut self, at: Ns, pid: Pid, bytes: &Bytes) -> io::Result<()> {
        let hit = image_of(bytes, self.population.catalog()).cloned();
        for change in self.population.adopt(pid, hit.as_ref()) {
            self.change(at, change)?;
        }
        match decode(bytes, self.population.catalog()) {
            Ok(seen) => self.observe(&seen),
            Err(Malformed::Process(_)) => self.totals.unplaced += 1,
            Err(reason) => self.malformed(reason),
        }
        Ok(())
    }

    fn observe(&mut self, seen: &Observation) {
        if let Seen::Hook(addresses) = seen.seen {
            let entry = self.population.catalog().target(seen.target);
            let at = entry.and_then(|entry| self.panic_places.read(seen.target, entry, addresses));
            self.lifecycle.panics(seen, at);
        } else {
            self.lifecycle.observe(seen, &mut self.events);
        }
    }

    fn malformed(&mut self, reason: Malformed) {
        self.totals.malformed += 1;
        self.malformed.get_or_insert(reason);
    }

    /// Says what observing costs, if it is time for that or somebody has asked.
    pub(super) fn report_costs(
        &mut self,
        now: Ns,
        probes: &Probes,
        costs: &mut Costs,
        asked: bool,
    ) -> Result<(), SessionError> {
        if asked || costs.is_due(now) {
            let overhead = costs.report(now, self.counters(probes)?, self.intake.records());
            let overhead = as_far_as_known(overhead, self.population.catalog());
            let Self { sink, out, .. } = self;
            sink.overhead(now, &overhead, out).and_then(|()| out.flush()).map_err(SessionError::Output)?;
        }
        Ok(())
    }

    /// What the kernel side has counted, of events and of stacks.
    pub(super) fn counters(&self, probes: &Probes) -> Result<Counters, SessionError> {
        let events = probes.counters()?;
        let stacks = self.stacks.as_ref().map_or(Ok(Counters::default()), LongStacks::counters)?;
        Ok(Counters {
            hits: events.hits + stacks.hits,
            foreign: events.foreign + stacks.foreign,
            laps: events.laps.and(&stacks.laps),
            ..events
        })
    }

    /// Reports what was polled since the last time, if it is time for that or this is the last one.
    pub(super) fn report_sums(&mut self, now: Ns, last: bool) -> io::Result<()> {
        let Self { sums: Some(sums), sink, out, told, .. } = self else { return Ok(()) };
        // What is not said now is part of the next report.
        if last || (sums.is_due(now) && !out.is_full()) {
            sink.polled(now, &sums.report(now, Some(*told))?, out)?;
            out.flush()?;
        }
        Ok(())
    }

    /// Totals so far, and the first reason for a record that could not be understood.
    pub(super) fn totals(&self) -> (Totals, Option<String>) {
        let tally = self.lifecycle.tally();
        let summed = self.sums.as_ref().map(Sums::totals);
        let totals = Totals {
            polls: summed.map(|(polls, _)| polls),
            unplaced: self.totals.unplaced + summed.map_or(0, |(_, unplaced)| unplaced),
            malformed: self.totals.malformed + tally.foreign,
            late: self.intake.late(),
            live: tally.live,
            unsure: tally.unsure,
            watched: tally.watched,
            unplanted: tally.unplanted,
            unfollowed: tally.unfollowed,
            ..self.totals
        };
        let strange = || (tally.foreign > 0).then(|| "a call of a task whose memory does not show it".to_owned());
        (totals, self.malformed.map(|reason| reason.to_string()).or_else(strange))
    }

    /// Says what is done without from now on, and does without it.
    pub(super) fn degrade(&mut self, at: Ns, level: Level, reason: &str) -> io::Result<()> {
        self.lifecycle.has_room(level < Level::Tasks);
        self.sink.degraded(at, level.as_str(), reason, &mut self.out)
    }

    /// Says what else is done without from now on.
    pub(super) fn is_without(&mut self, at: Ns, what: &'static str, reason: &str) -> io::Result<()> {
        self.sink.degraded(at, what, reason, &mut self.out)
    }

    /// Whether this is a target.
    pub(super) fn has(&self, id: TargetId) -> bool {
        self.population.catalog().target(id).is_some()
    }

    /// Counts and renders the events, and leaves the list empty, also where writing fails.
    fn say(&mut self) -> io::Result<()> {
        let mut said = Ok(());
        for event in self.events.drain(..) {
            let one_by_one = self.said_polls.as_mut().map(|polls| polls.take(&event));
            if one_by_one != Some(false) {
                self.totals.count(&event);
            }
            if said.is_err() {
                continue;
            }
            // What is said one by one is part of no sum.
            let is_of_poll = matches!(event.kind, EventKind::Before(_) | EventKind::After(_));
            if let Some(sums) = self.sums.as_mut().filter(|_| !is_of_poll || one_by_one != Some(true)) {
                said = match sums.event(&event, self.population.catalog()) {
                    Ok(Some(last)) => self.sink.polled(event.at, &[last], &mut self.out),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                };
            }
            if one_by_one != Some(false) {
                said = said.and_then(|()| self.sink.event(&event, &mut self.out));
            }
            if let Some(stack) = self.stacks.as_mut().and_then(|stacks| stacks.take(&event))
                && let Some(id) = event.kind.id()
            {
                let spawned = Spawned { at: event.at, pid: event.pid, id, stack };
                said = said.and_then(|()| self.sink.spawned(&spawned, &mut self.out));
            }
        }
        said
    }
}
