//! Stacks that tasks were spawned through, each joined to the one that its spawner was spawned through, and so on.
//!
//! Does not know: how they were seen.

use std::fmt;

use super::{Beyond, Caller, Pid, UnwindEnd};

/// The same calls in the same process, behind the same stack: one number in a stream, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LongStackId(pub u32);

impl fmt::Display for LongStackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The calls of a spawn, and what there is before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongStack {
    /// Its number.
    pub id: LongStackId,
    /// Whose it is.
    pub pid: Pid,
    /// The calls, innermost first.
    pub callers: Vec<Caller>,
    /// Why there are no more.
    pub end: UnwindEnd,
    /// What the task that made the spawn was spawned through.
    pub before: Before,
}

/// What there is before the calls of a spawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Before {
    /// The spawner was spawned through this.
    Stack(LongStackId),
    /// Nothing that is known.
    Nothing(Beyond),
    /// The spawner's chain is as long as one may be: chains of tasks that spawn each other for ever have no end.
    Bound,
}
