//! The targets under sampling: their samples taken from the rings, understood, counted and said.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::attach::Counters;
use crate::model::{Caller, Estimate, Missing, Ns, Pid, Resource, Tick};
use crate::session::error::SessionError;
use crate::session::overhead::Costs;
use crate::sink::{Busy, EndReason, How, Interval, SampledEnd, SampledReport, SampledTotals};
use crate::target::monotonic_now;

use super::blockers::{Blocker, Blockers};
use super::crowd::Crowd;
use super::rate::{Rate, Taken};
use super::runs::{GAP, Look, Runs};
use super::still::{Still, Stuck};
use super::subject::{Activity, Subject};
use super::tally::Tally;
use super::{STACK, SampledOptions, SampledOutput, types};

/// How often a task that was sampled in a row is looked at, one look after the other: one that is polled again and again
/// is seen not to run in one of them.
const GLANCES: usize = 200;

/// As many look enough at one that was sampled once.
const FEW_GLANCES: usize = 8;
/// Between two looks at the rings and the threads, at most and at least.
const STEPS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(5));
/// Of the time, so many parts are left to others for each part that looking takes.
const REST: u32 = 20;

/// One target.
pub(super) struct Watched {
    pub(super) subject: Subject,
    /// From when on.
    since: Ns,
    still: Still,
    interval: Tally,
    total: Tally,
}

impl Watched {
    fn from(subject: Subject, since: Ns) -> Self {
        let (still, interval, total) = (Still::default(), Tally::default(), Tally::default());
        Self { subject, since, still, interval, total }
    }
}

/// All of them.
pub(super) struct Sampled {
    pub(super) rate: Rate,
    pub(super) watched: Vec<Watched>,
    pub(super) output: SampledOutput,
    /// What will not be seen, whoever is sampled.
    pub(super) missing: Vec<Missing>,
    pub(super) interval: Ns,
    pub(super) blocking: Ns,
    pub(super) by_task: bool,
    /// Samples of targets.
    pub(super) taken: u64,
    runs: Runs,
    /// When the rings were emptied last.
    emptied: Ns,
    reported: Ns,
    /// The next report.
    due: Instant,
    /// Lost samples that were not said yet.
    unsaid: u64,
    blockers: Blockers,
    costs: Costs,
    totals: SampledTotals,
}

impl Sampled {
    pub(super) fn new(
        options: &SampledOptions,
        rate: Rate,
        subjects: Vec<Subject>,
        output: SampledOutput,
    ) -> Result<Self, SessionError> {
        let now = monotonic_now();
        Ok(Self {
            rate,
            watched: subjects.into_iter().map(|subject| Watched::from(subject, now)).collect(),
            output,
            missing: super::missing().to_vec(),
            interval: Ns::of(options.interval),
            blocking: Ns::of(options.blocking),
            by_task: options.by_task,
            taken: 0,
            runs: Runs::default(),
            emptied: now,
            reported: now,
            due: Instant::now() + options.interval,
            unsaid: 0,
            blockers: Blockers::new(options.names.clone())?,
            costs: Costs::of_samples(now, Ns::of(options.overhead_every)),
            totals: SampledTotals::default(),
        })
    }

    /// From now on as if nobody had been sampled; only what was counted stays.
    pub(super) fn begin_anew(&mut self) {
        self.rate.forget();
        self.watched.drain(..).for_each(|watched| self.blockers.forget(&watched.subject.process));
        (self.runs, self.reported) = (Runs::default(), monotonic_now());
        self.due = Instant::now() + Duration::from_nanos(self.interval.0);
    }

    /// How long to wait for the next turn, where one took so long.
    pub(super) fn rest(&self, took: Duration) -> Duration {
        let step = (Duration::from_nanos(self.blocking.0) / 2).clamp(STEPS.1, STEPS.0);
        step.max((took * REST).min(self.rate.patience))
    }

    /// Whether this process is sampled.
    fn has(&self, pid: Pid) -> bool {
        self.watched.iter().any(|watched| watched.subject.pid() == pid)
    }

