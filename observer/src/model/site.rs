//! What tasks are counted by: their future type, and where they were spawned if the build records it.

use super::{LiveTask, ProcAddr};

/// A kind of task in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// The future type, by its vtable's address in the process.
    pub vtable: ProcAddr,
    /// The `&'static Location` of the spawn call; only builds with `tokio_unstable` record it.
    pub spawned_at: Option<ProcAddr>,
}

impl Site {
    /// The task's.
    pub fn of(task: &LiveTask) -> Self {
        Self { vtable: task.vtable, spawned_at: task.spawn_location }
    }
}
