//! What the setup arm hands to the event arm: everything needed to understand records, as plain values.

use std::collections::HashMap;

use super::{AttachPoint, Bias, BuildId, Pid, PointIndex, PointMap, ProcAddr, TaskType, TypeId};

/// Points, types and targets of one session.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The observed processes; a cookie's `target` is an index into this.
    pub targets: Vec<TargetEntry>,
    /// All points; a cookie's `point` is an index into this.
    pub points: Vec<PointEntry>,
}

/// One observed process.
#[derive(Clone, Debug)]
pub struct TargetEntry {
    /// The process.
    pub pid: Pid,
    /// Its executable, as `/proc` names it.
    pub exe: String,
    /// Images with a supported runtime.
    pub images: Vec<ImageEntry>,
    /// Types by the vtable's address in this process.
    pub types: HashMap<ProcAddr, TypeEntry>,
    /// The runtimes' static counters that numbers are taken from one by one: task ids, ids of task lists, others.
    pub counters: Vec<ProcAddr>,
    /// Its points by address, where the way of attaching lets records say addresses only.
    pub places: PointMap,
    /// What will not be seen, and why.
    pub missing: Vec<Missing>,
}

/// One image of a target that carries a supported runtime.
#[derive(Clone, Debug)]
pub struct ImageEntry {
    /// Path as mapped.
    pub path: String,
    /// Its identity.
    pub build_id: BuildId,
    /// The runtime's version, `None` where no evidence was found.
    pub version: Option<String>,
    /// Built with `--cfg tokio_unstable`.
    pub unstable: bool,
    /// No symbol table.
    pub stripped: bool,
    /// Where it is loaded.
    pub bias: Bias,
    /// Distinct future types.
    pub types: usize,
    /// Spawn sites found.
    pub spawn_sites: usize,
    /// Points attached.
    pub points: usize,
    /// Points of those on instructions that the kernel must single-step.
    pub single_stepped: usize,
}

/// One future type of one target.
#[derive(Clone, Debug)]
pub struct TypeEntry {
    /// Identity across processes.
    pub id: TypeId,
    /// What the image tells of it.
    pub task: TaskType,
}

/// One point of the session.
#[derive(Clone, Debug)]
pub struct PointEntry {
    /// The image, as an index into its target's `images`.
    pub image: usize,
    /// What it is.
    pub point: AttachPoint,
}

/// An event that will be absent or incomplete, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The event's word (`init`, `before`, ...), or `trigger`, `outcome`.
    pub event: &'static str,
    /// In words, with the next step where there is one.
    pub reason: String,
}

impl TargetEntry {
    /// A process of which nothing is known yet.
    pub fn new(pid: Pid, exe: String) -> Self {
        Self {
            pid,
            exe,
            images: Vec::new(),
            types: HashMap::new(),
            counters: Vec::new(),
            places: PointMap::default(),
            missing: Vec::new(),
        }
    }
}

impl Catalog {
    /// The point with this index.
    pub fn point(&self, index: PointIndex) -> Option<&PointEntry> {
        self.points.get(index.0 as usize)
    }
}
