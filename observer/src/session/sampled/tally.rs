//! Samples counted: in whose polls, outside of any, not followed.
//!
//! Does not know: processes, time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use crate::model::{ProcAddr, TaskId, Untold};
use crate::sink::StackEnd;

use super::subject::{Activity, Doing, NotFollowed};

/// Different tasks that are counted apart at most; further ones are counted by type.
const MOST_TASKS: usize = 1 << 16;

/// Whose time it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Whose {
    /// The type; several where the code does not tell them apart.
    pub(super) vtables: Vec<ProcAddr>,
    /// The task, where tasks are counted apart and it is told.
    pub(super) task: Option<TaskId>,
}

/// Counts of samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) samples: u64,
    pub(super) in_polls: u64,
    pub(super) outside: u64,
    /// By why.
    pub(super) unknown: BTreeMap<&'static str, u64>,
    /// Of those in polls, where it is not known which task was polled, by why.
    pub(super) untold: BTreeMap<&'static str, u64>,
    by: HashMap<Whose, u64>,
}

impl Tally {
    /// Counts one.
    pub(super) fn add(&mut self, activity: &Activity, by_task: bool) {
        self.samples += 1;
        match &activity.of {
            Doing::Outside => self.outside += 1,
            Doing::Unknown(why) => *self.unknown.entry(in_words(*why)).or_default() += 1,
            Doing::In(poll) => {
                self.in_polls += 1;
                if let Err(why) = poll.task {
                    *self.untold.entry(untold(why)).or_default() += 1;
                }
                let task = poll.task.ok().map(|polled| polled.id).filter(|_| by_task);
                let mut whose = Whose { vtables: poll.vtables.clone(), task };
                if self.by.len() >= MOST_TASKS && !self.by.contains_key(&whose) {
                    whose.task = None;
                }
                *self.by.entry(whose).or_default() += 1;
            }
        }
    }

    /// Who was busy, most first.
    pub(super) fn busiest(&self) -> Vec<(&Whose, u64)> {
        let mut all: Vec<(&Whose, u64)> = self.by.iter().map(|(whose, samples)| (whose, *samples)).collect();
        all.sort_by_key(|(whose, samples)| (Reverse(*samples), *whose));
        all
    }
}

/// Why a stack was not followed, in a few words.
fn in_words(why: NotFollowed) -> &'static str {
    match why {
        NotFollowed::NoRegisters => "no registers",
        NotFollowed::Ends(end) => StackEnd::of(end).map_or("followed to its root", |end| end.cause),
    }
}

/// Why it is not known which task was polled, in a few words.
fn untold(why: Untold) -> &'static str {
    match why {
        Untold::Gone => "not proved to have been there then",
        Untold::Several => "one of several in the frame",
        Untold::NotFound => "not found in the frame",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::sampled::subject::{InPoll, Polled};

    fn in_poll(vtable: u64, task: Result<u64, Untold>) -> Activity {
        let task = task.map(|id| Polled { id: TaskId(id), header: ProcAddr(id) });
        let of = Doing::In(InPoll { vtables: vec![ProcAddr(vtable)], task, frame: None });
        Activity { of, addresses: Vec::new() }
    }

    #[test]
    fn each_sample_is_counted_once_by_type_or_by_task() {
        let outside = Activity { of: Doing::Outside, addresses: Vec::new() };
        let unknown = Activity { of: Doing::Unknown(NotFollowed::NoRegisters), addresses: Vec::new() };
        let all =
            [in_poll(1, Ok(7)), in_poll(1, Ok(8)), in_poll(1, Err(Untold::Gone)), in_poll(2, Ok(9)), outside, unknown];
        for (by_task, expected) in [(false, vec![3, 1]), (true, vec![1, 1, 1, 1])] {
            let mut tally = Tally::default();
            all.iter().for_each(|activity| tally.add(activity, by_task));
            assert_eq!((tally.samples, tally.in_polls, tally.outside), (6, 4, 1));
            assert_eq!(tally.unknown, BTreeMap::from([("no registers", 1)]));
            assert_eq!(tally.untold.values().sum::<u64>(), 1);
            let counts: Vec<u64> = tally.busiest().into_iter().map(|(_, samples)| samples).collect();
            assert_eq!(counts, expected);
        }
    }
}
