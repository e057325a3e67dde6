//! The last look at all cells, and how many live futures there were when it began.
//!
//! Does not know: how the cells were found.

use super::bounds::{Bounds, Sight};
use super::cell::Cell;
use super::counters::{Counters, Reading};
use super::look::Look;
use super::taking::remove;
use crate::target::{MemoryError, monotonic_now};

/// What it told.
pub struct LastLook {
    /// From the moment of its beginning.
    pub bounds: Bounds,
    /// How many of the cells are not the same task any more.
    pub gone: usize,
    /// Bytes that were read.
    pub bytes: u64,
}

impl LastLook {
    /// Looks at each cell and drops what has changed identity. `from` is what the counters held when the census began.
    pub fn take(
        look: &Look<'_>,
        counters: &mut Counters,
        from: &Reading,
        threads: u64,
        cells: &mut Vec<Cell>,
    ) -> Result<Self, MemoryError> {
        let types = look.types;
        let mut sight = Sight { threads, ..Sight::default() };
        sight.before = cells.iter().filter(|cell| cell.is_live_future(types)).count() as u64;
        let at = monotonic_now();
        let counted = counters.read(&look.process.memory())?;
        counters.rule_out(cells, types, &counted);
        let differing = look.at(cells)?;
        // Nothing that is complete, or another task, becomes live: what is live now was so before.
        let mut gone = differing.gone.iter().copied().peekable();
        for (position, cell) in (0..).zip(cells.iter()) {
            if gone.next_if_eq(&position).is_some() {
                continue;
            }
            let future = cell.is_future(types);
            sight.still += u64::from(future && !cell.state.is_complete());
            sight.leaving += u64::from(future && cell.state.is_complete() && cell.is_linked());
        }
        // Taken out of its list, perhaps, to be shut down.
        let unlinked = differing.relinked.iter().filter(|(position, _)| {
            let cell = &cells[*position as usize];
            !cell.is_linked() && cell.is_live_future(types)
        });
        sight.still -= unlinked.count() as u64;
        let bounds = Bounds::new(at, &sight, counters, (from, &counted), cells, types);
        remove(cells, &differing.gone);
        Ok(Self { bounds, gone: differing.gone.len(), bytes: differing.bytes })
    }
}