    /// A process is sampled from now on, or has come to run more than it did. One that was looked at and is as it was known is
    /// nothing new.
    fn join(&mut self, subject: Subject, why: &'static str) -> Result<(), SessionError> {
        let (at, known) = (monotonic_now(), |watched: &Watched| watched.subject.pid() == subject.pid());
        let Some(n) = self.watched.iter().position(known) else {
            self.watched.push(Watched::from(subject, at));
            return self.say_target(self.watched.len() - 1, at, why);
        };
        let old = &mut self.watched[n].subject;
        if old.process.has_ended() || !old.process.runs_same_program().unwrap_or(false) {
            self.end_one(n, if self.watched[n].subject.process.has_ended() { "exit" } else { "exec" })?;
            return self.join(subject, why);
        }
        match old.runs_more(&subject) {
            true => {
                let old = std::mem::replace(old, subject);
                self.blockers.forget(&old.process);
                self.say_target(n, at, "loaded")
            }
            false => Ok(()),
        }
    }

    fn say_target(&mut self, n: usize, at: Ns, why: &'static str) -> Result<(), SessionError> {
        let Self { watched, missing, output, .. } = self;
        output.say(&SampledReport::Target { at, entry: &watched[n].subject.entry, why, missing })?;
        output.flush()
    }

    /// Takes and says what there is, with a report if that is due; whoever joins is sampled from now on.
    pub(super) fn turn(&mut self, crowd: Option<&mut Crowd>) -> Result<(), SessionError> {
        let now = Instant::now();
        let is_due = now >= self.due;
        self.take()?;
        self.look()?;
        self.say_named()?;
        if is_due {
            self.report()?;
            self.due = (self.due + Duration::from_nanos(self.interval.0)).max(now);
        }
        self.end_gone(is_due)?;
        let Some(crowd) = crowd else { return Ok(()) };
        let joining = crowd.tend(|pid| self.has(pid));
        if let Some(lost) = crowd.take_lost() {
            self.output.say(&SampledReport::LostNews(lost))?;
        }
        joining.into_iter().try_for_each(|(subject, why)| self.join(subject, why))
    }

    /// Takes what the rings hold.
    pub(super) fn take(&mut self) -> Result<(), SessionError> {
        let pids: HashSet<Pid> = self.watched.iter().map(|watched| watched.subject.pid()).collect();
        self.emptied = monotonic_now();
        let Taken { ticks, lost, throttled, malformed } = self.rate.take(|pid| pids.contains(&pid));
        self.unsaid += lost;
        self.totals.throttled += throttled;
        self.totals.malformed += malformed;
        self.taken += ticks.len() as u64;
        self.count(&ticks);
        Ok(())
    }

    fn count(&mut self, ticks: &[Tick]) {
        self.watched.iter_mut().for_each(|watched| watched.subject.look_anew());
        let by_pid: HashMap<Pid, usize> =
            self.watched.iter().enumerate().map(|(n, watched)| (watched.subject.pid(), n)).collect();
        // Newest first: of the tasks it is theirs that have had the least time to end.
        let mut understood: Vec<(&Tick, usize, Activity)> = Vec::with_capacity(ticks.len());
        for tick in ticks.iter().rev() {
            let Some(n) = by_pid.get(&tick.pid) else { continue };
            let activity = self.watched[*n].subject.of_tick(tick);
            understood.push((tick, *n, activity));
        }
        for (tick, n, activity) in understood.iter().rev() {
            let Watched { interval, total, subject, .. } = &mut self.watched[*n];
            interval.add(activity, self.by_task);
            total.add(activity, self.by_task);
            // What runs on the blocking pool may block.
            if may_not_block(subject, activity) {
                self.runs.add((tick.pid, tick.tid), tick.at, self.rate.period, activity);
            }
        }
    }

