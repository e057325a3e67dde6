//! Rendering of what samples tell: who is busy, who blocks.
//!
//! Does not know: how samples are taken.

mod json;
mod text;

use std::io::{self, Write};
use std::time::SystemTime;

use crate::model::{Caller, Estimate, Missing, Ns, Pid, TargetEntry, TaskId, Tid, TypeEntry};

use super::{EndReason, LostNews, Overhead};

pub use json::SampledJson;
pub use text::SampledText;

/// One thing to be said, in the order in which a run says them.
#[derive(Clone, Debug)]
pub enum SampledReport<'a> {
    /// First of all.
    Start(SampledStart<'a>),
    /// A process's samples of an interval, or of the whole run; whose they were follows.
    Interval(Interval<'a>),
    /// Whose samples they were.
    Busy(Busy<'a>),
    /// A poll that goes on for long.
    Blocking(Blocking<'a>),
    /// A process that is sampled from now on, or has more images than it had.
    Target {
        /// When.
        at: Ns,
        /// It.
        entry: &'a TargetEntry,
        /// How it came to run what it runs, in a word: `found`, `exec`, `fork`, `loaded`.
        why: &'static str,
        /// What will be missing in all of them, as at the start.
        missing: &'a [Missing],
    },
    /// A process that is not sampled any more.
    Ended {
        /// When.
        at: Ns,
        /// The process.
        pid: Pid,
        /// Why, in a word: `exit`, `exec`.
        why: &'static str,
    },
    /// Samples that found no room, or that the kernel left out.
    Lost {
        /// When it was noticed.
        at: Ns,
        /// How many since the last such report.
        count: u64,
    },
    /// News of processes that were not heard.
    LostNews(LostNews),
    /// What sampling costs, since the last such report.
    Overhead(Ns, Overhead),
    /// Last of all.
    End(SampledEnd),
}

/// How samples are taken.
#[derive(Clone, Debug)]
pub struct SampledStart<'a> {
    /// When, on the monotonic clock.
    pub at: Ns,
    /// The same moment as wall-clock time.
    pub wall: SystemTime,
    /// The kernel's release.
    pub kernel: &'a str,
    /// Samples a second of time on a CPU.
    pub hz: u64,
    /// Bytes of stack in a sample at most.
    pub stack: u32,
    /// From one report to the next.
    pub interval: Ns,
    /// From when on a poll is named.
    pub blocking: Ns,
    /// Tasks are counted apart.
    pub by_task: bool,
    /// How long it took to begin.
    pub attach: Ns,
    /// Who is sampled later besides: `nothing`, `named`, `everyone`.
    pub following: &'static str,
    /// The processes.
    pub targets: Vec<&'a TargetEntry>,
    /// What will be missing in all of them.
    pub missing: &'a [Missing],
}

/// How many samples a process had.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// Its end.
    pub at: Ns,
    /// The process.
    pub pid: Pid,
    /// How long it was.
    pub during: Ns,
    /// It is the whole run.
    pub total: bool,
    /// Samples of the machine that found no room meanwhile: figures are at least so large.
    pub lost: u64,
    /// All samples of the process.
    pub samples: u64,
    /// Their time on a CPU.
    pub busy: Estimate,
    /// In a task's poll.
    pub in_polls: u64,
    /// In none: the runtime's or other code.
    pub outside: u64,
    /// Whose stack could not be followed, by why.
    pub unknown: &'a [(&'static str, u64)],
    /// Of those in polls, where it is not known which task was polled, by why.
    pub untold: &'a [(&'static str, u64)],
}

/// Whose samples they were: a type's, or a task's.
#[derive(Clone, Debug)]
pub struct Busy<'a> {
    /// The interval's end.
    pub at: Ns,
    /// The process.
    pub pid: Pid,
    /// Of the whole run.
    pub total: bool,
    /// The type; several where they share their poll's code, and it is not known which.
    pub types: Vec<&'a TypeEntry>,
    /// The task, where tasks are counted apart and it is known.
    pub task: Option<TaskId>,
    /// Its samples.
    pub samples: u64,
    /// The time they stand for.
    pub busy: Estimate,
    /// Its part of all samples of the process, 0 to 1.
    pub share: f64,
}

/// A poll that goes on for long, as far as was seen.
#[derive(Clone, Debug)]
pub struct Blocking<'a> {
    /// When it was seen last.
    pub at: Ns,
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// The type; several where they share their poll's code, and it is not known which.
    pub types: Vec<&'a TypeEntry>,
    /// The task, if it is known.
    pub task: Option<TaskId>,
    /// For so long at least.
    pub during: Ns,
    /// On a CPU, or in a call that waits.
    pub how: How,
    /// The calls, innermost first.
    pub stack: &'a [Caller],
}

/// How a poll was seen to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Samples in a row were in it. It may have returned and begun again in between: not certain.
    OnCpu {
        /// So many.
        samples: u64,
        /// How often the task was looked at besides, and seen to run each time.
        looks: u64,
    },
    /// Its thread waited in it, and has not got on a CPU since: certain.
    Waiting,
}

/// What is said at the end.
#[derive(Clone, Copy, Debug)]
pub struct SampledEnd {
    /// When.
    pub at: Ns,
    /// Why.
    pub reason: EndReason,
    /// What was added up.
    pub totals: SampledTotals,
    /// What all of it has cost.
    pub overhead: Overhead,
}

/// What was added up until the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampledTotals {
    /// Samples of the targets.
    pub samples: u64,
    /// Of those, in a task's poll.
    pub in_polls: u64,
    /// In none.
    pub outside: u64,
    /// Not followed.
    pub unknown: u64,
    /// Samples of the machine that found no room.
    pub lost: u64,
    /// How often the kernel made a pause.
    pub throttled: u64,
    /// Records that could not be understood.
    pub malformed: u64,
    /// Polls that were named.
    pub blocking: u64,
}

/// A rendering of samples.
pub trait SampledSink {
    /// One thing.
    fn say(&mut self, report: &SampledReport<'_>, out: &mut dyn Write) -> io::Result<()>;
}
