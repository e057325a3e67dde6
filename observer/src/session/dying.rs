//! Processes whose first thread has ended, until no thread of them is left.
//!
//! Pure: times come in, and who runs is asked of the caller. Does not know what an end means to a target.

use std::collections::HashMap;

use crate::model::{Ns, Pid};

/// A process is taken for ended so long after its first thread ended, if no other thread of it lives: until then its
/// other threads may still be seen at their ends.
const DYING: Ns = Ns(200_000_000);
/// And is looked at again after so long, if one does.
const UNDEAD: Ns = Ns(1_000_000_000);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Dying {
    by_pid: HashMap<Pid, Since>,
}

#[derive(Debug)]
struct Since {
    /// When the first thread ended.
    since: Ns,
    /// When to look whether the others have, too.
    look: Ns,
}

impl Dying {
    /// The first thread of a process has ended.
    pub(super) fn begins(&mut self, pid: Pid, at: Ns) {
        self.by_pid.insert(pid, Since { since: at, look: Ns(at.0 + DYING.0) });
    }

    /// Somebody of this number was forked or began a program: it is not the one that was dying before. What is told late, after
    /// an end that came later, on another CPU, says nothing.
    pub(super) fn lives(&mut self, pid: Pid, at: Ns) {
        if self.by_pid.get(&pid).is_some_and(|dying| dying.since <= at) {
            self.by_pid.remove(&pid);
        }
    }

    /// Whoever is due and does not run any more has ended, and when that is taken to have been.
    pub(super) fn ended(&mut self, now: Ns, is_running: impl Fn(Pid) -> bool) -> Vec<(Pid, Ns)> {
        self.bury(now, is_running, |dying| dying.look <= now)
    }

    /// The same of all that were dying before the last moment, after which nobody looks again.
    pub(super) fn ended_at_last(&mut self, last: Ns, is_running: impl Fn(Pid) -> bool) -> Vec<(Pid, Ns)> {
        self.bury(last, is_running, |dying| dying.since <= last)
    }

    fn bury(&mut self, now: Ns, runs: impl Fn(Pid) -> bool, is_due: impl Fn(&Since) -> bool) -> Vec<(Pid, Ns)> {
        let mut ended = Vec::new();
        self.by_pid.retain(|pid, dying| {
            if !is_due(dying) {
                return true;
            }
            let goes_on = runs(*pid);
            if !goes_on {
                ended.push((*pid, dying.look.min(now)));
            }
            dying.look = Ns(now.0 + UNDEAD.0);
            goes_on
        });
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: Pid = Pid(7);
    const NOBODY: fn(Pid) -> bool = |_| false;

    fn dying(at: u64) -> Dying {
        let mut dying = Dying::default();
        dying.begins(PID, Ns(at));
        dying
    }

    #[test]
    fn a_process_without_threads_has_ended_a_while_after_its_first_thread() {
        let mut dying = dying(5);
        assert_eq!(dying.ended(Ns(4 + DYING.0), NOBODY), []);
        assert_eq!(dying.ended(Ns(90 + DYING.0), NOBODY), [(PID, Ns(5 + DYING.0))]);
        assert_eq!(dying.ended(Ns(u64::MAX), NOBODY), []);
    }

    #[test]
    fn a_process_that_goes_on_by_other_threads_is_looked_at_again() {
        let mut dying = dying(5);
        let first = Ns(5 + DYING.0);
        assert_eq!(dying.ended(first, |_| true), []);
        assert_eq!(dying.ended(Ns(first.0 + 1), NOBODY), []);
        let second = Ns(first.0 + UNDEAD.0);
        assert_eq!(dying.ended(second, NOBODY), [(PID, second)]);
    }

    #[test]
    fn a_number_that_is_forked_again_or_runs_another_program_is_not_dying() {
        let mut dying = dying(5);
        dying.lives(PID, Ns(6));
        assert_eq!(dying.ended(Ns(u64::MAX), NOBODY), []);
    }

    /// Each CPU has a ring of its own: a birth may be read after the end of the same life.
    #[test]
    fn a_birth_that_is_told_after_the_end_of_the_same_life_does_not_undo_the_end() {
        let mut dying = dying(5);
        dying.lives(PID, Ns(4));
        assert_eq!(dying.ended(Ns(5 + DYING.0), NOBODY), [(PID, Ns(5 + DYING.0))]);
    }

    #[test]
    fn at_last_nobody_is_waited_for_and_who_ended_after_it_has_not() {
        let mut dying = dying(5);
        dying.begins(Pid(8), Ns(9));
        dying.begins(Pid(9), Ns(6));
        assert_eq!(dying.ended_at_last(Ns(8), |pid| pid == Pid(9)), [(PID, Ns(8))]);
    }
}
