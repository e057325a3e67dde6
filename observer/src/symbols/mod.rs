//! What an ELF image holds, read from its bytes alone: segments, relocated words, function starts, symbols, code.
//!
//! Does not know: processes, files, runtimes. Foreign bytes never make it panic, nor take more memory than a small
//! multiple of the image's own size.

mod build_id;
mod callers;
mod code;
mod dynamic;
mod functions;
mod image;
mod pointers;
mod references;
mod segment;
mod symbol_table;

pub use callers::Callers;
pub use code::{Sweep, decode};
pub use functions::Functions;
pub use image::{Image, ImageError};
pub use pointers::{Pointer, Pointers};
pub use references::{Access, Boundary, Reference, Targets, references};
pub use segment::Segment;
pub use symbol_table::Symbol;
