//! What an ELF image holds, read from its bytes alone: segments, relocated words, function starts, symbols, code.
//!
//! Does not know: processes, files, runtimes. Foreign bytes never make it panic, nor take more memory than a small
//! multiple of the image's own size.

mod alt_link;
mod around;
mod build_id;
mod callees;
mod callers;
mod calls;
mod code;
mod debug_link;
mod dwarf;
mod dynamic;
mod error;
mod first_argument;
mod frame_cost;
mod frame_names;
mod functions;
mod glance;
mod header;
mod image;
mod located;
mod location;
#[cfg(test)]
pub(crate) mod own;
mod part;
mod pointers;
mod prologue;
mod references;
mod sections;
mod segment;
mod shapes;
mod skeletons;
mod split;
mod subprograms;
mod symbol_index;
mod symbol_table;
mod type_index;
mod type_reader;
mod type_text;
mod type_units;
mod type_writer;
mod unit_header;
mod units;
#[cfg(test)]
pub(crate) mod tiny;
mod unwind_table;

pub use alt_link::{AltLink, NotShared};
pub use around::Around;
pub use callees::{Call, Callees};
pub use callers::Callers;
pub use calls::{Calls, Level};
pub use code::{LOST_IN_CALLS, Sweep, decode, is_written};
pub use debug_link::DebugLink;
pub use dwarf::{Debug, Declaration};
pub use error::{ImageError, NotItsFile};
pub use frame_cost::TooCostly;
pub use frame_names::{Named, name_frames};
pub use functions::Functions;
pub use glance::Glance;
pub use image::Image;
pub use location::Location;
pub use pointers::{Pointer, Pointers};
pub use prologue::{ends_in_call, fixed_frame};
pub use references::{Access, Boundary, Reference, Targets, references};
pub use segment::Segment;
pub use skeletons::{Skeletons, SplitUnit};
pub use split::{NotSplit, SplitFile};
pub use symbol_index::{SymbolIndex, demangle};
pub use symbol_table::Symbol;
pub use type_text::{Path, TypeText};
pub use unwind_table::UnwindTable;
