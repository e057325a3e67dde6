//! The places that a function's tables of jump targets name.
//!
//! Does not know: which code jumps by them, nor where they end.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::model::VirtAddr;
use crate::symbols::Image;

/// Entries of a function's jump tables that are read at most; with more, any place may be one.
const MOST_TABLED: usize = 1 << 16;

/// All tables of one function.
#[derive(Debug, Default)]
pub(super) struct JumpTables {
    named: BTreeSet<VirtAddr>,
    /// How many entries were read.
    read: usize,
    /// They are too long to be true: any place may be in one.
    anywhere: bool,
}

impl JumpTables {
    /// Adds a table of 32-bit offsets from its own start, as position independent code has them. Takes in too much where
    /// another table follows, which only makes more places landings.
    pub(super) fn add_offsets(&mut self, image: &Image<'_>, range: &Range<VirtAddr>, table: VirtAddr) {
        let entries = image.slice_from(table).unwrap_or_default().chunks_exact(4);
        self.extend(entries.map_while(|entry| {
            let offset = i32::from_le_bytes(entry.try_into().ok()?);
            let at = VirtAddr(table.0.wrapping_add_signed(i64::from(offset)));
            range.contains(&at).then_some(at)
        }));
    }

    /// Adds a table of addresses, as code at a fixed address has them.
    pub(super) fn add_addresses(&mut self, image: &Image<'_>, range: &Range<VirtAddr>, table: VirtAddr) {
        let entries = image.slice_from(table).unwrap_or_default().chunks_exact(8);
        self.extend(entries.map_while(|entry| {
            let at = VirtAddr(u64::from_le_bytes(entry.try_into().ok()?));
            range.contains(&at).then_some(at)
        }));
    }

    fn extend(&mut self, entries: impl Iterator<Item = VirtAddr>) {
        for at in entries {
            self.read += 1;
            if self.read > MOST_TABLED {
                self.anywhere = true;
                return;
            }
            self.named.insert(at);
        }
    }

    /// Whether one of them names the place, or may.
    pub(super) fn may_name(&self, at: VirtAddr) -> bool {
        self.anywhere || self.named.contains(&at)
    }
}
