//! Whether a waker stands in a node of a list of waiters, and what owns the list.
//!
//! Does not know: where in a node its waker and links are; the compiler chose. What it knows of tokio 1.23 to 1.54: a node
//! is five or six words, its links are two words side by side (before, after); the owner has the list's first and last
//! node side by side, and its address stands beside the node. That the list's end, or both neighbours, name the node is
//! the proof that it is linked; a node that was left behind is not.

use super::window::{self, Window};
use crate::model::ProcAddr;

/// Words of a block that is looked at: a `ScheduledIo` is 128 bytes, and the list of a `broadcast` channel is in them.
pub const BLOCK: usize = 16;
/// Words at an address.
pub type Block = [u64; BLOCK];

/// Words around the waker among which its owner's address is.
const NEAR: usize = 12;
/// A node's words, at most.
const NODE: usize = 6;
/// The words of a node in a semaphore's or a notify's list: waker, links, and one more.
const SMALL_NODE: usize = 5;
/// `Semaphore`: lock, first, last, closed, permits.
const SEMAPHORE: usize = 5;
/// `Notify`: lock, first, last, state.
const NOTIFY: usize = 4;
/// `batch_semaphore::Semaphore::MAX_PERMITS`.
const MAX_PERMITS: u64 = u64::MAX >> 3;

/// A list of waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Who owns it.
    pub owner: ProcAddr,
    /// What that is.
    pub form: Form,
}

/// What owns a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A semaphore; the node still lacks this many permits.
    Semaphore {
        /// How many.
        lacking: u64,
    },
    /// A notify.
    Notify,
    /// Neither is proved.
    Other,
}

/// Words near the waker that may lead to its owner or to its neighbours.
pub fn pointers(window: &Window) -> impl Iterator<Item = u64> + '_ {
    let own = window.address(-(NODE as isize)).0..window.address(NODE as isize).0;
    window.near(NEAR).map(|(_, word)| word).filter(move |word| window::is_pointer(*word) && !own.contains(word))
}

/// Judges the words around a waker; `block` gives what stands at an address, if it is memory of the process's own, and
/// `is_own` whether the address is in the same future as the waker.
pub fn judge(
    window: &Window,
    block: impl Fn(u64) -> Option<Block>,
    is_own: impl Fn(ProcAddr) -> bool,
) -> Option<Queue> {
    let found: Vec<Queue> = at_an_end(window, &block, &is_own).collect();
    let found = if found.is_empty() { in_the_middle(window, &block) } else { found };
    // An owner inside of something shared is found by the address of that, too: the one that proves more, or is nearer.
    found.into_iter().max_by_key(|queue| (queue.form != Form::Other, queue.owner))
}

/// The owner names the node as its first or last.
fn at_an_end<'w>(
    window: &'w Window,
    block: &'w impl Fn(u64) -> Option<Block>,
    is_own: &'w impl Fn(ProcAddr) -> bool,
) -> impl Iterator<Item = Queue> + 'w {
    pointers(window).filter_map(move |owner| {
        let words = block(owner)?;
        // What a future keeps right beside a node is no list but what the node was made with.
        let apart = |place: usize| {
            let at = ProcAddr(owner.wrapping_add(8 * place as u64));
            at.0.abs_diff(window.place().0) > 8 * BLOCK as u64 || !is_own(at)
        };
        ends(&words).filter(|(place, ..)| apart(*place)).find_map(|(place, first, last)| {
            let named = Node::all(window).filter(|node| first == node.at || last == node.at);
            named.into_iter().find_map(|node| {
                let (is_first, is_last) = (first == node.at, last == node.at);
                let fits = |before: u64, after: u64| (before == 0) == is_first && (after == 0) == is_last;
                let link = |word: u64| word == 0 || window::is_pointer(word);
                // A neighbour names the node, too, and is no owner.
                let linked = |(_, before, after): &(isize, u64, u64)| {
                    fits(*before, *after) && link(*before) && link(*after) && ![*before, *after].contains(&owner)
                };
                let (links, ..) = node.links(window).find(linked)?;
                Some(Queue { owner: ProcAddr(owner), form: node.form(window, links, place, &words) })
            })
        })
    })
}

