//! async-observer: the life of every async task in a running, unmodified program.
//!
//! Modules in reading order, lowest floor first. `cargo xtask floors` checks that no import climbs.

pub mod model;
pub mod target;
pub mod symbols;
pub mod unwind;
pub mod perf;
pub mod decode;
pub mod lifecycle;
pub mod runtime;
pub mod lives;
pub mod census;
pub mod verdict;
pub mod plan;
pub mod sink;
pub mod cache;
pub mod attach;
pub mod session;
pub mod cli;
