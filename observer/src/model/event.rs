//! What the life cycle says: the events of async_hooks, for one resource each.

use std::sync::Arc;

use super::{AsyncId, Naming, Ns, Pid, Place, ProcAddr, Resource, TaskId, Tid, TypeId};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it was seen; for an inferred event, when it was concluded.
    pub at: Ns,
    /// The process; `None` for what concerns all targets at once (a loss with several of them).
    pub pid: Option<Pid>,
    /// The thread; `None` for what no thread was seen doing (census, inferred ends).
    pub tid: Option<Tid>,
    /// The outermost of the tasks that led to the resource, one by spawning the other, as far as that was seen: itself where none is
    /// known to have spawned it. `None` for what concerns no resource.
    pub root: Option<AsyncId>,
    /// Concluded, not seen.
    pub inferred: bool,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The resource was created, or found existing.
    Init {
        /// Its id from now on.
        id: AsyncId,
        /// What the thread was running: 0 (`None` inside) is nothing, `None` outside is unknown.
        trigger: Option<Option<AsyncId>>,
        /// It was there before the attach.
        existing: bool,
        /// What it is.
        resource: Box<ResourceFacts>,
    },
    /// A poll starts.
    Before(AsyncId),
    /// A poll ends.
    After(AsyncId),
    /// Output, panic or cancellation is stored; of a panic, where its message says that it was, if that is known.
    Resolve(AsyncId, Outcome, Option<Arc<Place>>),
    /// The memory is freed, exactly once.
    Destroy(AsyncId),
    /// Records found no room.
    Lost {
        /// How many since the last such event.
        count: u64,
    },
}

impl EventKind {
    /// The resource it is of.
    pub fn id(&self) -> Option<AsyncId> {
        match self {
            Self::Init { id, .. } | Self::Before(id) | Self::After(id) | Self::Resolve(id, ..) | Self::Destroy(id) => {
                Some(*id)
            }
            Self::Lost { .. } => None,
        }
    }
}

/// What the task's `JoinHandle` would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// `Ok(output)`.
    Ready,
    /// `Err(e)` with `e.is_cancelled()`.
    Cancelled,
    /// `Err(e)` with `e.is_panic()`.
    Panicked,
    /// Nothing that was seen tells.
    Unknown,
}

impl Outcome {
    /// The word used on output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Cancelled => "cancelled",
            Self::Panicked => "panicked",
            Self::Unknown => "unknown",
        }
    }
}

/// What an init tells of its resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceFacts {
    /// Task or blocking.
    pub resource: Resource,
    /// Tokio's id; `None` where the birth was seen but not its id.
    pub task_id: Option<TaskId>,
    /// The header's address; `None` before the first sight of it.
    pub address: Option<ProcAddr>,
    /// The future type's identity.
    pub type_id: Option<TypeId>,
    /// Its name.
    pub future: Naming,
    /// Where its body stands.
    pub place: Option<Place>,
}

/// Which events are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSet {
    /// Creations.
    pub init: bool,
    /// Poll starts.
    pub before: bool,
    /// Poll ends.
    pub after: bool,
    /// Outcomes.
    pub resolve: bool,
    /// Ends of life.
    pub destroy: bool,
}

impl EventSet {
    /// Every event.
    pub const ALL: Self = Self { init: true, before: true, after: true, resolve: true, destroy: true };
    /// No event.
    pub const NONE: Self = Self { init: false, before: false, after: false, resolve: false, destroy: false };

    /// Whether this event is wanted; `lost` always is.
    pub fn wants(&self, kind: &EventKind) -> bool {
        match kind {
            EventKind::Init { .. } => self.init,
            EventKind::Before(_) => self.before,
            EventKind::After(_) => self.after,
            EventKind::Resolve(..) => self.resolve,
            EventKind::Destroy(_) => self.destroy,
            EventKind::Lost { .. } => true,
        }
    }
}
