//! Time as the kernel's probes give it.

use std::time::Duration;

/// Nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ns(pub u64);

impl Ns {
    /// `self - earlier`, 0 where `earlier` is later.
    pub fn since(self, earlier: Ns) -> Ns {
        Ns(self.0.saturating_sub(earlier.0))
    }

    /// So long a time; one that has no number is the longest.
    pub fn of(time: Duration) -> Self {
        Self(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The moment `ns` nanoseconds before this one, not before 0.
    pub fn before(self, ns: u64) -> Ns {
        Ns(self.0.saturating_sub(ns))
    }
}
