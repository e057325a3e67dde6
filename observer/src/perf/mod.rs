//! perf_event_open(2) and the rings that its events fill: what BPF programs write, the side band of all processes, samples
//! of who runs.
//!
//! Floor 2: sees `model` only. Does not know what an entry says, but for samples, whose layout
//! is the event's own choice ([`tick`]). [`Ring`] is one CPU's, [`Entry`] one thing in it.

mod cpus;
mod entry;
mod error;
mod event;
mod ring;
mod tick;
mod waiting;

pub use cpus::{keep_here, more_cpus_may_come, online_cpus};
pub use entry::{Entry, Kind};
pub use error::PerfError;
pub use event::{Sampling, Source};
pub use ring::Ring;
pub use tick::{CutShort, tick};
pub use waiting::Waiting;
