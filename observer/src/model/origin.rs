//! How live tasks came to be: through which calls, and by which tasks.
//!
//! Does not know: how that was seen.

use super::{Caller, TaskId};

/// Tasks that were spawned through the same calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// How many.
    pub tasks: u64,
    /// Of those, the ones proved to be stuck.
    pub stuck: u64,
    /// The calls, innermost first; empty where the stack was not kept.
    pub callers: Vec<Caller>,
    /// Of one of them: the task that spawned it, the task that spawned that one, and so on.
    pub ancestors: Vec<Ancestor>,
    /// What there is beyond the last of them.
    pub beyond: Beyond,
}

/// A task that spawned another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// Which; `None` where only its type is known.
    pub task: Option<TaskId>,
    /// Its future type, as it is named to people.
    pub future: String,
}

/// Where a chain of ancestors ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Beyond {
    /// No task: it was spawned by code outside of any.
    NoTask,
    /// The last one was there before spawns were watched, or its own spawn was not seen or not kept.
    NotSeen,
    /// The stack does not tell which task spawned it.
    NotTold,
}
