//! How much memory a census may take for itself, whatever the process's memory claims.

use super::cell::Cell;
use crate::model::LiveTask;

/// A bound on one census's own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance(u64);

/// What each cell costs of it: the cell, and its trailer or its task, and its share of a bitmap.
const CELL: u64 = (size_of::<Cell>() + size_of::<LiveTask>() + 16) as u64;
/// What is kept at most for cells that are doubted, a batch at a time, and for threads and mappings; a quarter of less.
const ASIDE: u64 = 96 << 20;

impl Allowance {
    /// What a census takes when nobody says otherwise.
    pub const MOST: Self = Self(512 << 20);
    /// With less, nothing would be seen of any process that is worth looking at.
    const LEAST: Self = Self(16 << 20);

    /// So many bytes, within reason.
    pub fn of(bytes: u64) -> Self {
        Self(bytes.clamp(Self::LEAST.0, Self::MOST.0))
    }

    /// More cells than this are not taken in.
    pub(super) fn cells(self) -> usize {
        let aside = ASIDE.min(self.0 / 4);
        ((self.0 - aside) / CELL) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_enough_for_a_crowd_and_never_nothing() {
        assert!(Allowance::MOST.cells() > 2_000_000);
        assert!((50_000..200_000).contains(&Allowance::of(0).cells()));
        assert_eq!(Allowance::of(u64::MAX), Allowance::MOST);
    }
}
