//! How many live futures there were at one moment, from below and from above.
//!
//! Does not know: the runtime's own count. What was there before the moment and still is after it, was there at it. What
//! else may have been: what came to its end in between, and what was born since the beginning without being met.

use super::cell::Cell;
use super::cell_types::{CellTypes, ImageIndex};
use super::counters::{Counters, Reading};
use crate::model::Ns;

/// Live futures: bound to a list, not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The moment, within the census.
    pub at: Ns,
    /// There were at least as many.
    pub low: u64,
    /// There were at most as many. Equal to `low` where nothing was born and nothing ended during the census.
    pub high: High,
}

/// A bound from above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum High {
    /// At most this many.
    AtMost(u64),
    /// There is none.
    Unknown(Unbounded),
}

/// Why there is no bound from above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbounded {
    /// The counter of task ids is not known in one of the images: nobody knows how many were born.
    NoCounter,
    /// Memory could not be read.
    Unread,
    /// There was no room for all.
    Truncated,
}

/// What a census saw of futures, for [`Bounds`].
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Those that were live before the moment.
    pub before: u64,
    /// Those of them that were live after it.
    pub still: u64,
    /// Those that were complete, yet still in a list: a runtime counts them.
    pub leaving: u64,
    /// Threads of the process: each may have been about to bind a task whose id is older than the census.
    pub threads: u64,
}

impl Bounds {
    /// From what was seen. `met` are all cells that were met before the moment; the readings are from the beginning and
    /// from the moment.
    pub fn new(
        at: Ns,
        sight: &Sight,
        counters: &Counters,
        (from, to): (&Reading, &Reading),
        met: &[Cell],
        types: &CellTypes,
    ) -> Self {
        let mut born = 0;
        for image in types.images() {
            let Some(minted) = counters.minted(image, from, to) else {
                return Self { at, low: sight.still, high: High::Unknown(Unbounded::NoCounter) };
            };
            let is_met = |cell: &&Cell, ids: &std::ops::Range<u64>| ids.contains(&cell.id) && is_of(cell, image, types);
            let met = match minted.ids {
                Some(ids) if !ids.is_empty() => met.iter().filter(|cell| is_met(cell, &ids)).count() as u64,
                _ => 0,
            };
            born += minted.most.saturating_sub(met);
        }
        let changed = sight.before - sight.still;
        let churn = changed > 0 || from != to;
        let about_to = if churn { sight.threads } else { 0 };
        Self { at, low: sight.still, high: High::AtMost(sight.before + sight.leaving + born + about_to) }
    }

    /// The same without a bound from above.
    pub fn unbounded(self, why: Unbounded) -> Self {
        Self { high: High::Unknown(why), ..self }
    }

    /// Whether there was exactly this one number.
    pub fn is_exact(&self) -> bool {
        self.high == High::AtMost(self.low)
    }
}

fn is_of(cell: &Cell, image: ImageIndex, types: &CellTypes) -> bool {
    types.get(cell.cell_type).image == image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::cell_types::CellType;
    use crate::census::tests::layout;
    use crate::model::{ProcAddr, Resource};
    use crate::target::parse_maps;

    fn bounds(sight: &Sight, from: u64, to: u64) -> Bounds {
        let maps = parse_maps("5000-6000 r--p 0 fe:00 7 /a\n6000-7000 rw-p 0 fe:00 7 /a\n").unwrap();
        let cell = CellType { layout: layout(128), resource: Resource::Task, image: ImageIndex(0) };
        let types = CellTypes::new([(ProcAddr(0x5000), cell)]);
        let counters = Counters::new(&[ProcAddr(0x6000)], &types, &maps);
        Bounds::new(Ns(1), sight, &counters, (&Reading::of(&[from]), &Reading::of(&[to])), &[], &types)
    }

    #[test]
    fn without_churn_there_is_one_number() {
        let sight = Sight { before: 10, still: 10, leaving: 0, threads: 4 };
        assert!(bounds(&sight, 50, 50).is_exact());
    }

    #[test]
    fn who_ended_or_was_born_unmet_or_is_about_to_be_bound_widens_the_bounds_upwards_only() {
        let sight = Sight { before: 10, still: 8, leaving: 1, threads: 4 };
        assert_eq!(bounds(&sight, 50, 50), Bounds { at: Ns(1), low: 8, high: High::AtMost(15) });
        assert_eq!(bounds(&sight, 50, 57), Bounds { at: Ns(1), low: 8, high: High::AtMost(22) });
        assert_eq!(bounds(&sight, 50, 40).high, High::Unknown(Unbounded::NoCounter));
    }
}
