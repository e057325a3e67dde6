//! How much memory the observer may use, and what it does without when that is reached.
//!
//! Pure: how much it uses comes in. The order is by what the user loses: first a little of the order of events, then who comes
//! new, last what is new of those who are there. What is observed already stays observed.

use std::fmt;

use crate::census::Allowance;

/// A part of the bound, in percent, from which each level holds.
const STEPS: [(u64, Level); 3] = [(70, Level::Window), (85, Level::Processes), (95, Level::Tasks)];
/// A level is left only when so much less, in percent of the bound, is used than it was entered at.
const SLACK: u64 = 5;

/// What is done without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Nothing.
    #[default]
    Nothing,
    /// Records are held back for a fifth of the time: more of them may come late.
    Window,
    /// And images and processes that come new are not observed.
    Processes,
    /// And tasks that are new are not followed.
    Tasks,
}

/// A bound on resident memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound(pub u64);

impl Bound {
    /// What each of so many censuses may take for itself at the same time, with so much in use. Of what is left three eighths
    /// are for what is kept of its tasks afterwards.
    pub(super) fn allowance(self, resident: u64, at_once: u64) -> Allowance {
        Allowance::of(self.0.saturating_sub(resident) / 8 * 5 / at_once.max(1))
    }

    /// Whether so much is in use that what only saves time is not kept.
    pub(super) fn is_short(self, resident: u64) -> bool {
        self.percent(resident) >= STEPS[0].0
    }

    fn percent(self, resident: u64) -> u64 {
        resident.saturating_mul(100) / self.0.max(1)
    }
}

/// The bound, and how far it is reached.
#[derive(Debug)]
pub(super) struct Budget {
    bound: Bound,
    level: Level,
}

impl Budget {
    /// With nothing used yet.
    pub(super) fn new(bound: Bound) -> Self {
        Self { bound, level: Level::Nothing }
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Takes in how much is used now. Gives the level if it is another.
    pub(super) fn used(&mut self, resident: u64) -> Option<Level> {
        let percent = self.bound.percent(resident);
        let at = |percent: u64| STEPS.iter().rev().find(|(from, _)| percent >= *from).map_or(Level::Nothing, |of| of.1);
        let (now, with_slack) = (at(percent), at(percent.saturating_add(SLACK)));
        let next = if now > self.level { now } else { self.level.min(with_slack) };
        (std::mem::replace(&mut self.level, next) != next).then_some(next)
    }

    /// Why, in words.
    pub(super) fn reason(&self, resident: u64) -> String {
        format!("{} MiB of {} MiB are used (--max-memory)", resident >> 20, self.bound.0 >> 20)
    }
}

impl Level {
    /// The word used on output: what is done without from here on.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Window => "window",
            Self::Processes => "processes",
            Self::Tasks => "tasks",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(used: &[u64]) -> Vec<Option<Level>> {
        let mut budget = Budget::new(Bound(1000));
        used.iter().map(|used| budget.used(*used)).collect()
    }

    #[test]
    fn more_is_done_without_the_nearer_the_bound_is() {
        use Level::{Nothing, Processes, Tasks, Window};
        assert_eq!(levels(&[600, 700, 860, 960, 2000]), [None, Some(Window), Some(Processes), Some(Tasks), None]);
        assert_eq!(levels(&[2000, 100]), [Some(Tasks), Some(Nothing)]);
    }

    #[test]
    fn censuses_share_what_is_left_and_nothing_is_kept_for_speed_when_it_is_little() {
        let bound = Bound(256 << 20);
        assert_eq!(bound.allowance(96 << 20, 4), Allowance::of(25 << 20));
        assert_eq!(bound.allowance(u64::MAX, 1), Allowance::of(0));
        assert!(!bound.is_short(179 << 20) && bound.is_short(180 << 20));
    }

    #[test]
    fn a_level_is_not_left_and_entered_again_for_a_trifle() {
        assert_eq!(levels(&[700, 690, 700, 660, 640]), [Some(Level::Window), None, None, None, Some(Level::Nothing)]);
    }
}
