//! Processes as they come and go: forks, execs, mapped code and ends, told by the kernel when they happen.
//!
//! Floor 3: sees `model` and `perf`. Does not know: which processes there are (that is `target`'s), nor what runs in
//! them. [`Lives`] listens on every CPU; [`parse`] reads one entry; [`InTimeOrder`] joins the CPUs.

mod listening;
mod news;
mod order;

pub use listening::{Heard, Lives};
pub use news::{Change, Malformed, News, parse};
pub use order::InTimeOrder;
