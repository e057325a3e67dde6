//! A thread's desk: the calls that it is amid, and the records that wait there to be sent together.
//!
//! A thread sends its records when so many have come together, because a ring's entry costs the target as much as all else that a
//! program does; what has not been sent yet user space reads where it lies.

use crate::{CALL_FULL, OpenCall};

/// Calls that a desk has room for, a power of two: they are nested one or two deep nearly always.
pub const DESK_ROWS: usize = 4;
/// Bytes of a desk: a page.
pub const DESK: usize = 4096;
/// Bytes of records, each behind its length.
pub const BATCH_ROOM: usize = DESK - DESK_ROWS * size_of::<OpenCall>() - size_of::<BatchHead>();
/// What stands before each record: its length in bytes, a multiple of 8.
pub const FRAME: usize = 8;
/// When so many bytes wait they are sent: what there is of room beyond might not be enough for the next.
pub const BATCH_ENOUGH: usize = BATCH_ROOM - (FRAME + CALL_FULL) + 1;

/// What a batch begins with: a time that no record has.
pub const BATCH: u64 = u64::MAX;

/// Stands before records that are sent together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BatchHead {
    /// [`BATCH`].
    pub mark: u64,
    /// Whose records they are.
    pub desk: u32,
    /// How many batches that desk had sent before, as [`Waiting::generation`].
    pub generation: u32,
}

/// A desk.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Desk {
    /// Calls in progress.
    pub rows: [OpenCall; DESK_ROWS],
    /// Of what is sent next.
    pub head: BatchHead,
    /// What is sent next, as far as [`Sign::waiting`] says.
    pub records: [u8; BATCH_ROOM],
}

/// What is kept of each desk where it is found quickly: a line of the caches, or threads would wait for each other's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Sign {
    /// Process and thread, as the kernel's helper packs them; 0: nobody's.
    pub owner: u64,
    /// A [`Waiting`].
    pub waiting: u64,
    /// Hits of sessions whose program found this desk, whoever's it was, those at returns with them. Counted here and not among
    /// [`Counter`](crate::Counter)s, because only one thread writes here.
    pub hits: u64,
    /// Those of them at returns.
    pub returns: u64,
    /// The frame of the innermost call that the thread is amid and whose return is waited for; 0: it is amid none.
    pub innermost: u64,
    /// To the line's end.
    pub rest: [u64; 3],
}

/// What waits on a desk: in one word, so that it changes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Batches sent before, whoever's the desk was; it begins anew after the last number.
    pub generation: u32,
    /// Bytes of records.
    pub bytes: u32,
}

impl Waiting {
    /// From the word.
    #[inline(always)]
    pub const fn from_u64(n: u64) -> Self {
        Self { generation: (n >> 32) as u32, bytes: n as u32 }
    }

    /// The word.
    #[inline(always)]
    pub const fn to_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.bytes as u64
    }

    /// Once that was sent.
    #[inline(always)]
    pub const fn sent(self) -> Self {
        Self { generation: self.generation.wrapping_add(1), bytes: 0 }
    }
}

const _: () = assert!(size_of::<Sign>() == 64);
const _: () = assert!(size_of::<Desk>() == DESK);
const _: () = assert!(BATCH_ENOUGH > FRAME + CALL_FULL);
