//! How many events of each kind were said, and what could not be.

use crate::lifecycle::Watched;
use crate::model::{Event, EventKind};

/// Totals of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Inits, those of existing resources included.
    pub init: u64,
    /// Poll starts that were reported.
    pub before: u64,
    /// Poll ends that were reported.
    pub after: u64,
    /// Whether every poll was reported: else the two say nothing.
    pub every_poll: bool,
    /// Polls that were summed up, where they are.
    pub polls: Option<u64>,
    /// Outcomes.
    pub resolve: u64,
    /// Ends of life.
    pub destroy: u64,
    /// Records that found no room, and calls that were left alone: where it is not 0, every other total says "at least".
    pub lost: u64,
    /// Of these, calls on another stack than that of the call which their thread was amid: to wait for their return could end the program.
    pub elsewhere: u64,
    /// News of processes that found no room, or could not be understood.
    pub lost_news: u64,
    /// Records that could not be understood.
    pub malformed: u64,
    /// Records that came after the reorder window.
    pub late: u64,
    /// Resources of which no end was seen. What that says of who is alive at the end, `watched` tells.
    pub live: u64,
    /// How many of those may have ended before, see [`crate::lifecycle::Left::unsure`].
    pub unsure: u64,
    /// What was watched of the targets.
    pub watched: Watched,
    /// Targets in which nothing was.
    pub unplanted: u64,
    /// Targets, each program of a process counted.
    pub targets: u64,
    /// Resources that were alive when their process ended or began another program.
    pub ended_with_process: u64,
    /// Births, and first sights of tasks, that were not taken in because the memory bound was met.
    pub unfollowed: u64,
    /// Records, and summed polls, of processes or tasks that were not known to run the code that they ran.
    pub unplaced: u64,
}

impl Totals {
    /// Whether something is in none of them.
    pub fn is_at_least(&self) -> bool {
        self.lost > 0 || self.unfollowed > 0 || self.unplaced > 0
    }

    /// Counts one event, said or not.
    pub fn count(&mut self, event: &Event) {
        match event.kind {
            EventKind::Init { .. } => self.init += 1,
            EventKind::Before(_) => self.before += 1,
            EventKind::After(_) => self.after += 1,
            EventKind::Resolve(..) => self.resolve += 1,
            EventKind::Destroy(_) => self.destroy += 1,
            EventKind::Lost { count } => self.lost += count,
        }
    }
}