/// Both neighbours name the node, and the owner's first and last are the ends of such a list.
fn in_the_middle(window: &Window, block: &impl Fn(u64) -> Option<Block>) -> Vec<Queue> {
    let found = Node::all(window).find_map(|node| {
        let mutual = |(links, before, after): &(isize, u64, u64)| {
            let names_us = |at: u64, offset: isize| Some(block(at)?.get(usize::try_from(offset).ok()?)? == &node.at);
            let both = window::is_pointer(*before) && window::is_pointer(*after);
            both && names_us(*before, links + 1) == Some(true) && names_us(*after, *links) == Some(true)
        };
        let (links, before, after) = node.links(window).find(mutual)?;
        let linked = |at: u64| {
            let words = block(at)?;
            let links = usize::try_from(links).ok()?;
            Some((words[links] == 0, words[links + 1] == 0))
        };
        let others = pointers(window).filter(|owner| ![before, after].contains(owner));
        let owners = others.filter_map(|owner| {
            let words = block(owner)?;
            let is_owner = |(_, first, last): &(usize, u64, u64)| {
                linked(*first) == Some((true, false)) && linked(*last) == Some((false, true))
            };
            let (place, ..) = ends(&words).find(is_owner)?;
            Some(Queue { owner: ProcAddr(owner), form: node.form(window, links, place, &words) })
        });
        Some(owners.collect())
    });
    found.unwrap_or_default()
}

/// Places in an owner at which the first and the last node of a list may stand.
fn ends(words: &Block) -> impl Iterator<Item = (usize, u64, u64)> + '_ {
    let pairs = words.windows(2).enumerate().map(|(place, pair)| (place, pair[0], pair[1]));
    pairs.filter(|(_, first, last)| window::is_pointer(*first) && window::is_pointer(*last))
}

/// The node that the waker may be in, if the waker is at this place in it.
#[derive(Clone, Copy)]
struct Node {
    /// Words before the waker.
    waker: isize,
    at: u64,
}

