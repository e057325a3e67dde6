//! perf_event_open(2) and the rings that its events fill: what BPF programs write, and the side band of all processes.
//!
//! Floor 2: sees `model` only. Does not know what an entry says. [`Ring`] is one CPU's, [`Entry`] one thing in it.

mod cpus;
mod entry;
mod error;
mod event;
mod ring;

pub use cpus::online_cpus;
pub use entry::{Entry, Kind};
pub use error::PerfError;
pub use event::Source;
pub use ring::Ring;
