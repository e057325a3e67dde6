//! Polls of windows summed up, by type or by task.
//!
//! Does not know: processes, probes, time.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::model::{Counted, Ns, PollSum, Windows};
use crate::session::sampled::Whose;

/// Different tasks that are counted apart at most; further ones are counted by type.
const MOST_TASKS: usize = 1 << 16;

/// Polls that began in one window, whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Polls {
    /// How many.
    pub(super) count: u64,
    /// How long they took together.
    pub(super) busy: Ns,
    /// The longest of them.
    pub(super) longest: Ns,
    /// Of those, how many went on when they were looked at for the last time: they took longer.
    pub(super) cut: u64,
}

impl Polls {
    /// One poll.
    pub(super) fn one(took: Ns, cut: bool) -> Self {
        Self { count: 1, busy: took, longest: took, cut: cut.into() }
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.count += more.count;
        self.busy.0 += more.busy.0;
        self.longest = self.longest.max(more.longest);
        self.cut += more.cut;
    }
}

impl From<PollSum> for Polls {
    fn from(sum: PollSum) -> Self {
        Self { count: sum.polls, busy: Ns(sum.busy_ns), longest: Ns(sum.longest_ns), cut: 0 }
    }
}

/// What one window showed of a process.
#[derive(Debug, Default)]
pub(super) struct Shown(HashMap<Whose, Polls>);

impl Shown {
    pub(super) fn add(&mut self, whose: Whose, polls: &Polls) {
        self.0.entry(whose).or_default().add(polls);
    }
}

/// Polls of many windows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) polls: Polls,
    pub(super) count: Counted,
    pub(super) busy: Counted,
}

impl Sums {
    fn add(&mut self, polls: &Polls, length: Ns) {
        self.polls.add(polls);
        self.count.add(polls.count as f64, length);
        self.busy.add(polls.busy.0 as f64, length);
    }
}

/// All windows of a process, of an interval or of the whole run.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) windows: Windows,
    pub(super) all: Sums,
    by: HashMap<Whose, Sums>,
}

impl Tally {
    /// Takes one window in.
    pub(super) fn add(&mut self, shown: &Shown, length: Ns) {
        self.windows.add(length);
        let mut all = Polls::default();
        // Beyond the bound tasks share a row, which must be one amount of this window.
        let mut rows: HashMap<Whose, Polls> = HashMap::with_capacity(shown.0.len());
        for (whose, polls) in &shown.0 {
            all.add(polls);
            let mut whose = whose.clone();
            if self.by.len() + rows.len() >= MOST_TASKS && !self.by.contains_key(&whose) {
                whose.task = None;
            }
            rows.entry(whose).or_default().add(polls);
        }
        rows.into_iter().for_each(|(whose, polls)| self.by.entry(whose).or_default().add(&polls, length));
        self.all.add(&all, length);
    }

    /// Who was busy, most first.
    pub(super) fn busiest(&self) -> Vec<(&Whose, &Sums)> {
        let mut all: Vec<(&Whose, &Sums)> = self.by.iter().collect();
        all.sort_by_key(|(whose, sums)| (Reverse(sums.polls.busy), *whose));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProcAddr, TaskId};

    fn whose(vtable: u64, task: Option<u64>) -> Whose {
        Whose { vtables: vec![ProcAddr(vtable)], task: task.map(TaskId) }
    }

    #[test]
    fn polls_of_one_window_are_one_amount_whatever_they_came_from() {
        let mut tally = Tally::default();
        for _ in 0..6 {
            let mut shown = Shown::default();
            shown.add(whose(1, None), &Polls { count: 3, busy: Ns(30), longest: Ns(20), cut: 0 });
            shown.add(whose(1, None), &Polls::one(Ns(70), true));
            shown.add(whose(2, None), &Polls::one(Ns(5), false));
            tally.add(&shown, Ns(1000));
        }
        let [(_, one), (_, other)] = &tally.busiest()[..] else { panic!("two types") };
        assert_eq!(one.polls, Polls { count: 24, busy: Ns(600), longest: Ns(70), cut: 6 });
        assert_eq!((other.polls.count, tally.all.polls.count, tally.windows.count), (6, 30, 6));
        let scaled = tally.windows.scale(&one.busy, Ns(60_000));
        let (low, high) = scaled.bounds.unwrap();
        assert!(scaled.value == 6000.0 && high - low < 0.01, "each window had the same: {scaled:?}");
    }

    #[test]
    fn tasks_beyond_the_bound_are_counted_by_type() {
        let mut tally = Tally::default();
        let mut shown = Shown::default();
        let most = MOST_TASKS as u64;
        (0..most + 10).for_each(|task| shown.add(whose(1, Some(task)), &Polls::one(Ns(1), false)));
        tally.add(&shown, Ns(1000));
        assert!(tally.by.len() <= MOST_TASKS + 1);
        assert_eq!(tally.busiest().iter().map(|(_, sums)| sums.polls.count).sum::<u64>(), most + 10);
    }
}
