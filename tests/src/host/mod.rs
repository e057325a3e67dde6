//! A host in miniature: many processes of a dozen binaries that start, fork, exec, load modules and are killed, each with a
//! book of its own, and the one stream that tells of them all.
//!
//! Knows what must hold between books and stream; does not know how the observer comes to it.

pub mod book;
pub mod director;
pub mod observed;
pub mod program;
pub mod vitals;

pub mod agreement;
