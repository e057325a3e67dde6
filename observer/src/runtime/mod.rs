//! What an async runtime looks like inside an image: its task types, and the places where tasks are born.
//!
//! Does not know: processes, probes, what anything costs. What it knows of one runtime stands in that runtime's folder;
//! what it knows of versions are rows of tables.

mod machinery;
mod panic_hooks;
mod panics;
mod printing;
mod polls;
mod tokio;

pub use machinery::is_machinery;
pub use polls::poll_bodies;
pub use tokio::{Described, future_name, name_types, shapes};

use std::fmt;

use crate::model::{MintRegister, TaskType, VirtAddr};
use crate::symbols::{Boundary, Image};

/// What an image holds of a runtime.
#[derive(Clone, Debug)]
pub enum Found {
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
    Runtime(RuntimeImage),
}

/// One copy of a runtime in one image.
#[derive(Clone, Debug)]
pub struct RuntimeImage {
    /// The version, where the image tells it.
    pub version: Option<Version>,
    /// Built with `--cfg tokio_unstable`.
    pub unstable: bool,
    /// Every spawned future type, by vtable address; at least one.
    pub types: Vec<TaskType>,
    /// Where tasks are born, by place.
    pub births: Vec<BirthSite>,
    /// Where task ids are minted, by place; other counters' numbers, too.
    pub mints: Vec<MintSite>,
    /// Which of the mints' counters is the task ids'.
    pub ids: IdCounter,
    /// Where panics begin to unwind.
    pub raises: Raises,
    /// Functions that tell a panic to the program's hook, each with the panic's place as its third or fourth argument.
    pub hooks: Vec<VirtAddr>,
}

/// A version and what tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// As published, `1.54.1`.
    pub number: String,
    /// The source path in the image that it is read from.
    pub evidence: String,
}

/// An instruction that takes a task vtable's address: it runs exactly once for each task of that type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BirthSite {
    /// The instruction.
    pub at: VirtAddr,
    /// The type born.
    pub vtable: VirtAddr,
    /// How certain it is that an instruction starts there.
    pub boundary: Boundary,
}

/// A place where a register holds a task id that was minted just before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MintSite {
    /// The atomic addition that mints.
    pub add: VirtAddr,
    /// The instruction behind it, where the register holds the id.
    pub at: VirtAddr,
    /// That register.
    pub register: MintRegister,
    /// The counter.
    pub counter: VirtAddr,
    /// How certain it is that an instruction starts there.
    pub boundary: Boundary,
}

/// Which counter task ids are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdCounter {
    /// This one.
    At(VirtAddr),
    /// No counter is taken from where tasks are born.
    NotFound,
    /// So many could be it, and nothing tells which.
    Several(usize),
}

/// Where panics begin to unwind, or why nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raises {
    /// At these places, each run once a panic.
    At(Vec<RaiseSite>),
    /// Nowhere: the image is built with `panic = "abort"`, a panic ends the process.
    Aborts,
    /// In another image: the standard library is linked dynamically, as this library.
    Elsewhere(String),
    /// The image unwinds, but the place was not found.
    NotFound,
}

/// A place that every panic passes as it begins to unwind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RaiseSite {
    /// The instruction.
    pub at: VirtAddr,
    /// How certain it is that an instruction starts there.
    pub boundary: Boundary,
}

/// What the image holds. Linear in its size; the same bytes give the same answer.
pub fn analyse(image: &Image<'_>) -> Found {
    tokio::analyse(image)
}

impl Raises {
    /// The places; none where panics do not unwind or nothing was found.
    pub fn sites(&self) -> &[RaiseSite] {
        match self {
            Self::At(sites) => sites,
            Self::Aborts | Self::Elsewhere(_) | Self::NotFound => &[],
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.number)
    }
}

/// What the running test binary holds.
#[cfg(test)]
pub(crate) fn own() -> &'static RuntimeImage {
    static OWN: std::sync::LazyLock<RuntimeImage> = std::sync::LazyLock::new(|| {
        let Found::Runtime(runtime) = analyse(crate::symbols::own::image()) else {
            panic!("the test binary has tokio tasks")
        };
        runtime
    });
    &OWN
}
