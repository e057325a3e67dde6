//! Memory by whole pages, each read once and remembered: for looking at much that lies close together.
//!
//! Does not know: what is looked at. A page is of one mapping, so nothing is read that was not asked for but what lies beside it there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::source::Source;
use crate::model::ProcAddr;

/// Bytes of a page, of x86-64's smallest.
pub(super) const PAGE: u64 = 4096;
/// What is longer is read by itself: one call for all of it.
const LONGEST: usize = 16 * PAGE as usize;

/// Bytes that are remembered at most; beyond that all is read anew.
const MOST_HELD: usize = 32 << 20;

/// The pages read so far.
pub(super) struct Pages<S> {
    source: S,
    /// By number; `None` for one that cannot be read.
    known: HashMap<u64, Option<Box<[u8]>>>,
}

impl<S: Source> Pages<S> {
    /// None yet.
    pub(super) fn of(source: S) -> Self {
        Self { source, known: HashMap::new() }
    }

    /// Bytes that are remembered, at most.
    pub(super) fn held(&self) -> usize {
        self.known.len() * PAGE as usize
    }

    /// What was read may have changed, or is too much to be held.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// Where it is read from.
    pub(super) fn source(self) -> S {
        self.source
    }

    fn page(&mut self, number: u64) -> Option<&[u8]> {
        let page = match self.known.entry(number) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
                let read = self.source.read(ProcAddr(number.checked_mul(PAGE)?), &mut bytes);
                free.insert(read.then_some(bytes))
            }
        };
        page.as_deref()
    }
}

impl<S: Source> Source for Pages<S> {
    fn read(&mut self, at: ProcAddr, to: &mut [u8]) -> bool {
        if to.len() > LONGEST {
            return self.source.read(at, to);
        }
        let mut had = 0;
        while had < to.len() {
            let Some(from) = at.0.checked_add(had as u64) else { return false };
            if self.held() >= MOST_HELD && !self.known.contains_key(&(from / PAGE)) {
                return self.source.read(ProcAddr(from), &mut to[had..]);
            }
            let Some(page) = self.page(from / PAGE) else { return false };
            let rest = &page[(from % PAGE) as usize..];
            let more = rest.len().min(to.len() - had);
            to[had..had + more].copy_from_slice(&rest[..more]);
            had += more;
        }
        true
    }

    fn read_now(&mut self, at: ProcAddr, to: &mut [u8]) -> bool {
        self.source.read_now(at, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory from the second page up to the end of the fourth, each byte the number of its place; counts what is read.
    struct Counted(Vec<u64>);

    impl Source for Counted {
        fn read(&mut self, at: ProcAddr, to: &mut [u8]) -> bool {
            self.0.push(at.0);
            to.iter_mut().enumerate().for_each(|(n, byte)| *byte = at.0.wrapping_add(n as u64) as u8);
            (PAGE..4 * PAGE).contains(&at.0) && at.0.saturating_add(to.len() as u64) <= 4 * PAGE
        }
    }

    #[test]
    fn a_page_is_read_once_however_often_and_across_whose_border_it_is_asked_for() {
        let mut memory = Counted(Vec::new());
        let mut pages = Pages::of(&mut memory);
        let mut word = [0; 8];
        for at in [PAGE + 16, 2 * PAGE - 3, PAGE, 2 * PAGE - 3] {
            assert!(pages.read(ProcAddr(at), &mut word));
            assert_eq!(word, std::array::from_fn(|n| (at as usize + n) as u8));
        }
        assert!(!pages.read(ProcAddr(4 * PAGE - 1), &mut word) && !pages.read(ProcAddr(u64::MAX - 2), &mut word));
        assert!(!pages.read(ProcAddr(4 * PAGE - 1), &mut word), "nor is what cannot be read asked for again");
        assert_eq!(memory.0, [PAGE, 2 * PAGE, 3 * PAGE, 4 * PAGE, u64::MAX / PAGE * PAGE]);
    }

    #[test]
    fn what_is_long_is_read_by_itself() {
        let mut memory = Counted(Vec::new());
        let mut pages = Pages::of(&mut memory);
        assert!(!pages.read(ProcAddr(PAGE), &mut vec![0; LONGEST + 1]));
        assert_eq!((pages.held(), &memory.0[..]), (0, &[PAGE][..]));
    }
}
