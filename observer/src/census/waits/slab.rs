//! The slab in which tokio 1.23 to 1.29 keeps its `ScheduledIo`s, and which number epoll knows one of them by.
//!
//! Does not know: which numbers are registered. What it knows of `util/slab.rs`: pages of 32, 64, 128... slots; a slot names
//! its page, and the page tells how many slots it has and how many all pages before it have together.

use super::queue::Block;
use super::window;
use crate::model::ProcAddr;

/// The token of the runtime's own waker, where tokens are numbers; all others are below.
pub const WAKEUP: u64 = 1 << 31;
/// Bits of a token that are the number; seven bits of generation are above.
const NUMBER_BITS: u32 = 24;
/// Slots of the first page.
const FIRST_PAGE: u64 = 32;
/// Pages of a slab.
const PAGES: u32 = 19;
/// Bytes of a slot: `ScheduledIo`, the page's address, the next free slot. Measured on 1.23.1 and on 1.28.2.
const SLOTS: [u64; 2] = [88, 80];

/// The slot's number in a token.
pub fn number(token: u64) -> u64 {
    token & ((1 << NUMBER_BITS) - 1)
}

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    at: ProcAddr,
    words: Block,
    len: u64,
}

/// A slot that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub number: u64,
    /// Words of which one has the generation.
    words: Vec<u64>,
}

impl Page {
    /// From the words where one may be: it states its length and that of all before it.
    pub fn read(at: ProcAddr, words: &Block) -> Option<Self> {
        let states = |len: u64| {
            words
                .windows(2)
                .any(|pair| [[len, len - FIRST_PAGE], [len - FIRST_PAGE, len]].contains(&[pair[0], pair[1]]))
        };
        // The vector of slots has room for as many.
        let has_room = |len: u64| words.iter().filter(|word| **word == len).count() >= 2;
        let len = (0..PAGES).map(|page| FIRST_PAGE << page).find(|len| states(*len) && has_room(*len))?;
        Some(Self { at, words: *words, len })
    }

    /// The slot in which the address lies.
    pub fn slot_with(&self, at: ProcAddr, block: impl Fn(u64) -> Option<Block>) -> Option<Slot> {
        let slots = self.words.iter().filter(|slots| window::is_pointer(**slots));
        slots.flat_map(|slots| SLOTS.map(|len| (*slots, len))).find_map(|(slots, len)| {
            let index = at.0.checked_sub(slots)? / len;
            let (first, slot) = (block(slots)?, block(slots.checked_add(index * len)?)?);
            let words = len as usize / 8;
            let both_name_page = (0..words).any(|place| [first[place], slot[place]] == [self.at.0; 2]);
            (index < self.len && both_name_page)
                .then(|| Slot { number: self.len - FIRST_PAGE + index, words: slot[..words].to_vec() })
        })
    }
}

impl Slot {
    /// Whether the token may be this slot's.
    pub fn may_have(&self, token: u64) -> bool {
        let generation = |word: u64| word >> NUMBER_BITS;
        // In `readiness` the generation is at the same bits as in the token, and nothing is above.
        let stated = || self.words.iter().any(|word| *word < WAKEUP && generation(*word) == generation(token));
        token < WAKEUP && number(token) == self.number && stated()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = 0x7f00_0000_1000;
    const SLOTS: u64 = 0x7f00_0000_2000;

    const SLOT: u64 = 88;

    /// As found in a program with tokio 1.23: lock, vector (room, place, length), head, used, used, allocated, lengths.
    fn page(len: u64) -> Block {
        let mut words = [0; 16];
        words[..10].copy_from_slice(&[0, len, SLOTS, 2, 2, 2, 2, 1, len, len - 32]);
        words
    }

    fn slot(generation: u64) -> Block {
        let mut words = [0; 16];
        words[0] = generation << 24 | 0x20005;
        words[9] = PAGE;
        words
    }

    #[test]
    fn a_slot_has_the_number_that_its_page_and_its_place_give_it() {
        let page = Page::read(ProcAddr(PAGE), &page(64)).unwrap();
        let block = |at: u64| Some(slot((at - SLOTS) / SLOT));
        let found = page.slot_with(ProcAddr(SLOTS + 3 * SLOT + 24), block).unwrap();
        assert_eq!(found.number, 35);
        assert!(found.may_have(3 << 24 | 35));
        assert!(!found.may_have(3 << 24 | 36) && !found.may_have(2 << 24 | 35) && !found.may_have(WAKEUP));
        assert_eq!(page.slot_with(ProcAddr(SLOTS + 64 * SLOT), block), None);
        assert_eq!(page.slot_with(ProcAddr(SLOTS - 8), block), None);
        assert_eq!(page.slot_with(ProcAddr(SLOTS), |_| Some([0; 16])), None);
    }

    #[test]
    fn words_that_do_not_state_a_pages_lengths_are_no_page() {
        assert_eq!(Page::read(ProcAddr(PAGE), &[0; 16]), None);
        assert_eq!(Page::read(ProcAddr(PAGE), &[32; 16]), None);
        assert!(Page::read(ProcAddr(PAGE), &page(32)).is_some());
    }

    proptest! {
        #[test]
        fn no_words_panic(words: [u64; 16], slots: [u64; 16], at: u64, len in 0u32..25, place in 0usize..15, token: u64) {
            let mut words = words;
            words[place] = 1u64 << len;
            words[place + 1] = (1u64 << len).wrapping_sub(32);
            if let Some(page) = Page::read(ProcAddr(at), &words)
                && let Some(slot) = page.slot_with(ProcAddr(at), |_| Some(slots))
            {
                slot.may_have(token);
            }
        }
    }
}
