//! Which file descriptor a place in memory belongs to: tokio gives epoll a token with each, which leads to its
//! `ScheduledIo`, where its wakers are.
//!
//! Does not know: what the descriptors are good for. The token is the address of the `ScheduledIo` in tokio 1.30 to 1.54,
//! a number in a slab with a generation in 1.23 to 1.29 (`slab`).

use std::collections::{BTreeMap, HashMap};

use super::queue::Block;
use super::slab::{self, Page};
use crate::model::ProcAddr;
use crate::target::Watched;

/// Bytes of a `ScheduledIo`, without what it is padded with from 1.32 on: links, readiness, lock, list, two wakers.
const SCHEDULED: u64 = 80;
/// Tokens of the runtime's own, where tokens are addresses: its waker and its signals.
const OWN: [u64; 2] = [0, 1];
/// Slab pages, and what is none, that are remembered.
const MAX_PAGES: usize = 1 << 16;

/// What a process's epoll instances watch.
#[derive(Debug, Default)]
pub struct Descriptors {
    by_token: BTreeMap<u64, Vec<u32>>,
    /// Tokens by the number that they are in a slab.
    by_number: HashMap<u64, Vec<u64>>,
    /// By the address of the page, `None` where there is none.
    pages: HashMap<u64, Option<Page>>,
}

impl Descriptors {
    /// As the kernel lists them.
    pub fn new(watched: &[Watched]) -> Self {
        let mut by_token: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for one in watched {
            by_token.entry(one.token).or_default().push(one.fd);
        }
        let mut by_number: HashMap<u64, Vec<u64>> = HashMap::new();
        for token in by_token.keys() {
            by_number.entry(slab::number(*token)).or_default().push(*token);
        }
        Self { by_token, by_number, pages: HashMap::new() }
    }

    /// The descriptor in whose `ScheduledIo` the address lies; `None` inside where it cannot be told which, outside where it
    /// lies in none. `near` are words around the address, `block` gives what stands at another.
    pub fn with(
        &mut self,
        at: ProcAddr,
        near: impl Iterator<Item = u64>,
        block: impl Fn(u64) -> Option<Block>,
    ) -> Option<Option<u32>> {
        self.at_address(at).or_else(|| self.in_slab(at, near, block))
    }

    fn at_address(&self, at: ProcAddr) -> Option<Option<u32>> {
        let (token, _) = self.by_token.range(..=at.0).next_back()?;
        // Where tokens may be numbers, a low one is no address.
        let is_number = self.has_slab() && *token < slab::WAKEUP;
        (!OWN.contains(token) && !is_number && at.0 - token < SCHEDULED).then(|| self.only(*token))
    }

    fn in_slab(
        &mut self,
        at: ProcAddr,
        near: impl Iterator<Item = u64>,
        block: impl Fn(u64) -> Option<Block>,
    ) -> Option<Option<u32>> {
        if !self.has_slab() {
            return None;
        }
        for word in near {
            if self.pages.len() >= MAX_PAGES && !self.pages.contains_key(&word) {
                continue;
            }
            let page = *self.pages.entry(word).or_insert_with(|| Page::read(ProcAddr(word), &block(word)?));
            if let Some(slot) = page.and_then(|page| page.slot_with(at, &block)) {
                let mut tokens =
                    self.by_number.get(&slot.number).into_iter().flatten().filter(|token| slot.may_have(**token));
                // Every runtime has a slab of its own: a number may be there twice.
                return match (tokens.next(), tokens.next()) {
                    (Some(token), None) => Some(self.only(*token)),
                    _ => Some(None),
                };
            }
        }
        None
    }

    fn has_slab(&self) -> bool {
        self.by_token.contains_key(&slab::WAKEUP)
    }

    /// The one descriptor with this token.
    fn only(&self, token: u64) -> Option<u32> {
        match self.by_token.get(&token)?[..] {
            [fd] => Some(fd),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_that_is_an_address_is_found_from_anywhere_in_its_scheduled_io() {
        let watched = [(0, 4), (1, 8), (0x40_8080, 9), (0x40_80d0, 10), (0x40_8180, 11), (0x40_8180, 12)];
        let mut descriptors = Descriptors::new(&watched.map(|(token, fd)| Watched { token, fd }));
        let mut at = |at| descriptors.with(ProcAddr(at), std::iter::empty(), |_| None);
        assert_eq!([at(0x40_8080), at(0x40_80cf), at(0x40_80d0)], [Some(9), Some(9), Some(10)].map(Some));
        assert_eq!([at(0), at(0x20), at(0x40_8070), at(0x40_8120)], [None; 4]);
        assert_eq!(at(0x40_8180), Some(None), "two descriptors with one token");
    }

    #[test]
    fn where_tokens_are_numbers_a_low_one_is_no_address() {
        let watched = [(slab::WAKEUP, 4), (0x40_8080, 9)].map(|(token, fd)| Watched { token, fd });
        let mut descriptors = Descriptors::new(&watched);
        assert_eq!(descriptors.with(ProcAddr(0x40_8090), std::iter::empty(), |_| None), None);
    }

    proptest! {
        #[test]
        fn no_words_panic(tokens: Vec<(u64, u32)>, at: u64, near: Vec<u64>, words: [u64; 16], slab: bool) {
            let own = slab.then_some(Watched { token: slab::WAKEUP, fd: 1 });
            let watched: Vec<Watched> = tokens.into_iter().map(|(token, fd)| Watched { token, fd }).chain(own).collect();
            Descriptors::new(&watched).with(ProcAddr(at), near.into_iter(), |_| Some(words));
        }
    }
}
