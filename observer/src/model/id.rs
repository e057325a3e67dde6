//! Identities. None of them is an address, and none is ever reused for something else while we watch.

use std::fmt;

/// Minted by us at a resource's init; never reused in a session. 0 is never minted: it means "none" on output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsyncId(pub u64);

/// Tokio's own task id: unique in one process and one copy of tokio, increasing, never reused, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

/// A process, as this program's own pid namespace numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub u32);

/// A thread, as the kernel's initial pid namespace numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub u32);

/// One life of a process under observation, from when it began to run its program: minted by us, never reused in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u32);

macro_rules! plain {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
plain!(AsyncId, TaskId, Pid, Tid);