impl Node {
    fn all(window: &Window) -> impl Iterator<Item = Self> + '_ {
        (0..NODE as isize - 1).map(|waker| Self { waker, at: window.address(-waker).0 })
    }

    /// Where in the node its links may be, and what they are.
    fn links(self, window: &Window) -> impl Iterator<Item = (isize, u64, u64)> + '_ {
        let places = (0..NODE as isize - 1).filter(move |place| place + 1 < self.waker || *place > self.waker + 1);
        places.filter_map(move |place| {
            let word = |place: isize| window.word(place - self.waker);
            Some((place, word(place)?, word(place + 1)?))
        })
    }

    /// What owns the list: its lock is free, so that of its words only few have something in them.
    fn form(&self, window: &Window, links: isize, place: usize, owner: &Block) -> Form {
        let others =
            |len: usize| owner[..len].iter().enumerate().filter(move |(at, _)| *at != place && *at != place + 1);
        let in_node = |at: &isize| ![self.waker, self.waker + 1, links, links + 1].contains(at);
        let mut rest = (0..SMALL_NODE as isize).filter(in_node).filter_map(|at| window.word(at - self.waker));
        let (Some(rest), None) = (rest.next(), rest.next()) else { return Form::Other };
        let is_free = |word: u64| word & 0xff == 0;
        let notify = place + 2 <= NOTIFY && {
            let (waiting, others): (Vec<u64>, Vec<u64>) =
                others(NOTIFY).map(|(_, word)| *word).partition(|word| word & 3 == 1);
            waiting.len() == 1 && others.into_iter().all(is_free)
        };
        let semaphore = place + 2 <= SEMAPHORE
            && (1..=MAX_PERMITS).contains(&rest)
            && others(SEMAPHORE).all(|(_, word)| is_free(*word))
            && others(SEMAPHORE).any(|(_, word)| *word == 0);
        match (semaphore, notify) {
            (true, false) => Form::Semaphore { lacking: rest },
            (false, true) => Form::Notify,
            _ => Form::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::census::waits::window::WORDS;

    const WAKER: [u64; 2] = [0x5555_0000_0100, 0x7f00_0000_1000];
    const OWNER: u64 = 0x7f00_0000_0040;

    /// Memory by blocks, and a waker in it with these words around it.
    #[derive(Default)]
    struct Scene {
        blocks: HashMap<u64, Block>,
    }

    impl Scene {
        fn with(mut self, at: u64, words: &[u64]) -> Self {
            let mut block = [0; BLOCK];
            block[..words.len()].copy_from_slice(words);
            self.blocks.insert(at, block);
            self
        }

        fn judge(&self, waker: u64, words: &[(isize, u64)]) -> Option<Queue> {
            let mut all = [0; WORDS];
            for (offset, word) in [(0, WAKER[0]), (1, WAKER[1])].iter().chain(words) {
                all[(64 + offset) as usize] = *word;
            }
            judge(&Window::of(ProcAddr(waker), all), |at| self.blocks.get(&at).copied(), |_| false)
        }
    }

    const FIRST: u64 = 0x7f00_0000_2000;
    const MIDDLE: u64 = 0x7f00_0000_3000;
    const LAST: u64 = 0x7f00_0000_4000;

    /// Three nodes of a semaphore, the waker first in each, then the links, then what is lacking.
    fn semaphore() -> Scene {
        Scene::default()
            .with(OWNER, &[0, FIRST, LAST, 0, 0])
            .with(FIRST, &[WAKER[0], WAKER[1], 0, MIDDLE, 3])
            .with(MIDDLE, &[WAKER[0], WAKER[1], FIRST, LAST, 3])
            .with(LAST, &[WAKER[0], WAKER[1], MIDDLE, 0, 2])
    }

    #[test]
    fn every_waiter_of_a_semaphore_is_told_with_what_it_lacks() {
        let lacks = |lacking| Some(Queue { owner: ProcAddr(OWNER), form: Form::Semaphore { lacking } });
        let scene = semaphore();
        assert_eq!(scene.judge(FIRST, &[(-1, OWNER), (2, 0), (3, MIDDLE), (4, 3)]), lacks(3));
        assert_eq!(scene.judge(MIDDLE, &[(-1, OWNER), (2, FIRST), (3, LAST), (4, 3)]), lacks(3));
        assert_eq!(scene.judge(LAST, &[(-1, OWNER), (2, MIDDLE), (3, 0), (4, 2)]), lacks(2));
    }

    #[test]
    fn the_only_waiter_of_a_notify_is_told() {
        let scene = Scene::default().with(OWNER, &[0, LAST - 16, LAST - 16, 5]);
        let expected = Some(Queue { owner: ProcAddr(OWNER), form: Form::Notify });
        assert_eq!(scene.judge(LAST, &[(-4, OWNER), (-3, 1), (2, 0)]), expected);
    }

    #[test]
    fn a_node_that_was_left_behind_is_in_no_list() {
        let scene = semaphore();
        assert_eq!(scene.judge(0x7f00_0000_5000, &[(-1, OWNER), (2, 0), (3, 0), (4, 1)]), None);
        assert_eq!(scene.judge(0x7f00_0000_5000, &[(-1, OWNER), (2, FIRST), (3, LAST), (4, 1)]), None);
        assert_eq!(scene.judge(LAST, &[(-1, OWNER), (2, 0), (3, 0), (4, 1)]), None, "its links say that it is alone");
    }

    #[test]
    fn a_neighbour_is_not_the_owner() {
        let scene = semaphore();
        assert_eq!(scene.judge(LAST, &[(2, MIDDLE), (3, 0), (4, 2)]), None);
    }

    #[test]
    fn an_owner_of_another_form_is_only_an_owner() {
        let scene = Scene::default().with(OWNER, &[2, 1, 0, 7, 0, 9, LAST, LAST]);
        let queue = scene.judge(LAST, &[(-1, OWNER), (2, 0), (3, 0), (4, 1)]);
        assert_eq!(queue, Some(Queue { owner: ProcAddr(OWNER), form: Form::Other }));
    }

    proptest! {
        #[test]
        fn no_words_panic(place: u64, words: Vec<u64>, near in proptest::collection::vec(-40i64..40, WORDS), block: [u8; BLOCK]) {
            let mut all = [0; WORDS];
            for (index, word) in all.iter_mut().enumerate() {
                *word = words.get(index).copied().unwrap_or_else(|| place.wrapping_add_signed(8 * near[index]));
            }
            let window = Window::of(ProcAddr(place), all);
            let blocks = |at: u64| Some(block.map(|offset| at.wrapping_add(u64::from(offset) * 8)));
            judge(&window, blocks, |at| at.0 % 2 == 0);
            let own = |at: u64| Some(block.map(|offset| if offset < 128 { place } else { at }));
            judge(&window, own, |_| false);
        }
    }
}
