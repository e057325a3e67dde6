//! One process as the kernel shows it: `/proc`, its memory, its threads, its end; which processes there are; and a
//! program started to be observed.
//!
//! Floor 2: sees `model` only. Does not know: ELF, any runtime, probes. The process is only read, never written.

mod descriptors;
mod enclosure;
mod error;
mod filling;
mod frozen;
mod hold;
mod launch;
mod layered;
mod listing;
mod machine;
mod maps;
mod memory;
mod module;
mod pagemap;
mod privileges;
mod process;
mod regular;
mod same_file;
#[cfg(test)]
pub(crate) mod sleeper;
mod standing;
mod standstill;
mod stat;
mod status;
mod syscall;
mod threads;
mod trials;

pub use descriptors::{Watched, parse_watched};
pub use enclosure::{container_in, enclosure_of, parse_cgroup, parse_ns_pid};
pub use error::{LaunchError, MemoryError, TargetError};
pub use filling::{Filling, Piece};
pub use hold::Hold;
pub use launch::{Launched, Running};
pub use layered::Layered;
pub use listing::{Listed, Listing, list_processes, listed};
pub use machine::{Settings, Tracing, try_tracing};
pub use maps::{Backing, Mapping, MapsError, Permissions, parse_maps};
pub use memory::Memory;
pub use module::{Module, code_bias};
pub use pagemap::Pagemap;
pub use privileges::{in_first_user_namespace, keep_only, own_status};
pub use process::{Process, StartTime};
pub use regular::open_regular;
pub use standing::{Standing, parse_arrivals, parse_waits};
pub use standstill::Standstill;
pub use stat::{is_running, own_cpu, own_memory, process_cpu};
pub use status::{Seccomp, Status};
pub use syscall::{
    Readers, effective_user, give_memory_back, ignores_hangups, monotonic_now, page_size, prefer_huge_pages,
    take_questions, wake_soon,
};
pub use threads::{StackPointer, Thread};
pub use trials::{TrialError, try_any_file, try_map_files, try_reading};

pub use crate::model::{AddressRange, FileId};
