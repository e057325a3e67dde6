//! Puts the kernel's probes on attach points and hands out what they report: the only place that knows aya and bpf(2).
//!
//! Does not know what a point or a record means, nor which points are wanted. [`Probes`] owns programs, maps and rings;
//! [`Links`] holds the breakpoints in their targets and takes them out when it is dropped.

mod error;
mod filtered;
mod kernel;
mod kernel_log;
mod links;
mod mechanism;
mod object;
mod probes;
mod ring;
mod trial;
#[cfg(test)]
mod tests;

pub use self::object::{Spawners, Work};
pub use error::AttachError;
pub use links::{ImageRequest, Links, Refused};
pub use mechanism::Mechanism;
pub use probes::{Counters, Drained, Options, Probes};
pub use ring::Ring;
pub use trial::{Trials, Tried, UnderFilter};
