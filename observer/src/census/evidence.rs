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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pid;
    use crate::target::Process;

    #[test]
    fn finds_who_is_pointed_to_and_who_stands_twice_in_a_row() {
        let words: Vec<u64> = vec![1, 0x1000, 2, 0x2000, 0x2000, 0x3000, 0, 0x3000, 0x5000];
        let start = ProcAddr(words.as_ptr() as u64);
        let range = AddressRange { start, end: ProcAddr(start.0 + 8 * words.len() as u64) };
        let us = Process::open(Pid(std::process::id())).unwrap();
        let headers = [0x1000, 0x2000, 0x3000, 0x4000].map(ProcAddr).into();
        let walk = Walk::over([range]);
        let found = Pointers::find(&headers, &[], &walk, &us.memory()).unwrap();
        assert_eq!(found.held, [0x1000, 0x2000, 0x3000].map(ProcAddr).into());
        assert_eq!(found.paired, [ProcAddr(0x2000)].into());
        let on_a_stack = Pointers::find(&headers, &[range], &walk, &us.memory()).unwrap();
        assert!(on_a_stack.held.is_empty());
    }
}
