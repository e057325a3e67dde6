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
}

impl Counter {
    /// How many rows the array has.
    pub const COUNT: u32 = 5;
}
