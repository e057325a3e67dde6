//! Since when task ids are known to have been given out.
//!
//! A runtime gives ids that count up, and none twice. So whoever was seen with an id proves that each smaller one had been
//! given before. Memory that is read after a sample tells its task only if that task was there at the sample already.

use std::collections::{HashMap, VecDeque};

use crate::model::{Bias, Ns, TaskId};

/// Steps that are remembered for each copy of a runtime. Samples are looked at soon after they were taken.
const STEPS: usize = 64;

/// The largest ids seen so far and when, by copy of the runtime: where its image is loaded.
#[derive(Debug, Default)]
pub(super) struct Ages(HashMap<Bias, VecDeque<(Ns, TaskId)>>);

impl Ages {
    /// This id was read from memory before this moment.
    pub(super) fn saw(&mut self, copy: Bias, id: TaskId, at: Ns) {
        let steps = self.0.entry(copy).or_default();
        if steps.back().is_none_or(|(_, largest)| *largest < id) {
            steps.push_back((at, id));
            if steps.len() > STEPS {
                steps.pop_front();
            }
        }
    }

    /// Whether it is proved that this id had been given at that moment.
    pub(super) fn was_there(&self, copy: Bias, id: TaskId, at: Ns) -> bool {
        self.0.get(&copy).is_some_and(|steps| steps.iter().any(|(seen, largest)| *seen <= at && id <= *largest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_had_been_given_once_it_or_a_larger_one_was_seen() {
        let mut ages = Ages::default();
        ages.saw(Bias(0), TaskId(5), Ns(10));
        ages.saw(Bias(0), TaskId(3), Ns(20));
        ages.saw(Bias(0), TaskId(9), Ns(30));
        let was = |id, at| ages.was_there(Bias(0), TaskId(id), Ns(at));
        assert_eq!(
            [was(5, 9), was(5, 10), was(3, 15), was(6, 29), was(6, 30), was(10, 99)],
            [false, true, true, false, true, false]
        );
        assert!(!ages.was_there(Bias(1), TaskId(1), Ns(99)), "another copy counts for itself");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut ages = Ages::default();
        (1..1000).for_each(|n| ages.saw(Bias(0), TaskId(n), Ns(n)));
        assert_eq!(ages.0[&Bias(0)].len(), STEPS);
        assert!(ages.was_there(Bias(0), TaskId(999), Ns(999)) && !ages.was_there(Bias(0), TaskId(1), Ns(1)));
    }
}
