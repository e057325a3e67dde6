//! Which tasks are stuck, leaking or suspect, from what was read of them at several moments. Each verdict carries its
//! evidence; where there is too little of it, that is said instead.
//!
//! Floor 3: sees `model` only. Does not know: how tasks are read, names, how a finding looks, the time.
//!
//! | verdict | rule | is |
//! |---|---|---|
//! | stuck | idle, and references == 1 + join handle, at the two latest readings, with the same state word | a proof: no waker exists, so nothing polls it again short of an abort or a shutdown |
//! | leaking, all | the site's live count grew at every step, and of what was seen born at most 5 % ended | growth |
//! | leaking, part | those that outlived a whole step grew in number at every step, and of them at most 5 % of that growth ended | growth inside a busy place |
//! | suspect, in a ring | idle with the same state word at every reading, waiting for locks or for tasks to end, and all who must act wait in the same way or are stuck | a hint of a deadlock |
//! | suspect, many | at least 100 tasks of a site idle with the same state word at every reading, while at least as many others were spawned after them | a hint |
//!
//! Growth is judged from at least three readings (part: four), at least eight births, and only if it did not die down: the
//! last step holds at least a quarter of the mean step. A young process may be starting up, which looks the same: until
//! it is as old as the warm-up it is not judged for growth.

mod finding;
mod growth;
mod history;
mod judge;
mod rings;
#[cfg(test)]
mod sample;
mod sites;
mod waits;

pub use finding::{Evidence, Finding, Grows, Judgement, Undecided, Verdict, Why};
pub use history::{History, Reading};
pub use judge::Rules;
pub use sites::{SiteCount, count_by_site};
pub use waits::{WaitCount, count_waits};
