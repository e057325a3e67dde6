//! Who points to a cell: a search through all memory for the addresses of a few headers.
//!
//! Does not know: why they are doubted.

use super::addresses::Addresses;
use super::walk::Walk;
use crate::model::word_at;
use crate::target::{AddressRange, Memory, MemoryError};

/// What was found, by the headers' positions.
#[derive(Debug, Default)]
pub struct Pointers {
    /// Whose address stands somewhere outside of the stacks.
    pub held: Vec<bool>,
    /// Whose address stands twice in a row: head and tail of a list of one.
    pub paired: Vec<bool>,
}

impl Pointers {
    /// Searches for these headers.
    pub fn find(
        headers: &Addresses,
        stacks: &[AddressRange],
        walk: &Walk,
        memory: &Memory<'_>,
    ) -> Result<Self, MemoryError> {
        let mut found = Self { held: vec![false; headers.len()], paired: vec![false; headers.len()] };
        let Some((first, last)) = headers.span() else { return Ok(found) };
        let span = last.0 - first.0;
        walk.run(memory, |at, bytes| {
            if stacks.iter().any(|stack| stack.contains(at)) {
                return;
            }
            let mut before = 0;
            for word in bytes.chunks_exact(8).filter_map(|word| word_at(word, 0)) {
                if word.wrapping_sub(first.0) <= span
                    && let Some(position) = headers.position(word)
                {
                    found.held[position] = true;
                    found.paired[position] |= before == word;
                }
                before = word;
            }
        })?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Pid, ProcAddr};
    use crate::target::Process;

    #[test]
    fn finds_who_is_pointed_to_and_who_stands_twice_in_a_row() {
        let words: Vec<u64> = vec![1, 0x1000, 2, 0x2000, 0x2000, 0x3000, 0, 0x3000, 0x5000];
        let start = ProcAddr(words.as_ptr() as u64);
        let range = AddressRange { start, end: ProcAddr(start.0 + 8 * words.len() as u64) };
        let us = Process::open(Pid(std::process::id())).unwrap();
        let headers = Addresses::new([0x1000, 0x2000, 0x3000, 0x4000].map(ProcAddr).into_iter(), 8);
        let walk = Walk::over([range]);
        let found = Pointers::find(&headers, &[], &walk, &us.memory()).unwrap();
        assert_eq!(found.held, [true, true, true, false]);
        assert_eq!(found.paired, [false, true, false, false]);
        let on_a_stack = Pointers::find(&headers, &[range], &walk, &us.memory()).unwrap();
        assert_eq!(on_a_stack.held, [false; 4]);
    }
}
