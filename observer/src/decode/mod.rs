//! Bytes to observations: what a record says, by the catalog.
//!
//! Never guesses: what it cannot read is [`Malformed`], with its reason, for the session to count and show.
//! Does not know: what an observation means for a task's life (`lifecycle`).

mod call_parts;
mod merge;
mod record;
mod spawn;

pub use call_parts::CallParts;
pub use merge::Merger;
pub use record::{Malformed, decode, image_of};
pub use spawn::decode_spawn;
