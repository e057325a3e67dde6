//! Puts the kernel's probes on attach points and hands out what they report: the only place that knows aya and bpf(2).
//!
//! Does not know what a point or a record means, nor which points are wanted. [`Probes`] owns programs, maps and rings;
//! [`Links`] holds the breakpoints in their targets and takes them out when it is dropped.

mod audience;
mod barrier;
mod batches;
mod desks;
mod error;
mod filtered;
mod in_progress;
mod kernel;
mod kernel_log;
mod kernel_maps;
mod laps;
mod links;
mod mechanism;
mod object;
mod polled;
mod price;
mod probes;
mod programs;
mod rings;
mod sites;
mod trial;
#[cfg(test)]
mod tests;
mod trace_event;
mod tracefs;

pub use self::object::{Calls, Sessions, Spawners, Work};
pub use audience::sees_every_process;
pub use barrier::wait_for_programs;
pub use batches::Batches;
pub use error::AttachError;
pub use in_progress::Amid;
pub use laps::Laps;
pub use links::{Links, Refused};
pub use mechanism::Mechanism;
pub use observer_common::{Audience, Quiet};
pub use polled::PollSums;
pub use price::Price;
pub use probes::{Counters, Drained, Options, Probes};
pub use rings::Rings;
pub use sites::{ImageRequest, Scope};
pub use trial::{Prices, Trials, Tried, UnderFilter};
