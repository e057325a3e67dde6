//! What becomes of polls after which the task goes on, and what is kept of those that are not reported.

/// What is done with a poll that neither ends its task nor begins or ends another: a constant of the programs (`QUIET`), set
/// when they are loaded. Where a program cannot tell it is reported all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Quiet {
    /// It is reported as every call.
    #[default]
    Reported = 0,
    /// Nothing.
    Unsaid = 1,
    /// It is added to its task's [`PollSum`].
    Summed = 2,
}

/// A task, as sums are kept: tokio gives no id twice in a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct TaskKey {
    /// The process, in the initial pid namespace.
    pub tgid: u64,
    /// Tokio's id, which is of one copy of tokio.
    pub id: u64,
}

/// Buckets of a histogram: see [`PollSum::bucket`].
pub const BUCKETS: usize = 32;

/// Polls of one task that were not reported, since it was first met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PollSum {
    /// How many.
    pub polls: u64,
    /// How long they took together, nanoseconds.
    pub busy_ns: u64,
    /// The longest of them, nanoseconds.
    pub longest_ns: u64,
    /// How many took how long.
    pub histogram: [u32; BUCKETS],
}

impl PollSum {
    /// Where a poll of so many nanoseconds is counted: bucket `n` holds those from `2^n` on and below `2^(n + 1)`, the first
    /// those of no nanosecond as well, the last all that took longer.
    pub const fn bucket(ns: u64) -> usize {
        let bucket = (ns | 1).ilog2() as usize;
        if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
    }
}
