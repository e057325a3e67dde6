//! The words around a place.
//!
//! Does not know: what they mean.

use crate::model::{ProcAddr, word_at};
use crate::target::{Memory, MemoryError, page_size};

/// Words on each side of the place's own two. A timer of tokio before 1.28 is padded to three times 128 bytes, and its
/// driver's handle stands before or behind it.
const REACH: usize = 64;
/// All of them.
pub const WORDS: usize = 2 * REACH + 2;

/// Nothing is mapped below this.
const LOWEST: u64 = 1 << 16;

/// Whether a word may be the address of something that holds words.
pub fn is_pointer(word: u64) -> bool {
    word.is_multiple_of(8) && (LOWEST..1 << 47).contains(&word)
}

/// What stands around a place; words that cannot be read are 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    place: ProcAddr,
    words: Box<[u64; WORDS]>,
}

impl Window {
    /// From words of which those at [`REACH`] are the place's own.
    #[cfg(test)]
    pub fn of(place: ProcAddr, words: [u64; WORDS]) -> Self {
        Self { place, words: Box::new(words) }
    }

    /// Reads the windows of these places, in ascending order of address.
    pub fn read_each(
        places: &[ProcAddr],
        memory: &Memory<'_>,
        mut each: impl FnMut(usize, Self),
    ) -> Result<(), MemoryError> {
        let before = 8 * REACH as u64;
        let starts: Vec<ProcAddr> = places.iter().map(|place| ProcAddr(place.0.saturating_sub(before))).collect();
        let mut cut = Vec::new();
        memory.read_each(&starts, 8 * WORDS, |index, bytes| match bytes {
            Some(bytes) => {
                let words = Box::new(std::array::from_fn(|word| word_at(bytes, 8 * word).unwrap_or(0)));
                each(index, Self { place: places[index], words });
            }
            None => cut.push(index),
        })?;
        // At the edge of what is mapped: as much as is there, page by page.
        for index in cut {
            let mut window = Self { place: places[index], words: Box::new([0; WORDS]) };
            let (start, page) = (starts[index].0, page_size());
            let mut offset = 0;
            while offset < 8 * WORDS {
                let at = start.saturating_add(offset as u64);
                let len = (8 * WORDS - offset).min((page - at % page) as usize);
                let mut bytes = vec![0; len];
                let read = memory.read(ProcAddr(at), &mut bytes)?;
                for (word, value) in bytes[..read].chunks_exact(8).filter_map(|word| word_at(word, 0)).enumerate() {
                    window.words[offset / 8 + word] = value;
                }
                offset += len.max(8);
            }
            each(index, window);
        }
        Ok(())
    }

    /// The place.
    pub fn place(&self) -> ProcAddr {
        self.place
    }

    /// The word this many words from the place's lower one; its own are 0 and 1.
    pub fn word(&self, offset: isize) -> Option<u64> {
        self.words.get(REACH.checked_add_signed(offset)?).copied()
    }

    /// Offsets and words at most this far from the place's own two, without these.
    pub fn near(&self, reach: usize) -> impl Iterator<Item = (isize, u64)> + '_ {
        let reach = reach.min(REACH) as isize;
        let offsets = (-reach..0).chain(2..reach + 2);
        offsets.filter_map(|offset| Some((offset, self.word(offset)?)))
    }

    /// The address of the word at this offset.
    pub fn address(&self, offset: isize) -> ProcAddr {
        ProcAddr(self.place.0.wrapping_add_signed(8 * offset as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pid;
    use crate::target::Process;

    #[test]
    fn the_words_around_a_place_are_told_by_their_distance() {
        let memory: Vec<u64> = (0..1000).collect();
        let place = ProcAddr(std::ptr::from_ref(&memory[500]) as u64);
        let us = Process::open(Pid(std::process::id())).unwrap();
        let mut windows = vec![];
        Window::read_each(&[place], &us.memory(), |_, window| windows.push(window)).unwrap();
        let window = &windows[0];
        assert_eq!([-64, -1, 0, 1, 2, 65].map(|offset| window.word(offset)), [436, 499, 500, 501, 502, 565].map(Some));
        assert_eq!([-65, 66].map(|offset| window.word(offset)), [None, None]);
        assert_eq!(window.near(2).collect::<Vec<_>>(), [(-2, 498), (-1, 499), (2, 502), (3, 503)]);
        assert_eq!(window.address(-3), ProcAddr(place.0 - 24));
    }

    #[test]
    fn what_is_not_mapped_reads_as_nothing() {
        let us = Process::open(Pid(std::process::id())).unwrap();
        let maps = us.maps().unwrap();
        let gap = maps.windows(2).find(|pair| {
            pair[0].is_private_writable() && pair[0].range.end < pair[1].range.start && pair[0].file.is_none()
        });
        let place = ProcAddr(gap.unwrap()[0].range.end.0 - 16);
        let first = us.memory().read_word(ProcAddr(place.0 - 8)).unwrap();
        let mut windows = vec![];
        Window::read_each(&[place], &us.memory(), |_, window| windows.push(window)).unwrap();
        assert_eq!((windows[0].word(-1), windows[0].word(2)), (Some(first), Some(0)));
    }
}
