//! What observing costs while it runs: the target's time by hits and what they cost here, our own by the kernel's count.
//!
//! Pure but for the clock of our own process. The hits are exact; what each costs is measured on ourselves at the start (`attach`), and how
//! much longer it takes where the targets are, on a few of theirs.

use crate::attach::{Counters, Price};
use crate::model::{Catalog, Ns};
use crate::plan::is_hot_and_slow;
use crate::sink::Overhead;
use crate::target::{own_cpu, own_memory};

/// What a sample of a thread costs it, nanoseconds: an interrupt that copies registers and stack. On Linux 6.18 in a virtual machine a
/// program that reads the clock without end lost 6000 to one with a short stack, and 10 000 to one with 28 KiB.
const SAMPLE: u64 = 10_000;

/// What has been used up to one moment.
#[derive(Clone, Copy, Debug)]
struct Used {
    at: Ns,
    counters: Counters,
    records: u64,
    samples: u64,
    own_cpu: Ns,
}

/// Costs of one session.
#[derive(Debug)]
pub(super) struct Costs {
    every: Ns,
    /// What hits cost, if it was measured.
    price: Option<Price>,
    samples: u64,
    began: Used,
    last: Used,
}

impl Costs {
    /// From this moment on, with a report every so often.
    pub(super) fn new(now: Ns, every: Ns, price: Option<Price>) -> Self {
        let began = Used { at: now, counters: Counters::default(), records: 0, samples: 0, own_cpu: own_cpu() };
        Self { every, price, samples: 0, began, last: began }
    }

    /// What samples alone cost, where nothing is planted.
    pub(super) fn of_samples(now: Ns, every: Ns) -> Self {
        Self::new(now, every, None)
    }

    /// So many samples were taken in the whole session.
    pub(super) fn sampled(&mut self, samples: u64) {
        self.samples = samples;
    }

    /// Whether it is time for a report.
    pub(super) fn is_due(&self, now: Ns) -> bool {
        now.since(self.last.at) >= self.every
    }

    /// Since the last report. `counters` and `records` are those of the whole session.
    pub(super) fn report(&mut self, now: Ns, counters: Counters, records: u64) -> Overhead {
        let used = Used { at: now, counters, records, samples: self.samples, own_cpu: own_cpu() };
        let last = std::mem::replace(&mut self.last, used);
        self.between(&last, &used)
    }

    /// Of the whole session.
    pub(super) fn all(&self, now: Ns, counters: Counters, records: u64) -> Overhead {
        self.between(&self.began, &Used { at: now, counters, records, samples: self.samples, own_cpu: own_cpu() })
    }

    /// CPU time that was added to the targets in the whole session; `None` where no hit was measured.
    pub(super) fn added(&self, counters: Counters, records: u64) -> Option<Ns> {
        let used = Used { at: Ns(0), counters, records, samples: self.samples, own_cpu: Ns(0) };
        self.added_between(&self.began, &used)
    }

    fn added_between(&self, from: &Used, to: &Used) -> Option<Ns> {
        let since = |of: fn(&Used) -> u64| of(to).saturating_sub(of(from));
        let samples = SAMPLE * since(|used| used.samples);
        let price = match self.price {
            Some(price) => price,
            // Nothing was hit that would have a price.
            None if since(|used| used.counters.hits) == 0 => return Some(Ns(samples)),
            None => return None,
        };
        let returns = since(|used| used.counters.returns);
        let entries = since(|used| used.counters.hits).saturating_sub(returns);
        let written = since(|used| used.records + used.counters.lost);
        // Where few were timed since then, as all that were.
        let new = to.counters.laps.since(&from.counters.laps);
        let laps = if new.program().is_some() { new } else { to.counters.laps };
        let hits = price.where_timed(entries, returns, written, &laps);
        Some(Ns(hits.round() as u64 + samples))
    }

    fn between(&self, from: &Used, to: &Used) -> Overhead {
        let since = |of: fn(&Used) -> u64| of(to).saturating_sub(of(from));
        Overhead {
            during: to.at.since(from.at),
            hits: since(|used| used.counters.hits),
            records: since(|used| used.records),
            samples: since(|used| used.samples),
            lost: since(|used| used.counters.lost),
            foreign: since(|used| used.counters.foreign),
            hit_ns: self.price.map(|price| price.hit),
            added: self.added_between(from, to),
            own_cpu: Ns(since(|used| used.own_cpu.0)),
            own_memory: own_memory(),
        }
    }
}

