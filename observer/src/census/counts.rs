//! Which words of a scheduler may be its count of one list's tasks.
//!
//! Does not know: where a list is, or how its members were met. Beside the count stand words that are equal to it now and
//! then: how many were ever added, the number of shards. While tasks come and go faster than memory is searched, nearly
//! every word is within what may have happened meanwhile; a walk is so much shorter that it tells them apart.

use std::ops::RangeInclusive;

use crate::model::ProcAddr;

/// They.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    words: Vec<ProcAddr>,
    /// Whether each has been equal to what was met, as closely as it can be known.
    proved: bool,
}

impl Counts {
    /// These were equal to the number of members, give or take `slack`.
    pub fn new(words: Vec<ProcAddr>, slack: u64) -> Self {
        Self { words, proved: slack == 0 }
    }

    /// Where they are.
    pub fn words(&self) -> &[ProcAddr] {
        &self.words
    }

    /// Those that are also among the ones that were held for it before; these, if none is.
    pub fn confirmed_by(&mut self, before: &Self) {
        if before.words.iter().any(|word| self.words.contains(word)) {
            self.words.retain(|word| before.words.contains(word));
            self.proved |= before.proved;
        }
    }

    /// Whether the list's count may be within these bounds. The words held `values`, in order.
    ///
    /// Of words that were all equal to it, the count is the least: how many were ever added is never below it. Of words
    /// of which that is not known, those that agree are the ones that may be it. If none does, nothing is proved any more.
    pub fn allow(
        &mut self,
        values: &[(u64, u64)],
        within: impl Fn(u64, u64) -> RangeInclusive<u64>,
        members: u64,
    ) -> bool {
        let agrees = |(first, last): &(u64, u64)| within(*first, *last).contains(&members);
        let least = values.iter().min_by_key(|(_, last)| *last);
        let allowed =
            if self.proved { least.is_none_or(agrees) } else { values.is_empty() || values.iter().any(agrees) };
        self.proved = allowed;
        if allowed {
            let mut agreeing = values.iter().map(agrees);
            self.words.retain(|_| agreeing.next().unwrap_or(false));
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: ProcAddr = ProcAddr(0x1000);
    const ADDED: ProcAddr = ProcAddr(0x1008);
    const SHARDS: ProcAddr = ProcAddr(0x1010);

    fn exactly(first: u64, last: u64) -> RangeInclusive<u64> {
        first.min(last)..=first.max(last)
    }

    fn still(values: &[u64]) -> Vec<(u64, u64)> {
        values.iter().map(|value| (*value, *value)).collect()
    }

    #[test]
    fn of_words_that_were_equal_the_least_is_the_count() {
        let mut counts = Counts::new(vec![COUNT, ADDED], 0);
        assert!(!counts.clone().allow(&still(&[8, 9]), exactly, 9), "one was missed, or met twice");
        assert!(counts.allow(&still(&[8, 9]), exactly, 8));
        assert_eq!(counts.words(), [COUNT]);
    }

    #[test]
    fn a_word_that_was_only_within_the_slack_of_a_search_does_not_speak_against_a_walk() {
        let mut counts = Counts::new(vec![COUNT, ADDED, SHARDS], 3000);
        assert!(!counts.clone().allow(&still(&[2000, 90_000, 4]), exactly, 1999));
        assert!(counts.allow(&still(&[2000, 90_000, 4]), exactly, 2000));
        assert_eq!(counts.words(), [COUNT]);
        assert!(!counts.allow(&still(&[2000]), exactly, 2001), "from then on it is the count");
    }

    #[test]
    fn after_a_walk_that_does_not_add_up_a_wrong_word_is_found_out() {
        // The number of shards was equal to the count once.
        let mut counts = Counts::new(vec![COUNT, SHARDS], 0);
        assert!(!counts.allow(&still(&[2000, 4]), exactly, 2000));
        let mut again = Counts::new(vec![COUNT, ADDED, SHARDS], 3000);
        again.confirmed_by(&counts);
        assert!(again.allow(&still(&[2000, 4]), exactly, 2000));
        assert_eq!(again.words(), [COUNT]);
    }

    #[test]
    fn what_was_proved_before_stays_so_and_what_has_nothing_in_common_begins_anew() {
        let mut counts = Counts::new(vec![COUNT, ADDED], 3000);
        counts.confirmed_by(&Counts::new(vec![COUNT], 0));
        assert_eq!(counts, Counts::new(vec![COUNT], 0));
        counts.confirmed_by(&Counts::new(vec![SHARDS], 0));
        assert_eq!(counts, Counts::new(vec![COUNT], 0));
    }
}
