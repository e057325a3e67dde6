//! The vocabulary of the whole program: plain values, no I/O, no clock.
//!
//! Floor 1: sees `observer-common` only. Everything that crosses a module edge is one of these types.

mod activity;
mod address;
mod awaiting;
mod capability;
mod catalog;
mod enclosure;
mod estimate;
mod event;
mod facts;
mod files;
mod hash;
mod id;
mod image;
mod long_stack;
mod mapping;
mod naming;
mod origin;
mod panics;
mod observation;
mod point;
mod point_map;
#[cfg(test)]
mod sample;
mod shape;
mod sight;
mod site;
mod spawn;
mod stack;
mod task_type;
mod tick;
mod time;
mod waiting;
mod word;

pub use activity::Activity;
pub use address::{Bias, FileOffset, ProcAddr, VirtAddr};
pub use awaiting::{Awaiting, Polled, Standing, Suspension, Unfollowed};
pub use capability::{Capability, CapabilitySet};
pub use catalog::{Catalog, ImageEntry, MappedImage, Missing, TargetEntry, TypeEntry};
pub use enclosure::{ContainerId, Enclosure, NamespaceId};
pub use estimate::Estimate;
pub use event::{Event, EventKind, EventSet, Outcome, ResourceFacts};
pub use facts::{Analysis, IdPlaces, ImageFacts, ImagePlan, LoadSegment, OBSERVER_NOTE, PanicPlaces, Unprobed};
pub use files::{FilePlace, FileState, Missed};
pub use hash::{QuickMap, QuickSet};
pub use id::{AsyncId, Pid, TargetId, TaskId, Tid};
pub use image::{BuildId, TypeId, content_hash};
pub use long_stack::{Before, LongStack, LongStackId};
pub use mapping::{AddressRange, FileId};
pub use naming::{Naming, Place, Unnamed};
pub use observation::{Cell, CellWords, Frame, Observation, Seen, StageEvidence, StageWords};
pub use origin::{Ancestor, Beyond, Origin};
pub use panics::PanicSight;
pub use point::{AttachPoint, BY_PROCESS, Cost, PointIndex, Program, Role};
pub use point_map::PointMap;
pub use shape::{BodyState, Part, Phase, Shape, ShapeId, ShapeKind, Shapes, Tag, Variant};
pub use sight::Sight;
pub use site::Site;
pub use spawn::{Caller, FunctionName, ImagePlace, PollBody, SpawnSeen, StackId, Trigger, Untold, first_own};
pub use stack::{Cfa, CopyEnd, Glimpse, Kept, NoRule, Registers, Saved, SpawnHit, StackCopy, UnwindEnd, UnwindRule};
pub use task_type::{CellLayout, LiveTask, Resource, TaskFunctions, TaskState, TaskType};
pub use tick::Tick;
pub use time::Ns;
pub use waiting::{Peers, UnknownWaiting, Waiting};
pub use word::word_at;

pub use observer_common::{BUCKETS, MintRegister, PollSum, RecordKind, Spot, TaskKey};
