//! When to step down a tier, and when up again, so that what observing adds to the targets' CPU time stays under a cap.
//!
//! Pure: what was added and what was used comes in. It is a bucket: it fills by the cap's share of what the targets use themselves,
//! and empties by what is added to that. Below its ground there is a step down. What is owed is kept, so that a trial of a
//! dearer tier is paid for, too, before the next one.

use crate::model::Ns;
use crate::sink::{Stepped, TierTime};

use super::tier::Tier;

const SECOND: u64 = 1_000_000_000;
/// The bucket holds the cap's share of one CPU for so long.
const DEPTH: u64 = 5 * SECOND;
/// And so much at least, nanoseconds: more than is added to whoever is idle for as long as a span lasts.
const LEAST_DEPTH: i64 = (SPAN / IDLE) as i64;
/// It may be below its ground, or below what is owed already, by this part of its depth.
const SLACK: i64 = 10;
/// What was used is looked at over so long.
const SPAN: u64 = 5 * SECOND;
/// Targets that use less than this part of one CPU in a span, with what is added, are idle. They owe nothing.
const IDLE: u64 = 100;
/// Before a step up, at first.
const FIRST_WAIT: u64 = 10 * SECOND;
/// And at most.
const LAST_WAIT: u64 = 300 * SECOND;
/// A tier that was held for so long after a step up has lasted.
const LASTED: u64 = 60 * SECOND;
/// What a cap is counted in.
const MILLION: u64 = 1_000_000;

/// What may be added at most, in parts of a million of what the targets use themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap(pub u32);

/// What is wanted of a governor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Governed {
    /// What may be added.
    pub cap: Cap,
    /// The tier to begin with. Never more is told.
    pub top: Tier,
}

impl Cap {
    fn of(self, ns: u64) -> i64 {
        i64::try_from(u128::from(ns) * u128::from(self.0) / u128::from(MILLION)).unwrap_or(i64::MAX)
    }
}

/// What had been used up to one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) at: Ns,
    /// CPU time that was added to the targets.
    pub(super) added: Ns,
    /// CPU time of the targets, with that.
    pub(super) cpu: Ns,
}

impl Reading {
    fn since(&self, earlier: &Self) -> Self {
        Self { at: self.at.since(earlier.at), added: self.added.since(earlier.added), cpu: self.cpu.since(earlier.cpu) }
    }

    /// What the targets have used themselves.
    fn own(&self) -> u64 {
        self.cpu.since(self.added).0
    }
}

/// The state.
#[derive(Debug)]
pub(super) struct Governor {
    cap: Cap,
    top: Tier,
    can_sample: bool,
    tier: Tier,
    /// Nanoseconds; below zero they are owed.
    credit: i64,
    /// The most there was since the tier holds.
    peak: i64,
    last: Reading,
    /// Where the present span began, and the one before.
    span: Reading,
    span_before: Reading,
    /// Since when the tier holds.
    since: Ns,
    /// It was reached by a step up, which has not lasted yet.
    on_trial: bool,
    wait: u64,
    times: Vec<TierTime>,
}

impl Governor {
    /// Begins at this reading.
    pub(super) fn new(Governed { cap, top }: Governed, can_sample: bool, now: Reading) -> Self {
        let mut governor = Self {
            cap,
            top,
            can_sample,
            tier: top,
            credit: 0,
            peak: 0,
            last: now,
            span: now,
            span_before: now,
            since: now.at,
            on_trial: false,
            wait: FIRST_WAIT,
            times: Vec::new(),
        };
        (governor.credit, governor.peak) = (governor.depth(), governor.depth());
        governor
    }

    /// The tier that holds.
    pub(super) fn tier(&self) -> Tier {
        self.tier
    }

    /// Takes in what has been used by now. Gives the tier to step to, if that is another: it holds from now on. While the last step
    /// is `under_way` there is no other.
    pub(super) fn take(&mut self, now: Reading, under_way: bool) -> Option<(Tier, Stepped)> {
        let new = now.since(&self.last);
        self.last = now;
        let (earned, spent) = (self.cap.of(new.own()), new.added.0.cast_signed());
        self.credit = self.credit.saturating_add(earned).saturating_sub(spent).min(self.depth());
        self.look_at_span(now);
        if now.at.since(self.since).0 >= LASTED {
            (self.on_trial, self.wait) = (false, if self.on_trial { FIRST_WAIT } else { self.wait });
        }
        // A debt from before is no reason to go on down, unless it grows, by more than it does from one moment to the next.
        self.peak = if under_way { self.credit } else { self.peak.max(self.credit) };
        if under_way {
            return None;
        }
        if self.credit < self.peak.min(0) - self.depth() / SLACK {
            return self.tier.below(self.can_sample).map(|below| self.step(below, now, "over"));
        }
        let may_rise = self.credit >= self.depth() && now.at.since(self.since).0 >= self.wait;
        let above = self.tier.towards(self.top, self.can_sample).filter(|_| may_rise)?;
        Some(self.step(above, now, "recovered"))
    }

    /// How long each tier has held by then.
    pub(super) fn times(&self, now: Ns) -> Vec<TierTime> {
        let mut times = self.times.clone();
        add(&mut times, self.tier, now.since(self.since));
        times
    }

    fn step(&mut self, to: Tier, now: Reading, why: &'static str) -> (Tier, Stepped) {
        let used = now.since(&self.span_before);
        let from = std::mem::replace(&mut self.tier, to);
        let is_up = why == "recovered";
        if !is_up && self.on_trial {
            self.wait = (2 * self.wait).min(LAST_WAIT);
        }
        (self.on_trial, self.peak) = (is_up, self.credit);
        add(&mut self.times, from, now.at.since(self.since));
        (self.since, self.span, self.span_before) = (now.at, now, now);
        let stepped = Stepped {
            at: now.at,
            from: from.as_str(),
            to: to.as_str(),
            why,
            during: used.at,
            added: used.added,
            cpu: used.cpu,
            cap: f64::from(self.cap.0) / MILLION as f64,
        };
        (to, stepped)
    }

    fn look_at_span(&mut self, now: Reading) {
        let span = now.since(&self.span);
        if span.at.0 < SPAN {
            return;
        }
        if span.cpu.0 < span.at.0 / IDLE {
            self.credit = self.depth();
        }
        (self.span_before, self.span) = (self.span, now);
    }

    fn depth(&self) -> i64 {
        self.cap.of(DEPTH).max(LEAST_DEPTH)
    }
}

fn add(times: &mut Vec<TierTime>, tier: Tier, held: Ns) {
    match times.iter_mut().find(|time| time.tier == tier.as_str()) {
        Some(time) => time.held.0 += held.0,
        None => times.push(TierTime { tier: tier.as_str(), held }),
    }
}

#[cfg(test)]
mod tests;
