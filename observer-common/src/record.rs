//! One record: what a probe saw at one hit. Written whole by the kernel side, cut to one of three lengths.

/// Words of a task's memory copied from its header on: 80 bytes hold state, queue link, vtable, owner, the task id at
/// any offset met so far (32 to 64) and, with `tokio_unstable`, the spawn location behind it.
pub const HEAD_WORDS: usize = 10;
/// Words copied behind the head when a leaving probe finds the task complete: the stage, which holds the outcome.
pub const STAGE_WORDS: usize = 8;

/// The task's memory at `subject` could not be read; `head` is zero.
pub const FLAG_HEAD_UNREADABLE: u16 = 1;
/// The head was read, the stage behind it not; `stage` is zero.
pub const FLAG_STAGE_UNREADABLE: u16 = 2;
/// A leaving probe without the entry that belongs to it (the entry was before the attach, or its map was full).
pub const FLAG_SUBJECT_UNKNOWN: u16 = 4;

/// What kind of probe wrote the record. Which function it sits on is in the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordKind {
    /// A spawner took a task vtable's address: `subject` is the task id minted last on this thread, 0 if none was seen.
    Birth = 1,
    /// A function of a task's vtable was entered: `subject` is the header, `head` its memory.
    Enter = 2,
    /// That function returned: `subject` and `sp` are those of its entry, `head` (and `stage`) the memory now.
    Leave = 3,
    /// A Rust panic began to unwind on this thread.
    Raise = 4,
}

impl RecordKind {
    /// The kind with this number, or `None` for one this build does not know.
    pub const fn from_u16(n: u16) -> Option<Self> {
        Some(match n {
            1 => Self::Birth,
            2 => Self::Enter,
            3 => Self::Leave,
            4 => Self::Raise,
            _ => return None,
        })
    }
}

/// The record, in the machine's byte order, without padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// CLOCK_MONOTONIC, nanoseconds. Taken when the probe was hit, but for [`RecordKind::Leave`] after the memory was
    /// read: whoever freed the memory that a return finds gone has entered before this time.
    pub ts: u64,
    /// The attach point, see [`crate::Cookie`].
    pub cookie: u64,
    /// The thread's stack pointer at the function's entry (for [`RecordKind::Leave`] that of the entry, too).
    pub sp: u64,
    /// Header address or minted task id, by kind.
    pub subject: u64,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// [`RecordKind`] as a number.
    pub kind: u16,
    /// `FLAG_*` bits.
    pub flags: u16,
    /// Always zero; keeps the layout free of padding.
    pub reserved: u32,
    /// The word that the cookie's `far` asks for, 0 where it asks for none: the task id of a cell whose future is so
    /// strongly aligned that the id lies behind the head.
    pub far: u64,
    /// Memory from the header on. Present from [`RECORD_WITH_HEAD`] on.
    pub head: [u64; HEAD_WORDS],
    /// Memory behind `head`. Present in [`RECORD_FULL`].
    pub stage: [u64; STAGE_WORDS],
}

/// Bytes of a record without task memory (birth, raise).
pub const RECORD_BARE: usize = 56;
/// Bytes of a record with the head (enter, leave).
pub const RECORD_WITH_HEAD: usize = RECORD_BARE + 8 * HEAD_WORDS;
/// Bytes of a record with head and stage (leave of a complete task).
pub const RECORD_FULL: usize = RECORD_WITH_HEAD + 8 * STAGE_WORDS;

const _: () = assert!(size_of::<Record>() == RECORD_FULL);
const _: () = assert!(core::mem::offset_of!(Record, head) == RECORD_BARE);
const _: () = assert!(core::mem::offset_of!(Record, stage) == RECORD_WITH_HEAD);
