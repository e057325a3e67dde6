//! What stands at many addresses, read together and remembered.
//!
//! Does not know: why it is looked at. Only memory of the process's own is read: what is mapped from elsewhere (a device)
//! may not like it.

use std::cell::RefCell;
use std::collections::HashMap;

use super::queue::{BLOCK, Block};
use crate::census::pages::{PAGE, Pages};
use crate::census::source::Source;
use crate::model::{ProcAddr, word_at};
use crate::target::{Mapping, Memory, MemoryError};

/// Blocks that are remembered: 64 MB.
const MAX_BLOCKS: usize = 1 << 18;
/// Bytes of whole pages that are.
const MAX_PAGES: usize = 16 << 20;

/// Memory by blocks.
pub struct Blocks<'a> {
    memory: &'a Memory<'a>,
    maps: &'a [Mapping],
    known: RefCell<HashMap<u64, Option<Block>>>,
    pages: RefCell<Pages<Noting<'a>>>,
}

/// Memory, with what reading it last failed with; what comes after that is not worth much.
struct Noting<'a> {
    memory: &'a Memory<'a>,
    failed: Option<MemoryError>,
}

impl Source for Noting<'_> {
    fn read(&mut self, at: ProcAddr, to: &mut [u8]) -> bool {
        match self.memory.read(at, to) {
            Ok(read) => read == to.len(),
            Err(error) => {
                self.failed = Some(error);
                false
            }
        }
    }
}

impl<'a> Blocks<'a> {
    /// Of this memory with these mappings, in order of address.
    pub fn new(memory: &'a Memory<'a>, maps: &'a [Mapping]) -> Self {
        let pages = RefCell::new(Pages::of(Noting { memory, failed: None }));
        Self { memory, maps, known: RefCell::default(), pages }
    }

    /// Reads what stands at these addresses, so that [`Blocks::get`] need not.
    pub fn prepare(&self, addresses: impl Iterator<Item = u64>) -> Result<(), MemoryError> {
        let mut known = self.known.borrow_mut();
        if known.len() > MAX_BLOCKS {
            known.clear();
        }
        let mut wanted: Vec<ProcAddr> =
            addresses.filter(|at| !known.contains_key(at) && self.is_own(*at)).map(ProcAddr).collect();
        wanted.sort_unstable();
        wanted.dedup();
        self.memory.read_each(&wanted, 8 * BLOCK, |index, bytes| {
            if bytes.is_some() {
                known.insert(wanted[index].0, bytes.map(block_of));
            }
        })
    }

    /// What stands there; what cannot be read up to the end of its page is 0. `None` where nothing can, or nothing is the
    /// process's own.
    pub fn get(&self, at: u64) -> Option<Block> {
        if let Some(known) = self.known.borrow().get(&at) {
            return *known;
        }
        let block = self.is_own(at).then(|| self.read(at)).flatten();
        self.known.borrow_mut().insert(at, block);
        block
    }

    /// From whole pages: who asks for one address after another, along a list, asks for many of one page.
    fn read(&self, at: u64) -> Option<Block> {
        let mut bytes = [0; 8 * BLOCK];
        let mut pages = self.pages.borrow_mut();
        if pages.held() > MAX_PAGES {
            pages.forget();
        }
        let mut had = 0;
        // What lies on the next page may not be there.
        for to in [PAGE - at % PAGE, 8 * BLOCK as u64].map(|to| (to as usize).min(8 * BLOCK)) {
            let read = pages.read(ProcAddr(at + had as u64), &mut bytes[had..to]);
            if !read {
                break;
            }
            had = to;
        }
        (had >= 8).then(|| block_of(&bytes))
    }

    /// Why something could not be read, if the reading itself failed.
    pub fn finish(self) -> Result<(), MemoryError> {
        self.pages.into_inner().source().failed.map_or(Ok(()), Err)
    }

    fn is_own(&self, at: u64) -> bool {
        let after = self.maps.partition_point(|mapping| mapping.range.start.0 <= at);
        let home = after.checked_sub(1).map(|index| &self.maps[index]);
        home.is_some_and(|home| home.range.contains(ProcAddr(at)) && home.is_private_writable())
    }
}

fn block_of(bytes: &[u8]) -> Block {
    std::array::from_fn(|word| word_at(bytes, 8 * word).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pid;
    use crate::target::Process;

    #[test]
    fn the_processs_own_memory_is_given_and_nothing_else() {
        let words: Vec<u64> = (0..100).collect();
        let at = std::ptr::from_ref(&words[10]) as u64;
        let code = the_processs_own_memory_is_given_and_nothing_else as *const () as u64;
        let us = Process::open(Pid(std::process::id())).unwrap();
        let (memory, maps) = (us.memory(), us.maps().unwrap());
        let blocks = Blocks::new(&memory, &maps);
        blocks.prepare([at, at + 8, 0x10].into_iter()).unwrap();
        let expected: Block = std::array::from_fn(|n| 10 + n as u64);
        assert_eq!(blocks.get(at), Some(expected));
        assert_eq!(blocks.get(at + 16).map(|block| block[0]), Some(12));
        assert_eq!([blocks.get(0x10), blocks.get(code), blocks.get(u64::MAX)], [None; 3]);
        blocks.finish().unwrap();
    }
}
