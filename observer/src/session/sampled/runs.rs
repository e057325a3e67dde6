//! Threads that stay in one task's poll from sample to sample, on a CPU all the while.
//!
//! That two samples are in the poll of one task does not prove one poll: it may have returned and begun again in between.
//! So what is said here is never certain. It is given up as soon as the task is seen not to run.

use std::collections::HashMap;

use crate::model::{Ns, Pid, ProcAddr, Tid};

use super::subject::{Activity, Doing, InPoll, Polled};

/// Samples in a row that a poll must have: two happen by chance where a task is polled again and again.
const LEAST_SAMPLES: u64 = 3;
/// Looks at the task that a poll must have stood, each of many glances.
const LEAST_LOOKS: u64 = 2;
/// Of so many periods is a gap between two samples, after which the thread was off the CPU in between, in tenths.
const GAP: u64 = 25;

/// One thread in one poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) poll: InPoll,
    pub(super) polled: Polled,
    pub(super) first: Ns,
    pub(super) last: Ns,
    pub(super) samples: u64,
    /// How often the task was seen to run, and never not to.
    pub(super) looks: u64,
    /// The calls of the latest sample.
    pub(super) addresses: Vec<ProcAddr>,
    said: bool,
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
            if same && at.since(run.last).0 <= period.0 / 10 * GAP {
                (run.last, run.samples) = (at, run.samples + 1);
                run.addresses.clone_from(&activity.addresses);
                return;
            }
        }
        let (poll, polled, addresses) = (poll.clone(), *polled, activity.addresses.clone());
        self.0.insert(of, Run { poll, polled, first: at, last: at, samples: 1, looks: 0, addresses, said: false });
    }

    /// Asks of each task that was sampled in a row whether it runs now; those that do not were not in one poll.
    pub(super) fn look(&mut self, mut runs: impl FnMut(Pid, Polled) -> bool) {
        self.0.retain(|(pid, _), run| {
            if run.samples < 2 || run.said {
                return true;
            }
            run.looks += 1;
            runs(*pid, run.polled)
        });
    }

    /// Those that have lasted for so long, each once.
    pub(super) fn lasting(&mut self, least: Ns) -> Vec<((Pid, Tid), Run)> {
        let enough = |run: &Run| run.samples >= LEAST_SAMPLES && run.looks >= LEAST_LOOKS;
        let lasts = |run: &Run| !run.said && enough(run) && run.last.since(run.first) >= least;
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

    const OF: (Pid, Tid) = (Pid(1), Tid(2));
    const PERIOD: Ns = Ns(10);

    fn sample(task: Result<u64, Untold>, frame: u64) -> Activity {
        let task = task.map(|id| Polled { id: TaskId(id), header: ProcAddr(id) });
        let poll = InPoll { vtables: vec![ProcAddr(9)], task, frame: Some(ProcAddr(frame)) };
        Activity { of: Doing::In(poll), addresses: vec![ProcAddr(5)] }
    }

    fn lasting(samples: &[(u64, Activity)]) -> Vec<(u64, u64)> {
        let mut runs = Runs::default();
        for (at, activity) in samples {
            runs.add(OF, Ns(*at), PERIOD, activity);
            runs.look(|_, _| true);
        }
        runs.lasting(Ns(20)).into_iter().map(|(_, run)| (run.samples, run.last.since(run.first).0)).collect()
    }

    #[test]
    fn samples_in_a_row_of_one_task_at_one_frame_are_one_run_and_it_is_said_once() {
        let row: Vec<(u64, Activity)> = (0..4).map(|n| (n * 10, sample(Ok(7), 1))).collect();
        assert_eq!(lasting(&row), [(4, 30)]);
        assert_eq!(lasting(&row[..2]), [], "two prove little");
        let mut runs = Runs::default();
        for (at, activity) in &row {
            runs.add(OF, Ns(*at), PERIOD, activity);
            runs.look(|_, _| true);
        }
        assert_eq!((runs.lasting(Ns(20)).len(), runs.lasting(Ns(20)).len()), (1, 0));
    }

    #[test]
    fn another_task_another_frame_a_task_that_is_not_told_and_a_pause_each_end_a_run() {
        let of = |third: (u64, Activity)| {
            lasting(&[(0, sample(Ok(7), 1)), (10, sample(Ok(7), 1)), third, (50, sample(Ok(7), 1))])
        };
        assert_eq!(of((30, sample(Ok(7), 1))), [(4, 50)]);
        for third in [sample(Ok(8), 1), sample(Ok(7), 2), sample(Err(Untold::Several), 1)] {
            assert_eq!(of((30, third)), []);
        }
        assert_eq!(lasting(&[(0, sample(Ok(7), 1)), (10, sample(Ok(7), 1)), (40, sample(Ok(7), 1))]), []);
    }

    #[test]
    fn a_task_that_is_seen_not_to_run_was_not_in_one_poll() {
        let mut runs = Runs::default();
        for at in [0, 10, 20] {
            runs.add(OF, Ns(at), PERIOD, &sample(Ok(7), 1));
            runs.look(|_, _| at < 20);
        }
        assert!(runs.lasting(Ns(20)).is_empty());
    }
}
