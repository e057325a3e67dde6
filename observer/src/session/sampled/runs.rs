//! Threads that stay in one task's poll from sample to sample, on a CPU or ready for one all the while.
//!
//! That two samples are in the poll of one task does not prove one poll: it may have returned and begun again in between.
//! So what is said here is never certain. It is given up as soon as the task is seen not to run, or its thread has waited for
//! anything: a worker that has nothing to do waits, one that is preempted does not.

use std::collections::HashMap;

use crate::model::{Ns, Pid, ProcAddr, Tid};

use super::subject::{Activity, Doing, InPoll, Polled};

/// Samples in a row that a poll must have: fewer happen by chance where a task is polled again and again.
const LEAST_SAMPLES: u64 = 4;
/// Looks at the task that a poll must have stood, each of many glances.
const LEAST_LOOKS: u64 = 2;
/// Periods between two samples of a run at most: others may have the CPU in between.
pub(super) const GAP: u64 = 20;

/// One thread in one poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) poll: InPoll,
    pub(super) polled: Polled,
    /// The first look, and how often the thread had waited by then.
    begin: Option<(Ns, u64)>,
    pub(super) last: Ns,
    pub(super) samples: u64,
    /// How often the task was seen to run, and never not to.
    pub(super) looks: u64,
    /// The calls of the latest sample.
    pub(super) addresses: Vec<ProcAddr>,
    said: bool,
}

/// What a look at a run's thread and task tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// How often the thread has waited so far; `None` where that is not known.
    pub(super) waits: Option<u64>,
    /// The task is there and was seen to run, each time.
    pub(super) runs: bool,
}

impl Run {
    /// From the first look to the latest sample.
    pub(super) fn during(&self) -> Ns {
        self.begin.map_or(Ns(0), |(begin, _)| self.last.since(begin))
    }
}

/// All threads that are in a poll.
#[derive(Debug, Default)]
pub(super) struct Runs(HashMap<(Pid, Tid), Run>);

impl Runs {
    /// The next sample of a thread.
    pub(super) fn add(&mut self, of: (Pid, Tid), at: Ns, period: Ns, activity: &Activity) {
        let (poll, polled) = match &activity.of {
            Doing::In(poll @ InPoll { task: Ok(polled), frame: Some(_), .. }) => (poll, polled),
            // It may have been in the same poll, or not.
            Doing::Unknown(_) => return,
            Doing::In(_) | Doing::Outside => {
                self.0.remove(&of);
                return;
            }
        };
        if let Some(run) = self.0.get_mut(&of) {
            let same = run.polled == *polled && run.poll.frame == poll.frame;
            if same && at.since(run.last).0 <= period.0.saturating_mul(GAP) {
                (run.last, run.samples) = (at, run.samples + 1);
                run.addresses.clone_from(&activity.addresses);
                return;
            }
        }
        let (poll, polled, addresses) = (poll.clone(), *polled, activity.addresses.clone());
        let run = Run { poll, polled, begin: None, last: at, samples: 1, looks: 0, addresses, said: false };
        self.0.insert(of, run);
    }

    /// Looks at each now; `look` is told how many samples it has. Those that did not stay in one poll are given up.
    pub(super) fn look(&mut self, now: Ns, mut look: impl FnMut((Pid, Tid), Polled, u64) -> Look) {
        self.0.retain(|of, run| {
            if run.said {
                return true;
            }
            let Look { waits: Some(waits), runs: true } = look(*of, run.polled, run.samples) else { return false };
            run.looks += u64::from(run.samples > 1);
            run.begin.get_or_insert((now, waits)).1 == waits
        });
    }

    /// Those that have lasted for so long, each once. To be asked right after a look: what was sampled before it is proved
    /// by it.
    pub(super) fn lasting(&mut self, least: Ns) -> Vec<((Pid, Tid), Run)> {
        let enough = |run: &Run| run.samples >= LEAST_SAMPLES && run.looks >= LEAST_LOOKS;
        let lasts = |run: &Run| !run.said && enough(run) && run.during() >= least;
        let mut found = Vec::new();
        for (of, run) in self.0.iter_mut().filter(|(_, run)| lasts(run)) {
            run.said = true;
            found.push((*of, run.clone()));
        }
        found.sort_by_key(|(of, _)| *of);
        found
    }

    /// Forgets those whose latest sample is older.
    pub(super) fn forget_before(&mut self, then: Ns) {
        self.0.retain(|_, run| run.last >= then);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TaskId, Untold};
    use crate::session::sampled::subject::NotFollowed;

    const OF: (Pid, Tid) = (Pid(1), Tid(2));
    const PERIOD: Ns = Ns(10);
    const STAYS: Look = Look { waits: Some(5), runs: true };

    fn sample(task: Result<u64, Untold>, frame: u64) -> Activity {
        let task = task.map(|id| Polled { id: TaskId(id), header: ProcAddr(id) });
        let poll = InPoll { vtables: vec![ProcAddr(9)], task, frame: Some(ProcAddr(frame)) };
        Activity { of: Doing::In(poll), addresses: vec![ProcAddr(5)] }
    }

    /// Samples and what is seen right after each.
    fn lasting(samples: &[(u64, Activity, Look)]) -> Vec<(u64, u64)> {
        let mut runs = Runs::default();
        for (at, activity, look) in samples {
            runs.add(OF, Ns(*at), PERIOD, activity);
            runs.look(Ns(*at), |_, _, _| *look);
        }
        runs.lasting(Ns(20)).into_iter().map(|(_, run)| (run.samples, run.during().0)).collect()
    }

    fn row(count: u64) -> Vec<(u64, Activity, Look)> {
        (0..count).map(|n| (n * 10, sample(Ok(7), 1), STAYS)).collect()
    }

    #[test]
    fn samples_in_a_row_of_one_task_at_one_frame_are_one_run_and_it_is_said_once() {
        assert_eq!((lasting(&row(5)), lasting(&row(3))), (vec![(5, 40)], vec![]));
        let mut runs = Runs::default();
        for (at, activity, look) in row(4) {
            runs.add(OF, Ns(at), PERIOD, &activity);
            runs.look(Ns(at), |_, _, _| look);
        }
        assert_eq!((runs.lasting(Ns(20)).len(), runs.lasting(Ns(20)).len()), (1, 0));
    }

    #[test]
    fn another_task_another_frame_a_task_that_is_not_told_and_a_long_pause_each_end_a_run() {
        let of = |activity| {
            let mut row = row(5);
            row[2].1 = activity;
            lasting(&row)
        };
        for third in [sample(Ok(8), 1), sample(Ok(7), 2), sample(Err(Untold::Several), 1)] {
            assert_eq!(of(third), []);
        }
        let unknown = Activity { of: Doing::Unknown(NotFollowed::NoRegisters), addresses: Vec::new() };
        assert_eq!(of(unknown), [(4, 40)], "it says nothing");
        let mut late = row(5);
        late[4].0 = 10 * GAP + 31;
        assert_eq!(lasting(&late), []);
    }

    #[test]
    fn a_task_that_is_seen_not_to_run_and_a_thread_that_has_waited_were_not_in_one_poll() {
        for look in [Look { runs: false, ..STAYS }, Look { waits: Some(6), ..STAYS }, Look { waits: None, ..STAYS }] {
            let mut row = row(5);
            row[3].2 = look;
            assert_eq!(lasting(&row), []);
        }
    }
}
