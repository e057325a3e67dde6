//! What is known of one image, whoever maps it and whatever is wanted of it: one plain value, computed once.
//!
//! Does not know: processes, files, how any of it was found.

use serde::{Deserialize, Serialize};

use super::{AttachPoint, BuildId, FileOffset, Missed, PollBody, Role, TaskType, VirtAddr};

/// What looking at one image came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Analysis {
    /// No task of a known runtime can live in it.
    Nothing,
    /// A runtime from before anything here was verified.
    TooOld {
        /// Its version.
        version: String,
        /// Why that is too old, in words.
        reason: String,
    },
    /// A runtime that can be observed.
    Runtime(Box<ImageFacts>),
}

/// Whose note makes an image known as an observer's.
pub const OBSERVER_NOTE: &[u8] = b"async-observer";

/// An image with a runtime that can be observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Its identity.
    pub build_id: BuildId,
    /// What of it is loaded where, by address.
    pub segments: Vec<LoadSegment>,
    /// It is an observer as this one is: never to be observed but by who names it.
    pub observer: bool,
    /// No symbol table.
    pub stripped: bool,
    /// The runtime's version, where the image tells it.
    pub version: Option<String>,
    /// Built with `--cfg tokio_unstable`.
    pub unstable: bool,
    /// Names of types were looked for; else no type has one.
    pub named: bool,
    /// Every spawned future type, by vtable address.
    pub types: Vec<TaskType>,
    /// Spawn sites found.
    pub spawn_sites: usize,
    /// The runtime's static counters that numbers are taken from, by address, one an address.
    pub counters: Vec<VirtAddr>,
    /// Every point that any session may want, and those that cannot be had.
    pub plan: ImagePlan,
    /// Where its tasks' polls are, by place.
    pub polls: Vec<PollBody>,
    /// Where split debug information of it was looked for and not found: as long as all of this is as it was, there is no more to
    /// be known.
    pub missed: Vec<Missed>,
}

/// A `PT_LOAD` of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadSegment {
    /// `p_offset`.
    pub offset: FileOffset,
    /// `p_vaddr`.
    pub address: VirtAddr,
    /// `PF_X`.
    pub executable: bool,
}

/// The points of one image for all events; a session chooses among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePlan {
    /// By place, one a role and place (births: one a spawn site).
    pub points: Vec<AttachPoint>,
    /// Roles that have no point at some of their places, one each.
    pub unprobed: Vec<Unprobed>,
    /// Future types.
    pub types: usize,
    /// Future types of those that have no spawn site.
    pub unborn: usize,
    /// Places where task ids are minted.
    pub mints: usize,
    /// What is known of where task ids are taken.
    pub ids: IdPlaces,
    /// What is known of panics.
    pub panics: PanicPlaces,
}

/// Whether it is known where tasks take their ids: who spawns is told there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdPlaces {
    /// The places are among the points, as spawns.
    Found,
    /// No counter that looks like the one of task ids.
    NotFound,
    /// So many, of which none is known to be the one.
    Several(usize),
}

/// Places of one role that cannot be probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unprobed {
    /// The role.
    pub role: Role,
    /// How many.
    pub places: usize,
    /// The first of them.
    pub first: VirtAddr,
    /// Why not that one, in words.
    pub reason: String,
}

/// Whether a panic is seen where it begins to unwind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PanicPlaces {
    /// The places are known, and are among the points.
    Found,
    /// Nowhere: the image is built with `panic = "abort"`, a panic ends the process.
    Aborts,
    /// In another image: the standard library is linked dynamically, as this library.
    Elsewhere(String),
    /// The image unwinds, but the place was not found.
    NotFound,
}
