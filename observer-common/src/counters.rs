//! What the kernel side counts: one per-CPU array, one row a counter.

/// Row of the per-CPU array `COUNTERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Records that found no room in their ring.
    Lost = 0,
    /// Probe hits but for those at returns and for foreign ones.
    Hits = 1,
    /// Entries whose header could not be remembered for the return (map full); their return says `FLAG_SUBJECT_UNKNOWN`.
    EntriesForgotten = 2,
    /// Hits by processes that are not to be reported, see [`crate::Audience`].
    Foreign = 3,
    /// Hits at returns, but for foreign ones.
    Returns = 4,
    /// Hits, returns with them, of which it was timed how long the program took: a few of all.
    Timed = 5,
    /// What those took, nanoseconds: from when it is known that the hit is to be timed to the program's end.
    Took = 6,
    /// Entries among them, of calls that are reported once.
    EntriesTimed = 7,
    /// What those took until the call was remembered, nanoseconds.
    EntriesTook = 8,
    /// Records that those hits wrote.
    RecordsTimed = 9,
    /// What writing them took, nanoseconds.
    RecordsTook = 10,
    /// Entries on another stack than that of the call which the thread is amid: they are not reported, and no return is waited for.
    Elsewhere = 11,
}

impl Counter {
    /// How many rows the array has.
    pub const COUNT: u32 = 12;
}
