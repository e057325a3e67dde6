//! async-observer: the life of every async task in a running, unmodified program.
//!
//! Modules in reading order, lowest floor first. `cargo xtask floors` checks that no import climbs.

pub mod decode;
pub mod lifecycle;
pub mod model;
pub mod sink;
