//! Which roles the wanted events need.
//!
//! Does not know: where the points of a role are.

use crate::model::{EventSet, Role, TaskFunctions, VirtAddr};

/// Those that sit at a vtable function's entry.
pub(super) const OF_VTABLES: [Role; 5] =
    [Role::Poll, Role::Shutdown, Role::DropJoinHandle, Role::DropAbortHandle, Role::Dealloc];

/// A set of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Roles(EventSet);

impl Roles {
    /// | event | roles |
    /// |---|---|
    /// | init | Mint, Birth |
    /// | before, after | Poll |
    /// | resolve | Poll, Shutdown, DropJoinHandle, DropAbortHandle (they tell of cancellation), Raise, Hook |
    /// | destroy | Poll, Shutdown, DropJoinHandle, DropAbortHandle, Dealloc: each may free the cell |
    pub(super) fn for_events(wanted: EventSet) -> Self {
        Self(wanted)
    }

    pub(super) fn has(self, role: Role) -> bool {
        let EventSet { init, before, after, resolve, destroy } = self.0;
        match role {
            Role::Mint | Role::Birth => init,
            // Who wants to know the spawners wants nothing else: `plan_spawns`.
            Role::Spawn => false,
            Role::Poll => before || after || resolve || destroy,
            Role::Shutdown | Role::DropJoinHandle | Role::DropAbortHandle => resolve || destroy,
            Role::Dealloc => destroy,
            Role::Raise | Role::Hook => resolve,
        }
    }
}

/// The vtable function whose entry a point of this role sits at.
pub(super) fn function(role: Role, functions: &TaskFunctions) -> Option<VirtAddr> {
    match role {
        Role::Poll => Some(functions.poll),
        Role::Shutdown => Some(functions.shutdown),
        Role::DropJoinHandle => Some(functions.drop_join_handle_slow),
        Role::DropAbortHandle => Some(functions.drop_abort_handle),
        Role::Dealloc => Some(functions.dealloc),
        Role::Mint | Role::Birth | Role::Spawn | Role::Raise | Role::Hook => None,
    }
}
