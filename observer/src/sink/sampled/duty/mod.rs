//! What windows tell: who is busy, how many polls there are, and how far off that may be.

pub(super) mod json;
pub(super) mod text;

use std::time::SystemTime;

use crate::model::{Duty, Missing, Ns, Pid, Scaled, TargetEntry, TaskId, TypeEntry};
use crate::sink::EndReason;

/// One thing to be said, in the order in which a run says them.
#[derive(Clone, Debug)]
pub enum DutyReport<'a> {
    /// First of all.
    Start(DutyStart<'a>),
    /// A process's windows of an interval, or of the whole run; whose polls they showed follows.
    Interval(DutyInterval),
    /// Whose polls they were.
    Busy(DutyBusy<'a>),
    /// Last of all.
    End(DutyEnd),
}

/// How windows are made.
#[derive(Clone, Debug)]
pub struct DutyStart<'a> {
    /// When, on the monotonic clock.
    pub at: Ns,
    /// The same moment as wall-clock time.
    pub wall: SystemTime,
    /// The kernel's release.
    pub kernel: &'a str,
    /// How probes are attached.
    pub mechanism: &'a str,
    /// The part of the time that was wanted.
    pub duty: Duty,
    /// How long each window is.
    pub window: Ns,
    /// From one report to the next.
    pub interval: Ns,
    /// Tasks are counted apart.
    pub by_task: bool,
    /// How long it took to load the programs.
    pub attach: Ns,
    /// The processes.
    pub targets: Vec<&'a TargetEntry>,
    /// What will be missing in all of them.
    pub missing: &'a [Missing],
}

/// What windows showed of a process.
#[derive(Clone, Copy, Debug)]
pub struct DutyInterval {
    /// Its end.
    pub at: Ns,
    /// The process.
    pub pid: Pid,
    /// How long it was.
    pub during: Ns,
    /// It is the whole run.
    pub total: bool,
    /// Windows in it.
    pub windows: u64,
    /// How long they were together.
    pub measured: Ns,
    /// For how long probes were in the targets, their coming and going included.
    pub planted: Ns,
    /// Polls that began in a window.
    pub polls: u64,
    /// Of those, the ones that were still going on when they were looked at last.
    pub cut: u64,
    /// Time in polls of all the interval, nanoseconds.
    pub busy: Scaled,
    /// Polls a second.
    pub per_second: Scaled,
}

/// Whose polls they were: a type's, or a task's.
#[derive(Clone, Debug)]
pub struct DutyBusy<'a> {
    /// The interval's end.
    pub at: Ns,
    /// The process.
    pub pid: Pid,
    /// Of the whole run.
    pub total: bool,
    /// The type; several where they share their poll's code, and it is not known which; none where that was not seen.
    pub types: Vec<&'a TypeEntry>,
    /// The task, where tasks are counted apart and it is known.
    pub task: Option<TaskId>,
    /// Polls that began in a window.
    pub polls: u64,
    /// The time that they took.
    pub measured: Ns,
    /// The longest poll that was seen, in this run.
    pub longest: Ns,
    /// As in [`DutyInterval`].
    pub cut: u64,
    /// Time in polls of all the interval, nanoseconds.
    pub busy: Scaled,
    /// Its part of the time in polls of the process, 0 to 1.
    pub of_polls: f64,
    /// Polls a second.
    pub per_second: Scaled,
}

/// How long something took that was done many times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spans {
    /// Half of the times less; `None` where it was not done.
    pub median: Option<Ns>,
    /// Never more.
    pub longest: Option<Ns>,
}

/// What is said at the end.
#[derive(Clone, Copy, Debug)]
pub struct DutyEnd {
    /// When.
    pub at: Ns,
    /// Why.
    pub reason: EndReason,
    /// How often probes came and went.
    pub turns: u64,
    /// Windows of all processes.
    pub windows: u64,
    /// How long they were together.
    pub measured: Ns,
    /// For how long probes were in the targets, their coming and going included.
    pub planted: Ns,
    /// Polls that began in a window.
    pub polls: u64,
    /// As in [`DutyInterval`].
    pub cut: u64,
    /// Records and entries that found no room.
    pub lost: u64,
    /// Records that could not be understood.
    pub malformed: u64,
    /// Hits of all probes, those before and after a window included.
    pub hits: u64,
    /// Points that were left out at last, because memory was not the file's there.
    pub differing: u64,
    /// Putting probes in.
    pub attach: Spans,
    /// Taking them out.
    pub detach: Spans,
}
