//! The book of one life as its process left it: `tests/fixtures/zoo/host/book.rs` writes the same words.

use std::path::Path;

/// First word of a book.
const MAGIC: u64 = 0x0001_6b6f_6f62_7473;
/// Kinds of tasks in the order of the file; the last two are blocking ones.
const KINDS: [&str; 7] = ["leaf", "sleeper", "parent", "aborted", "forever", "closure", "worker"];
const FUTURES: usize = 5;
const FOREVER: usize = 4;
/// Words before the counts: magic, pid, began, done.
const HEAD: usize = 4;

/// What one runtime's owner says of its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    /// The process, as its own namespace numbers it.
    pub pid_within: u64,
    /// All steps are done: the counts are those of the end.
    pub done: bool,
    counts: [Count; KINDS.len()],
}

/// What is counted of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Spawn calls begun.
    pub calling: u64,
    /// Spawn calls that returned.
    pub spawned: u64,
    /// Futures and closures dropped.
    pub dropped: u64,
}

impl Book {
    /// Reads it; `None` while it is not begun.
    pub fn read(path: &Path) -> Option<Self> {
        Self::of(&std::fs::read(path).ok()?)
    }

    /// One with these counts, the same for every kind: calling, spawned, dropped.
    #[cfg(test)]
    pub(super) fn even(done: bool, count: Count) -> Self {
        Self { pid_within: 1, done, counts: [count; KINDS.len()] }
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let bytes = bytes.get(at * 8..at * 8 + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        if word(0)? != MAGIC {
            return None;
        }
        let mut counts = [Count::default(); KINDS.len()];
        for (kind, count) in counts.iter_mut().enumerate() {
            let at = HEAD + kind * 3;
            *count = Count { calling: word(at)?, spawned: word(at + 1)?, dropped: word(at + 2)? };
        }
        Some(Self { pid_within: word(1)?, done: word(3)? == 1, counts })
    }

    /// Its futures by type; types without a task are left out.
    pub fn futures(&self) -> impl Iterator<Item = Count> + '_ {
        self.counts[..FUTURES].iter().copied().filter(|count| count.calling > 0)
    }

    /// All futures together.
    pub fn all_futures(&self) -> Count {
        self.counts[..FUTURES].iter().copied().fold(Count::default(), Count::and)
    }

    /// Closures and workers together.
    pub fn blocking(&self) -> Count {
        self.counts[FUTURES..].iter().copied().fold(Count::default(), Count::and)
    }

    /// Those that live until the process is no more.
    pub fn forever(&self) -> u64 {
        self.counts[FOREVER].spawned
    }
}

impl Count {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            calling: self.calling + other.calling,
            spawned: self.spawned + other.spawned,
            dropped: self.dropped + other.dropped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_book_is_read_word_by_word() {
        let mut words = vec![MAGIC, 7, 100, 1];
        words.extend((0..7).flat_map(|kind| [kind + 10, kind + 1, kind]));
        let book = Book::of(&bytes(&words)).expect("it is a book");
        assert_eq!((book.pid_within, book.done, book.forever()), (7, true, 5));
        assert_eq!(book.futures().count(), 5);
        assert_eq!(book.blocking(), Count { calling: 31, spawned: 13, dropped: 11 });
        assert_eq!(book.all_futures(), Count { calling: 60, spawned: 15, dropped: 10 });
    }

    #[test]
    fn what_is_not_begun_or_cut_off_is_no_book() {
        assert_eq!(Book::of(&[]), None);
        assert_eq!(Book::of(&bytes(&[0; 40])), None);
        assert_eq!(Book::of(&bytes(&[MAGIC, 7, 100, 1, 2])), None);
    }
}
