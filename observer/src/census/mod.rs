//! Every live task of a process, read from its memory, without any probe.
//!
//! Floor 3: sees `model` and `target`. Does not know: versions of a runtime (layouts come in as plain values), names,
//! events. How it finds tasks: every cell holds the address of its type's vtable, so each word of the process's own
//! writable memory that equals a known vtable's address is a candidate; what a live cell must look like sorts out the
//! freed cells and stray copies, each with its [`Rejection`].

mod cell;
mod cell_types;
mod evidence;
mod execution;
mod links;
mod listing;
mod rejection;
mod slot;
mod spawn_location;
mod stacks;
mod standing;
mod taking;
mod waits;
mod walk;

pub use cell_types::{CellType, CellTypes, ImageIndex};
pub use rejection::{Rejected, Rejection};
pub use spawn_location::spawn_location;
pub use standing::{Known, standing};
pub use taking::{Census, CensusError};
pub use waits::{ImageSpan, Waits};

#[cfg(test)]
mod tests;
