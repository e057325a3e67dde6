//! Tasks for the tests of this floor.

use crate::model::{LiveTask, ProcAddr, TaskId, TaskState};

/// A future of this type, at an address of its own.
pub(super) fn task(vtable: u64, id: u64, state: u64) -> LiveTask {
    LiveTask {
        header: ProcAddr(id << 7),
        vtable: ProcAddr(vtable),
        id: TaskId(id),
        state: TaskState(state),
        owner: 1,
        spawn_location: None,
        running_on: None,
    }
}
