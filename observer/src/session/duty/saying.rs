//! What windows showed, scaled and said.
//!
//! Does not know how a report looks, nor how windows come about.

use std::time::SystemTime;

use crate::attach::Mechanism;
use crate::model::{Missing, Ns, Scaled};
use crate::session::error::SessionError;
use crate::session::kernel_release;
use crate::session::sampled::SampledOutput;
use crate::sink::{DutyBusy, DutyEnd, DutyInterval, DutyReport, DutyStart, EndReason, SampledReport, Spans};
use crate::target::monotonic_now;

use super::DutyOptions;
use super::planting::Counts;
use super::tally::{Polls, Sums, Tally};
use super::watched::Watched;

/// The reports of one run.
pub(super) struct Saying {
    output: SampledOutput,
    interval: Ns,
    by_task: bool,
    began: Ns,
    reported: Ns,
    /// Probes had been in for so long when that was said last.
    planted: Ns,
    lost: u64,
    /// Of all that were looked at.
    windows: u64,
    measured: Ns,
    polls: Polls,
}

impl Saying {
    pub(super) fn new(options: &DutyOptions, output: SampledOutput) -> Self {
        let now = monotonic_now();
        Self {
            output,
            interval: Ns::of(options.interval),
            by_task: options.by_task,
            began: now,
            reported: now,
            planted: Ns(0),
            lost: 0,
            windows: 0,
            measured: Ns(0),
            polls: Polls::default(),
        }
    }

    pub(super) fn start(
        &mut self,
        options: &DutyOptions,
        (window, attach, mechanism): (Ns, Ns, Mechanism),
        watched: &[Watched],
        missing: &[Missing],
    ) -> Result<(), SessionError> {
        let kernel = kernel_release();
        let start = DutyStart {
            at: self.began,
            wall: SystemTime::now(),
            kernel: &kernel,
            mechanism: mechanism.as_str(),
            duty: options.duty,
            window,
            interval: self.interval,
            by_task: self.by_task,
            attach,
            targets: watched.iter().map(|of| &*of.entry).collect(),
            missing,
        };
        self.say(DutyReport::Start(start))?;
        self.output.flush()
    }

    /// Says who was busy since the last time.
    pub(super) fn report(&mut self, watched: &mut [Watched], counts: &Counts) -> Result<(), SessionError> {
        let now = monotonic_now();
        let planted = counts.planted.since(self.planted);
        for of in watched {
            let tally = std::mem::take(&mut of.interval);
            self.say_tally(of, &tally, (self.reported, now, planted), false)?;
        }
        (self.reported, self.planted) = (now, counts.planted);
        self.output.flush()
    }

    /// Says what was lost since the last time, if anything was.
    pub(super) fn lost(&mut self, counts: &Counts) -> Result<(), SessionError> {
        let count = counts.lost.saturating_sub(self.lost);
        self.lost = counts.lost;
        match count {
            0 => Ok(()),
            _ => self.output.say(&SampledReport::Lost { at: monotonic_now(), count }),
        }
    }

    /// Says all of a process that is looked at no longer.
    pub(super) fn ended(&mut self, of: &mut Watched, why: &'static str, counts: &Counts) -> Result<(), SessionError> {
        let (at, pid) = (monotonic_now(), of.pid());
        self.conclude(of, at, counts)?;
        self.output.say(&SampledReport::Ended { at, pid, why })
    }

    /// Says all, and the end.
    pub(super) fn end(
        &mut self,
        reason: EndReason,
        watched: &mut [Watched],
        counts: &Counts,
    ) -> Result<(), SessionError> {
        let at = monotonic_now();
        watched.iter_mut().try_for_each(|of| self.conclude(of, at, counts))?;
        let end = DutyEnd {
            at,
            reason,
            turns: counts.attach.len() as u64,
            windows: self.windows,
            measured: self.measured,
            planted: counts.planted,
            polls: self.polls.count,
            cut: self.polls.cut,
            lost: counts.lost,
            malformed: counts.malformed,
            hits: counts.hits,
            differing: counts.differing as u64,
            attach: spans(&counts.attach),
            detach: spans(&counts.detach),
        };
        self.say(DutyReport::End(end))?;
        self.output.flush()
    }

    fn conclude(&mut self, of: &mut Watched, at: Ns, counts: &Counts) -> Result<(), SessionError> {
        let tally = std::mem::take(&mut of.total);
        self.windows += tally.windows.count;
        self.measured.0 += tally.windows.measured.0;
        self.polls.add(&tally.all.polls);
        self.say_tally(of, &tally, (self.began, at, counts.planted), true)
    }

    fn say_tally(
        &mut self,
        of: &Watched,
        tally: &Tally,
        (from, at, planted): (Ns, Ns, Ns),
        total: bool,
    ) -> Result<(), SessionError> {
        let (pid, during) = (of.pid(), at.since(from));
        let scaled = |sums: &Sums| (tally.windows.scale(&sums.busy, during), tally.windows.scale(&sums.count, during));
        let (busy, count) = scaled(&tally.all);
        self.say(DutyReport::Interval(DutyInterval {
            at,
            pid,
            during,
            total,
            windows: tally.windows.count,
            measured: tally.windows.measured,
            planted,
            polls: tally.all.polls.count,
            cut: tally.all.polls.cut,
            busy,
            per_second: per_second(count, during),
        }))?;
        for (whose, sums) in tally.busiest() {
            let (busy, count) = scaled(sums);
            self.say(DutyReport::Busy(DutyBusy {
                at,
                pid,
                total,
                types: of.named(&whose.vtables),
                task: whose.task,
                polls: sums.polls.count,
                measured: sums.polls.busy,
                longest: sums.polls.longest,
                cut: sums.polls.cut,
                busy,
                of_polls: sums.polls.busy.0 as f64 / tally.all.polls.busy.0.max(1) as f64,
                per_second: per_second(count, during),
            }))?;
        }
        Ok(())
    }

    fn say(&mut self, report: DutyReport<'_>) -> Result<(), SessionError> {
        self.output.say(&SampledReport::Duty(report))
    }
}

/// A count in so long a time, as a rate.
fn per_second(count: Scaled, during: Ns) -> Scaled {
    let seconds = (during.0 as f64 / 1e9).max(1e-9);
    Scaled { value: count.value / seconds, bounds: count.bounds.map(|(low, high)| (low / seconds, high / seconds)) }
}

/// The middle one, and the longest.
fn spans(all: &[Ns]) -> Spans {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    Spans { median: sorted.get(sorted.len() / 2).copied(), longest: sorted.last().copied() }
}
