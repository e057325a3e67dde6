//! Every live task of a process, read from its memory, without any probe.
//!
//! Floor 3: sees `model` and `target`. Does not know: versions of a runtime (layouts come in as plain values), names,
//! events. How it finds tasks: every cell holds the address of its type's vtable, so each word of the process's own
//! writable memory that equals a known vtable's address is a candidate; what a live cell must look like sorts out the
//! freed cells and stray copies, each with its [`Rejection`]. Once found, the runtime's own lists lead to all futures
//! again without a search ([`Series`]).

mod addresses;
mod allowance;
mod anchors;
mod awaits;
mod bounds;
mod cell;
mod cell_types;
mod counters;
mod counts;
mod evidence;
mod execution;
mod following;
mod future_reading;
mod last_look;
mod links;
mod listing;
mod location;
mod look;
mod pages;
mod pieces;
mod places;
mod rejection;
mod search;
mod series;
mod shape;
mod slot;
mod source;
mod stacks;
mod standing;
mod taking;
mod tally;
mod tasks;
mod waits;
mod walk;
mod walking;

pub use allowance::Allowance;
pub use awaits::{Awaiter, NoAwaits, awaits};
pub use bounds::{Bounds, High, Unbounded};
pub use cell_types::{CellType, CellTypes, ImageIndex};
pub use location::location;
pub use rejection::{Rejected, Rejection};
pub use series::{Doubt, Series};
pub use standing::{Known, standing};
pub use waits::{ImageSpan, Waits};

use crate::model::{LiveTask, Ns, Pid};
use crate::target::{AddressRange, MemoryError, TargetError};

#[cfg(test)]
mod tests;

/// The live tasks of one process.
///
/// Exact for tasks that exist during the whole census; of those that begin or end meanwhile some are in it. Tasks that
/// are complete and whose output is still kept by a handle are in it, too: their state says so.
#[derive(Clone, Debug)]
pub struct Census {
    /// The tasks, in order of address. No id occurs twice in one image.
    pub tasks: Vec<LiveTask>,
    /// How they were found.
    pub how: How,
    /// Of what is in no list, which was looked for.
    pub unlisted: Unlisted,
    /// How many live futures there were.
    pub bounds: Bounds,
    /// When it began.
    pub started: Ns,
    /// When it was over. Every task's state was read between the two.
    pub ended: Ns,
    /// Bytes of memory that were searched.
    pub bytes_read: u64,
    /// Memory that should have been searched and could not be read. Tasks in it are missing.
    pub unread: Vec<AddressRange>,
    /// Candidates turned away.
    pub rejected: Rejected,
    /// The bound on the census's own memory was met: there are more tasks than these.
    pub truncated: bool,
}

/// How a census found its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By a search through all memory.
    Scan,
    /// Along the runtime's own lists.
    Walk,
}

/// Tasks that are in no list: closures of the blocking pool, workers, and futures that are complete and whose output is
/// still kept by a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// All were searched for.
    Searched,
    /// Only those known from the scan that ended then, and from walks since, were looked at again; younger ones are
    /// missing.
    SinceScan(Ns),
}

/// Why there is no census.
#[derive(Debug, thiserror::Error)]
pub enum CensusError {
    /// The process cannot be looked at.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Its memory cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// It runs another program now than when it was opened: what is known of its types does not hold any more.
    #[error("process {pid} runs another program now")]
    Replaced {
        /// Which.
        pid: Pid,
    },
}
