//! Tasks that wait for locks and for the ends of tasks, and only for each other: nobody of them goes on unless somebody from
//! outside does something.
//!
//! Only waits of which memory names those who must act count: a semaphore's permits (a mutex is one) are given back by who
//! holds its address, a join handle's wait ends with its task. What a channel or a `Notify` waits for may come from code
//! that is no task. A permit may still be held where the holder's address was not found, so this is a hint.

use std::collections::{HashMap, HashSet};

use crate::model::{TaskId, Waiting};

/// What one task waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter<'w> {
    pub(super) task: TaskId,
    /// Proved to be stuck.
    pub(super) stuck: bool,
    pub(super) waits: &'w [Waiting],
}

/// Those that are in no way out: every task that must act for them waits like them, or is stuck. Stuck ones are not given.
pub(super) fn in_rings(waiters: &[Waiter<'_>]) -> HashSet<TaskId> {
    let blockers: HashMap<TaskId, Vec<TaskId>> =
        waiters.iter().filter_map(|waiter| Some((waiter.task, blockers(waiter)?))).collect();
    let stuck: HashSet<TaskId> = waiters.iter().filter(|waiter| waiter.stuck).map(|waiter| waiter.task).collect();
    let mut inside: HashSet<TaskId> = blockers.keys().copied().collect();
    loop {
        let before = inside.len();
        let closed =
            |task: &TaskId| blockers[task].iter().all(|blocker| stuck.contains(blocker) || inside.contains(blocker));
        inside = inside.iter().copied().filter(closed).collect();
        if inside.len() == before {
            return inside;
        }
    }
}

/// Who must act before the task goes on; `None` where somebody may whom memory does not name.
fn blockers(waiter: &Waiter<'_>) -> Option<Vec<TaskId>> {
    if waiter.stuck || waiter.waits.is_empty() {
        return None;
    }
    let mut blockers = Vec::new();
    for waiting in waiter.waits {
        match waiting {
            Waiting::Join { task } => blockers.push(*task),
            Waiting::Semaphore { peers, .. } if peers.more == 0 && !peers.tasks.is_empty() => {
                blockers.extend(&peers.tasks);
            }
            _ => return None,
        }
    }
    Some(blockers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Peers, ProcAddr};

    fn lock(peers: &[u64]) -> Waiting {
        let peers = Peers { tasks: peers.iter().copied().map(TaskId).collect(), more: 0 };
        Waiting::Semaphore { address: ProcAddr(8), lacking: 1, peers }
    }

    fn join(task: u64) -> Waiting {
        Waiting::Join { task: TaskId(task) }
    }

    fn inside(waiters: &[(u64, bool, Vec<Waiting>)]) -> Vec<u64> {
        let waiter = |(id, stuck, waits): &(u64, bool, Vec<Waiting>)| (TaskId(*id), *stuck, waits.clone());
        let owned: Vec<_> = waiters.iter().map(waiter).collect();
        let waiters: Vec<_> =
            owned.iter().map(|(task, stuck, waits)| Waiter { task: *task, stuck: *stuck, waits }).collect();
        let mut inside: Vec<u64> = in_rings(&waiters).into_iter().map(|task| task.0).collect();
        inside.sort_unstable();
        inside
    }

    #[test]
    fn two_that_wait_for_each_others_lock_are_a_ring_and_who_waits_for_them_is_in_it() {
        let waiters = [(1, false, vec![lock(&[2])]), (2, false, vec![lock(&[1])]), (3, false, vec![join(1)])];
        assert_eq!(inside(&waiters), [1, 2, 3]);
    }

    #[test]
    fn one_who_can_go_on_opens_the_ring() {
        let timer = Waiting::Timer { deadline: None };
        assert!(inside(&[(1, false, vec![lock(&[2])]), (2, false, vec![lock(&[1]), timer])]).is_empty());
        assert!(inside(&[(1, false, vec![lock(&[2])]), (2, false, vec![lock(&[9])])]).is_empty());
        assert!(inside(&[(1, false, vec![lock(&[])])]).is_empty());
    }

    #[test]
    fn who_waits_for_a_stuck_task_waits_in_vain() {
        assert_eq!(inside(&[(1, true, vec![Waiting::Nobody]), (2, false, vec![join(1)])]), [2]);
    }

    #[test]
    fn more_holders_than_are_named_are_a_way_out() {
        let peers = Peers { tasks: vec![TaskId(1)], more: 1 };
        let many = Waiting::Semaphore { address: ProcAddr(8), lacking: 1, peers };
        assert!(inside(&[(1, false, vec![many])]).is_empty());
    }
}
