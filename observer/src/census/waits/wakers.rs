//! Every place in a process's memory where a waker of one of its tasks lies.
//!
//! Does not know: what the places are. A task's waker is two words side by side, the header's address and the address
//! of the runtime's one static table of four functions. The table is learned: it is the constant that most often stands
//! beside headers and begins with four addresses of code. So is which of the two words comes first: a link to a header
//! right before a waker would make another one of the wrong order.

use std::collections::HashMap;

use super::cells::{Cells, TaskIndex};
use super::images::ImageSpan;
use crate::census::walk::Walk;
use crate::model::{ProcAddr, word_at};
use crate::target::{AddressRange, Memory, MemoryError};

/// Places kept at most: 320 MB. A process with more wakers is told to have too many.
const MAX_PLACES: usize = 1 << 23;
/// Constants beside headers of which one may be the table.
const MAX_CANDIDATES: usize = 1 << 16;
/// Functions of a waker: clone, wake, wake by reference, drop.
const FUNCTIONS: usize = 4;

/// What was found.
#[derive(Debug, Default)]
pub struct Wakers {
    /// The tables that were recognised, one for each image that has wakers.
    pub tables: Vec<Table>,
    /// In order of task, then of address.
    pub places: Vec<Place>,
    /// There are more.
    pub truncated: bool,
}

/// Two words that are a waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Whose.
    pub task: TaskIndex,
    /// The lower one.
    pub at: ProcAddr,
    /// The words.
    pub words: [u64; 2],
    /// Which of them is the table's address.
    pub order: Order,
}

/// Which word comes first. The compiler chose, the same for all wakers of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// The header's, as the fields are declared.
    HeaderFirst,
    /// The table's, which cannot be null.
    TableFirst,
}

/// A table and how wakers with it are laid out.
pub type Table = (ProcAddr, Order);

impl Place {
    /// The table's address.
    pub fn table(&self) -> ProcAddr {
        ProcAddr(self.words[usize::from(self.order == Order::HeaderFirst)])
    }
}

impl Wakers {
    /// Searches for the wakers of those of the tasks for which `wanted` says so.
    pub fn find(
        cells: &Cells<'_>,
        images: &[ImageSpan],
        stacks: &[AddressRange],
        walk: &Walk,
        memory: &Memory<'_>,
        wanted: impl Fn(TaskIndex) -> bool,
    ) -> Result<Self, MemoryError> {
        let mut places: Vec<Place> = Vec::new();
        let mut truncated = false;
        let Some((lowest, highest)) = cells.span() else { return Ok(Self::default()) };
        // Only the runtimes' own images: a table stands in the image whose code made the cells.
        let own = |image: &&ImageSpan| cells.iter().any(|(_, task)| image.has_constant(task.vtable));
        let images: Vec<&ImageSpan> = images.iter().filter(own).collect();
        let extents: Vec<AddressRange> = images.iter().filter_map(|image| image.extent()).collect();
        let is_constant = |word: u64| extents.iter().any(|extent| extent.contains(ProcAddr(word)));
        let is_header = |word: u64| word.wrapping_sub(lowest) <= highest - lowest;
        // The word before the next, and where the next is.
        let mut before = (0, ProcAddr(0));
        walk.run(memory, |at, bytes| {
            let (mut last, expected) = before;
            if expected != at {
                last = 0;
            }
            let mut next = at;
            for word in bytes.chunks_exact(8).filter_map(|word| word_at(word, 0)) {
                let pair = match () {
                    () if is_constant(word) && is_header(last) => Some((last, Order::HeaderFirst)),
                    () if is_constant(last) && is_header(word) => Some((word, Order::TableFirst)),
                    () => None,
                };
                if let Some((header, order)) = pair
                    && let Some(task) = cells.with_header(header)
                {
                    match places.len() < MAX_PLACES {
                        true => {
                            let at = ProcAddr(next.0.wrapping_sub(8));
                            places.push(Place { task, at, words: [last, word], order });
                        }
                        false => truncated = true,
                    }
                }
                last = word;
                next.0 += 8;
            }
            before = (last, next);
        })?;
        let on_stack = |place: &Place| stacks.iter().any(|stack| stack.contains(place.at));
        let tables = elect(places.iter().filter(|place| !on_stack(place)), cells, &images, memory)?;
        places.retain(|place| tables.contains(&(place.table(), place.order)) && wanted(place.task));
        places.sort_unstable();
        Ok(Self { tables, places, truncated })
    }
}

/// The table of each image.
fn elect<'p>(
    places: impl Iterator<Item = &'p Place>,
    cells: &Cells<'_>,
    images: &[&ImageSpan],
    memory: &Memory<'_>,
) -> Result<Vec<Table>, MemoryError> {
    let mut votes: HashMap<Table, u64> = HashMap::new();
    for place in places {
        // A task's table is in the same image as its vtable.
        let vtable = cells.task(place.task).vtable;
        let same_image = images.iter().any(|image| image.has_constant(vtable) && image.has_constant(place.table()));
        let table = (place.table(), place.order);
        if same_image && (votes.len() < MAX_CANDIDATES || votes.contains_key(&table)) {
            *votes.entry(table).or_default() += 1;
        }
    }
    let mut candidates: Vec<(Table, u64)> =
        votes.into_iter().filter(|((at, _), _)| at.0.is_multiple_of(8) && !cells.is_vtable(*at)).collect();
    candidates.sort_unstable();
    let addresses: Vec<ProcAddr> = candidates.iter().map(|((at, _), _)| *at).collect();
    let mut tables: Vec<Option<((u64, Order), Table)>> = vec![None; images.len()];
    memory.read_each(&addresses, 8 * FUNCTIONS, |index, bytes| {
        let (table, votes) = candidates[index];
        let Some(bytes) = bytes else { return };
        let image = images.iter().position(|image| {
            let is_code = |word: &[u8]| word_at(word, 0).is_some_and(|word| image.has_code(ProcAddr(word)));
            image.has_constant(table.0) && bytes.chunks_exact(8).all(is_code)
        });
        if let Some(best) = image.map(|image| &mut tables[image]) {
            // Of equal ones the order of newer compilers, then the lower, so that the answer is the same every time.
            if best.is_none_or(|(most, _)| (votes, table.1) > most) {
                *best = Some(((votes, table.1), table));
            }
        }
    })?;
    Ok(tables.into_iter().flatten().map(|(_, table)| table).collect())
}