    /// Looks at the threads: who stands still, and whether those that were sampled in a row run.
    fn look(&mut self) -> Result<(), SessionError> {
        let now = monotonic_now();
        // What was taken since may have been long in being understood: that makes no sample old.
        self.runs.forget_before(self.emptied.before(self.rate.period.0.saturating_mul(GAP)));
        let watched = &mut self.watched;
        self.runs.look(now, |(pid, tid), polled, samples| {
            let glances = if samples > 1 { GLANCES } else { FEW_GLANCES };
            let subject = watched.iter_mut().map(|watched| &mut watched.subject).find(|subject| subject.pid() == pid);
            let Some(subject) = subject else { return Look { waits: None, runs: false } };
            let runs = subject.keeps_running(polled, glances);
            // Asked last: it holds for all before.
            Look { waits: subject.process.waits(tid), runs }
        });
        for ((pid, tid), run) in self.runs.lasting(self.blocking) {
            let (during, how) = (run.during(), How::OnCpu { samples: run.samples, looks: run.looks });
            let stuck = Stuck { tid, poll: run.poll, addresses: run.addresses, during };
            self.found(pid, run.last, stuck, how)?;
        }
        let mut found: Vec<(Pid, Stuck)> = Vec::new();
        for Watched { subject, still, .. } in &mut self.watched {
            let pid = subject.pid();
            found.extend(still.look(subject, STACK as usize, self.blocking).into_iter().map(|stuck| (pid, stuck)));
        }
        found.into_iter().try_for_each(|(pid, stuck)| self.found(pid, now, stuck, How::Waiting))
    }

    /// A poll was found to block.
    fn found(&mut self, pid: Pid, at: Ns, stuck: Stuck, how: How) -> Result<(), SessionError> {
        let Some(watched) = self.watched.iter().find(|watched| watched.subject.pid() == pid) else { return Ok(()) };
        match self.blockers.add(&watched.subject, at, stuck, how) {
            Some((blocker, callers)) => self.say_blocking(&blocker, &callers),
            None => Ok(()),
        }
    }

    /// Says those that blocked whose calls have their names by now.
    pub(super) fn say_named(&mut self) -> Result<(), SessionError> {
        let named = self.blockers.named();
        self.say_all_blocking(named)
    }

    /// Says those that blocked and were not said yet.
    pub(super) fn say_rest(&mut self) -> Result<(), SessionError> {
        let rest = self.blockers.rest();
        self.say_all_blocking(rest)
    }

    fn say_all_blocking(&mut self, blockers: Vec<(Blocker, Vec<Caller>)>) -> Result<(), SessionError> {
        for (blocker, callers) in blockers {
            let subject =
                self.watched.iter_mut().map(|watched| &mut watched.subject).find(|subject| blocker.is_of(subject));
            if let Some(subject) = subject {
                subject.learn(&callers);
            }
            self.say_blocking(&blocker, &callers)?;
        }
        Ok(())
    }

    fn say_blocking(&mut self, blocker: &Blocker, callers: &[Caller]) -> Result<(), SessionError> {
        let Some(blocking) = blocker.said(callers) else { return Ok(()) };
        self.totals.blocking += 1;
        self.output.say(&SampledReport::Blocking(blocking))?;
        self.output.flush()
    }

    /// Says who was busy since the last time.
    pub(super) fn report(&mut self) -> Result<(), SessionError> {
        let now = monotonic_now();
        let lost = self.say_lost(now)?;
        for n in 0..self.watched.len() {
            let tally = std::mem::take(&mut self.watched[n].interval);
            let from = self.reported.max(self.watched[n].since);
            self.say_tally(n, &tally, (from, now), Some(lost))?;
        }
        self.reported = now;
        self.output.flush()
    }

    /// How many there are.
    fn say_lost(&mut self, at: Ns) -> Result<u64, SessionError> {
        let count = std::mem::take(&mut self.unsaid);
        self.totals.lost += count;
        if count > 0 {
            self.output.say(&SampledReport::Lost { at, count })?;
        }
        Ok(count)
    }

