//! Who looks at the loads: one row of the table each. A tier or a peer is added here, and nowhere else.

use super::bpftrace::Job;

/// A row.
pub(super) struct Row {
    /// What the table and the goals call it.
    pub(super) name: &'static str,
    /// Who looks.
    pub(super) how: How,
}

impl Row {
    /// Whether it is of this project, and so may not fail.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.how, How::Bare | How::Ours(_))
    }
}

/// Who looks at a load.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// Nobody.
    Bare,
    /// Our own binary: the first of these command lines that it accepts. What is older stands last.
    Ours(&'static [&'static [&'static str]]),
    /// bpftrace: entry and return of every poll function.
    Bpftrace(Job),
    /// strace, which stops the process at every system call: a mark on the scale.
    Strace,
    /// tokio-console's subscriber, in a rebuilt program, with or without a client that listens.
    Console { client: bool },
    /// dial9's hooks, in a rebuilt program.
    Dial9,
    /// A peer that this bench does not know how to get, with the reason.
    Unobtainable(&'static str),
}

/// Names that goals speak of.
pub(super) const BARE: &str = "bare";
pub(super) const AGAIN: &str = "bare again";
pub(super) const FLOOR: &str = "empty probes";
pub(super) const CENSUS: &str = "census";
pub(super) const SPAWNS: &str = "spawns";
pub(super) const SAMPLED: &str = "sampled";
pub(super) const LIFECYCLE: &str = "lifecycle";
pub(super) const POLLS: &str = "polls";
pub(super) const FULL: &str = "full";

pub(super) const BPFTRACE_SUMS: &str = "bpftrace, sums by task";
pub(super) const BPFTRACE_EVENTS: &str = "bpftrace, every event";
pub(super) const CONSOLE: &str = "console-subscriber";

/// All of them, in the table's order.
pub(super) const ROWS: &[Row] = &[
    Row { name: BARE, how: How::Bare },
    Row { name: AGAIN, how: How::Bare },
    Row { name: FLOOR, how: How::Ours(&[&["trace", "--empty-probes"]]) },
    Row { name: CENSUS, how: How::Ours(&[&["trace", "--tier", "census"], &["sweep", "--quiet", "--every", "1s"]]) },
    Row { name: SPAWNS, how: How::Ours(&[&["trace", "--tier", "spawns"], &["trace", "--events", "init"]]) },
    Row { name: "spawns, stacks", how: How::Ours(&[&["trace", "--tier", "spawns", "--stacks"]]) },
    Row { name: SAMPLED, how: How::Ours(&[&["trace", "--tier", "sampled"]]) },
    Row {
        name: LIFECYCLE,
        how: How::Ours(&[&["trace", "--tier", "lifecycle"], &["trace", "--events", "init,resolve,destroy"]]),
    },
    Row { name: POLLS, how: How::Ours(&[&["trace", "--tier", "polls"]]) },
    Row { name: FULL, how: How::Ours(&[&["trace", "--tier", "full"], &["trace"]]) },
    Row { name: "bpftrace, counts", how: How::Bpftrace(Job::Counts) },
    Row { name: BPFTRACE_SUMS, how: How::Bpftrace(Job::Sums) },
    Row { name: BPFTRACE_EVENTS, how: How::Bpftrace(Job::Events) },
    Row { name: CONSOLE, how: How::Console { client: false } },
    Row { name: "console-subscriber, a client", how: How::Console { client: true } },
    Row { name: "dial9", how: How::Dial9 },
    Row {
        name: "hud",
        how: How::Unobtainable("hud is in no package registry: it is built from its own repository only"),
    },
    Row { name: "strace -c", how: How::Strace },
];
