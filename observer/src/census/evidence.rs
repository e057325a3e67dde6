//! Who points to a cell: a search through all memory for the addresses of a few headers.
//!
//! Does not know: why they are doubted.

use std::collections::{HashMap, HashSet};

use super::cell::word_at;
use super::walk::Walk;
use crate::model::ProcAddr;
use crate::target::{AddressRange, Memory, MemoryError};

/// What was found.
#[derive(Debug, Default)]
pub struct Pointers {
    /// Headers whose address stands somewhere outside of the stacks.
    pub held: HashSet<ProcAddr>,
    /// Headers whose address stands twice in a row: head and tail of a list of one.
    pub paired: HashSet<ProcAddr>,
}

impl Pointers {
    /// Searches for these headers.
    pub fn find(
        headers: &HashSet<ProcAddr>,
        stacks: &[AddressRange],
        walk: &Walk,
        memory: &Memory<'_>,
    ) -> Result<Self, MemoryError> {
        let mut found = Self::default();
        let (Some(first), Some(last)) = (headers.iter().min(), headers.iter().max()) else { return Ok(found) };
        let span = last.0 - first.0;
        walk.run(memory, |at, bytes| {
            if stacks.iter().any(|stack| stack.contains(at)) {
                return;
            }
            let mut before = 0;
            for word in bytes.chunks_exact(8).filter_map(|word| word_at(word, 0)) {
                if word.wrapping_sub(first.0) <= span && headers.contains(&ProcAddr(word)) {
                    found.held.insert(ProcAddr(word));
                    if before == word {
                        found.paired.insert(ProcAddr(word));
                    }
                }
                before = word;
            }
        })?;
        Ok(found)
    }
}

/// Groups of cells that claim to be one task: same id in the same runtime.
pub fn same_id<K: std::hash::Hash + Eq, T>(all: impl IntoIterator<Item = (K, T)>) -> HashMap<K, Vec<T>> {
    let mut groups: HashMap<K, Vec<T>> = HashMap::new();
    for (key, cell) in all {
        groups.entry(key).or_default().push(cell);
    }
    groups
}
