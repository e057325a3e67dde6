//! What happens in a stream besides its records, each at its moment, in order of time.
//!
//! Does not know: what it means.

use std::collections::VecDeque;

use crate::lifecycle::Census;
use crate::model::{FileId, Ns, Pid, Sight, Tid};
use crate::sink::{LostNews, Stepped};

use super::population::{Attached, Step};
use super::roster::Resident;
use super::tier::Tier;

/// A moment in the stream that is no record.
#[derive(Debug)]
pub(super) enum Mark {
    /// So many records found no room, the last of them at this moment at the latest.
    Lost(u64, Ns),
    /// So were news of processes.
    LostNews(LostNews),
    /// A census is to be taken in.
    Census(Census),
    /// Something happened to a process.
    Step(Pid, Step),
    /// A thread has ended.
    ThreadEnded(Pid, Tid),
    /// The machine began to be looked at, and these were met.
    Listed(Vec<(Pid, Resident)>),
    /// The machine has been looked at.
    ListingOver,
    /// An image's probes are in.
    Attached(FileId, Attached),
    /// An image's probes begin to be taken out.
    Released(FileId),
    /// So much is watched from here on.
    Sight(Sight),
    /// So much is told from here on, because of what it costs.
    Tier(Tier, Stepped),
}

/// Those whose turn has not come.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<(Ns, Mark)>);

impl Marks {
    /// Puts one behind all of its moment and before.
    pub(super) fn push(&mut self, at: Ns, mark: Mark) {
        let place = self.0.iter().rposition(|(earlier, _)| *earlier <= at).map_or(0, |n| n + 1);
        self.0.insert(place, (at, mark));
    }

    /// Records were lost, as was noticed at this moment, the last `until` then. While nothing comes between they are put together.
    pub(super) fn lost(&mut self, at: Ns, new: u64, until: Ns) {
        match self.0.back_mut() {
            Some((_, Mark::Lost(count, last))) => (*count, *last) = (*count + new, until),
            _ => self.push(at, Mark::Lost(new, until)),
        }
    }

    /// When the first is due, if that is not after the horizon.
    pub(super) fn due(&self, horizon: Ns) -> Option<Ns> {
        self.0.front().map(|(at, _)| *at).filter(|at| *at <= horizon)
    }

    /// Takes the first.
    pub(super) fn pop(&mut self) -> Option<(Ns, Mark)> {
        self.0.pop_front()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_in_order_of_time_and_those_of_one_moment_as_they_were_put() {
        let mut marks = Marks::default();
        for (at, tid) in [(5, 1), (3, 2), (5, 3), (4, 4)] {
            marks.push(Ns(at), Mark::ThreadEnded(Pid(1), Tid(tid)));
        }
        let tid = |mark| match mark {
            Mark::ThreadEnded(_, tid) => tid.0,
            _ => 0,
        };
        assert_eq!((marks.due(Ns(2)), marks.due(Ns(3))), (None, Some(Ns(3))));
        let order: Vec<(u64, u32)> = std::iter::from_fn(|| marks.pop()).map(|(at, mark)| (at.0, tid(mark))).collect();
        assert_eq!(order, [(3, 2), (4, 4), (5, 1), (5, 3)]);
    }

    #[test]
    fn losses_in_a_row_are_one() {
        let mut marks = Marks::default();
        marks.lost(Ns(1), 2, Ns(2));
        marks.lost(Ns(3), 3, Ns(4));
        assert!(matches!(marks.pop(), Some((Ns(1), Mark::Lost(5, Ns(4))))));
        assert!(marks.is_empty());
    }
}