/// Without the target's time where hot points on single-stepped instructions are planted: hits are counted together, and those
/// cost many times the others.
pub(super) fn as_far_as_known(overhead: Overhead, catalog: &Catalog) -> Overhead {
    let slow = catalog.images().flat_map(|image| &image.points).any(is_hot_and_slow);
    Overhead { added: overhead.added.filter(|_| !slow), ..overhead }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::Laps;

    fn costs_of(entries: u64, returns: u64, records: u64) -> Option<Ns> {
        Some(Ns(Price::sample().of(entries, returns, records).round() as u64))
    }

    #[test]
    fn reports_are_of_what_came_since_the_last_and_all_is_of_all() {
        let mut costs = Costs::new(Ns(1000), Ns(500), Some(Price::sample()));
        assert!(!costs.is_due(Ns(1400)) && costs.is_due(Ns(1500)));
        let polled = |polls: u64| Counters { hits: 2 * polls, returns: polls, ..Counters::default() };
        let first = costs.report(Ns(1500), polled(10), 10);
        assert_eq!((first.during, first.hits, first.records, first.added), (Ns(500), 20, 10, costs_of(10, 10, 10)));
        let second = costs.report(Ns(2500), polled(15), 12);
        assert_eq!((second.during, second.hits, second.records, second.added), (Ns(1000), 10, 2, costs_of(5, 5, 2)));
        let all = costs.all(Ns(2500), polled(15), 12);
        assert_eq!((all.during, all.hits, all.records, all.added), (Ns(1500), 30, 12, costs_of(15, 15, 12)));
    }

    #[test]
    fn a_record_that_found_no_room_has_cost_its_writer_as_much() {
        let mut costs = Costs::new(Ns(0), Ns(1), Some(Price::sample()));
        let lost = costs.report(Ns(10), Counters { hits: 2, returns: 1, lost: 1, ..Counters::default() }, 0);
        assert_eq!((lost.added, lost.lost), (costs_of(1, 1, 1), 1));
    }

    #[test]
    fn hits_cost_what_programs_were_timed_to_take_since_the_last_report_or_else_ever() {
        let mut costs = Costs::new(Ns(0), Ns(1), Some(Price::sample()));
        let hit = |hits, laps| Counters { hits, laps, ..Counters::default() };
        let few = costs.report(Ns(10), hit(100, Laps::default().with_programs(1, 70)), 0);
        assert_eq!(few.added, costs_of(100, 0, 0));
        let timed = Laps::default().with_programs(101, 70);
        let dear = Some(Ns(100 * (100 + 70)));
        assert_eq!(costs.report(Ns(20), hit(200, timed), 0).added, dear);
        // Since then none was timed.
        assert_eq!(costs.report(Ns(30), hit(300, timed), 0).added, dear);
    }

    #[test]
    fn samples_cost_whom_they_were_taken_of() {
        let mut costs = Costs::new(Ns(0), Ns(1), Some(Price::sample()));
        costs.sampled(3);
        assert_eq!(costs.report(Ns(10), Counters::default(), 0).added, Some(Ns(3 * SAMPLE)));
        costs.sampled(5);
        assert_eq!(costs.report(Ns(20), Counters::default(), 0).added, Some(Ns(2 * SAMPLE)));
        assert_eq!(costs.all(Ns(20), Counters::default(), 0).added, Some(Ns(5 * SAMPLE)));
        assert_eq!(costs.added(Counters::default(), 0), Some(Ns(5 * SAMPLE)));
    }

    #[test]
    fn with_slow_points_planted_nothing_is_said_of_the_target() {
        use crate::model::{AttachPoint, Cost, ImageEntry, Role};
        let mut costs = Costs::new(Ns(0), Ns(1), Some(Price::sample()));
        let overhead = costs.report(Ns(10), Counters { hits: 2, ..Counters::default() }, 0);
        let with = |cost| {
            let mut catalog = Catalog::default();
            let points = vec![AttachPoint { cost, ..AttachPoint::sample(Role::Poll) }];
            catalog.add_image(ImageEntry { points, ..ImageEntry::sample(Vec::new()) });
            as_far_as_known(overhead, &catalog).added
        };
        assert_eq!((with(Cost::SingleStepped), with(Cost::Emulated)), (None, costs_of(2, 0, 0)));
    }

    #[test]
    fn where_no_hit_was_measured_nothing_is_said_of_the_target() {
        let mut costs = Costs::new(Ns(0), Ns(1), None);
        costs.sampled(1);
        assert_eq!(costs.report(Ns(10), Counters { hits: 2, ..Counters::default() }, 0).added, None);
    }

    #[test]
    fn samples_have_their_price_also_where_nothing_is_planted() {
        let mut costs = Costs::of_samples(Ns(0), Ns(1));
        costs.sampled(3);
        let lost = Counters { lost: 2, ..Counters::default() };
        let overhead = costs.report(Ns(10), lost, 0);
        assert_eq!((overhead.added, overhead.samples, overhead.lost), (Some(Ns(3 * SAMPLE)), 3, 2));
    }
}
