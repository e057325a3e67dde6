//! One process as the kernel shows it: `/proc`, its memory, its threads, its end; and a program started to be observed.
//!
//! Floor 2: sees `model` only. Does not know: ELF, any runtime, probes. The process is only read, never written.

mod descriptors;
mod error;
mod launch;
mod maps;
mod memory;
mod module;
mod pagemap;
mod process;
#[cfg(test)]
pub(crate) mod sleeper;
mod stat;
mod syscall;
mod threads;

pub use descriptors::{Watched, parse_watched};
pub use error::{Capability, LaunchError, MemoryError, TargetError};
pub use launch::{Launched, Running};
pub use maps::{AddressRange, Backing, FileId, Mapping, MapsError, Permissions, parse_maps};
pub use memory::Memory;
pub use module::Module;
pub use pagemap::Pagemap;
pub use process::{Process, StartTime};
pub use syscall::{effective_user, monotonic_now, page_size, prefer_huge_pages};
pub use threads::{StackPointer, Thread};