    /// Of an interval, with what was lost in it, or of the whole run.
    fn say_tally(
        &mut self,
        n: usize,
        tally: &Tally,
        (from, at): (Ns, Ns),
        lost: Option<u64>,
    ) -> Result<(), SessionError> {
        let total = lost.is_none();
        let (Self { watched, output, rate, totals, .. }, during) = (self, at.since(from));
        let subject = &watched[n].subject;
        let pid = subject.pid();
        let [unknown, untold] =
            [&tally.unknown, &tally.untold].map(|by| by.iter().map(|(why, n)| (*why, *n)).collect::<Vec<_>>());
        let &Tally { samples, in_polls, outside, .. } = tally;
        output.say(&SampledReport::Interval(Interval {
            at,
            pid,
            during,
            total,
            lost: lost.unwrap_or(totals.lost),
            samples,
            busy: Estimate::of(samples, rate.period),
            in_polls,
            outside,
            unknown: &unknown,
            untold: &untold,
        }))?;
        for (whose, count) in tally.busiest() {
            let types = types(subject, &whose.vtables);
            let (busy, share) = (Estimate::of(count, rate.period), count as f64 / samples.max(1) as f64);
            let busy = Busy { at, pid, total, types, task: whose.task, samples: count, busy, share };
            output.say(&SampledReport::Busy(busy))?;
        }
        Ok(())
    }

    /// Lets go of targets that ended, or, if that is asked for, run another program now.
    fn end_gone(&mut self, ask_for_programs: bool) -> Result<(), SessionError> {
        for n in (0..self.watched.len()).rev() {
            let process = &self.watched[n].subject.process;
            match process.has_ended() {
                true => self.end_one(n, "exit")?,
                false if ask_for_programs && process.runs_same_program().is_ok_and(|same| !same) => {
                    self.end_one(n, "exec")?;
                }
                false => {}
            }
        }
        Ok(())
    }

    fn end_one(&mut self, n: usize, why: &'static str) -> Result<(), SessionError> {
        let (at, pid) = (monotonic_now(), self.watched[n].subject.pid());
        self.take()?;
        self.conclude(n, at)?;
        self.output.say(&SampledReport::Ended { at, pid, why })?;
        let watched = self.watched.remove(n);
        self.blockers.forget(&watched.subject.process);
        Ok(())
    }

    /// Says all of one target, and adds it up.
    fn conclude(&mut self, n: usize, at: Ns) -> Result<(), SessionError> {
        let tally = std::mem::take(&mut self.watched[n].total);
        self.totals.samples += tally.samples;
        self.totals.in_polls += tally.in_polls;
        self.totals.outside += tally.outside;
        self.totals.unknown += tally.unknown.values().sum::<u64>();
        self.say_tally(n, &tally, (self.watched[n].since, at), None)
    }

    /// Says all, and the end.
    pub(super) fn end(&mut self, reason: EndReason) -> Result<(), SessionError> {
        let at = monotonic_now();
        self.take()?;
        self.say_rest()?;
        self.say_lost(at)?;
        for n in 0..self.watched.len() {
            self.conclude(n, at)?;
        }
        self.costs.sampled(self.taken);
        let overhead = self.costs.all(at, self.counters(), 0);
        let end = SampledEnd { at, reason, totals: self.totals, overhead };
        self.output.say(&SampledReport::End(end))?;
        self.output.flush()
    }

    /// Says what sampling costs, if it is time for that or somebody has asked.
    pub(super) fn say_costs(&mut self, asked: bool) -> Result<(), SessionError> {
        let now = monotonic_now();
        if !asked && !self.costs.is_due(now) {
            return Ok(());
        }
        self.costs.sampled(self.taken);
        let overhead = self.costs.report(now, self.counters(), 0);
        self.output.say(&SampledReport::Overhead(now, overhead))?;
        self.output.flush()
    }

    /// Nothing is hit, but samples are lost.
    fn counters(&self) -> Counters {
        Counters { lost: self.totals.lost + self.unsaid, ..Counters::default() }
    }
}

/// Whether it is in a poll of a task on a scheduler, or in none.
fn may_not_block(subject: &Subject, activity: &Activity) -> bool {
    let super::subject::Doing::In(poll) = &activity.of else { return true };
    types(subject, &poll.vtables).iter().all(|entry| entry.task.resource != Resource::Blocking)
}
