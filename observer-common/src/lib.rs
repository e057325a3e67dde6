//! Byte layout of what the kernel side writes and the user side reads, and nothing else.
//!
//! Does not know: what a runtime is, what a record means. See `observer::decode` for the meaning.
#![no_std]
#![forbid(unsafe_code)]

mod audience;
mod cookie;
mod counters;
mod desk;
mod quiet;
mod record;

pub use audience::{Audience, Standing};
pub use cookie::{Cookie, MintRegister};
pub use counters::Counter;
pub use desk::{BATCH, BATCH_ENOUGH, BATCH_ROOM, BatchHead, DESK, DESK_ROWS, Desk, FRAME, Sign, Waiting};
pub use quiet::{BUCKETS, PollSum, Quiet, TaskKey};
pub use record::{
    CALL_ENTRY, CALL_FULL, CALL_WITH_HEAD, CallRecord, Entry, FLAG_BY_ADDRESS, FLAG_HEAD_UNREADABLE, FLAG_NO_SCRATCH,
    FLAG_STACK_CUT, FLAG_STAGE_UNREADABLE, FLAG_SUBJECT_UNKNOWN, FLAG_UNSAID, HEAD_WORDS, OpenCall, PAGE, RECORD_BARE,
    RECORD_FULL, RECORD_WITH_HEAD, Record, RecordKind, Registers, SPAWN_BARE, STACK_MOST, STACK_PAGES, STAGE_WORDS,
    SpawnRecord, Spot,
};
