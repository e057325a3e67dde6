//! Threads that stand still in a task's poll: off the CPU, in a call that waits.
//!
//! This is proved, not guessed: where a thread waits is asked of the kernel, and as long as it has not got on a CPU since, it
//! is in that call and so in that poll. It costs the target nothing but that its files are read. A thread that is woken
//! in between, if only for a moment, begins anew: a poll that waits many times for a short while each is not named.

use std::collections::HashMap;

use crate::model::{CopyEnd, Ns, ProcAddr, StackCopy, Tid};
use crate::target::monotonic_now;

use super::subject::{Activity, Doing, InPoll, Subject};

/// Between two listings of the threads.
const LISTING: Ns = Ns(100_000_000);

/// A poll that a thread stands still in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stuck {
    pub(super) tid: Tid,
    pub(super) poll: InPoll,
    pub(super) addresses: Vec<ProcAddr>,
    /// At least for so long.
    pub(super) during: Ns,
}

/// The threads of one process.
#[derive(Debug, Default)]
pub(super) struct Still {
    threads: HashMap<Tid, Thread>,
    listed: Option<Ns>,
    /// The process was frozen at the last look.
    frozen: bool,
}

#[derive(Debug, Default)]
struct Thread {
    /// How often it had got on a CPU when it was looked at last.
    arrivals: Option<u64>,
    standing: Option<Standing>,
}

/// A thread that was seen to wait, and has not got on a CPU since.
#[derive(Debug)]
struct Standing {
    since: Ns,
    /// The poll it is in and its calls; `None` where it is in none.
    within: Option<(InPoll, Vec<ProcAddr>)>,
    said: bool,
}

impl Still {
    /// Looks at each thread; gives the polls in which one has stood still for so long, each once.
    pub(super) fn look(&mut self, subject: &mut Subject, stack: usize, least: Ns) -> Vec<Stuck> {
        let now = monotonic_now();
        if self.listed.is_none_or(|listed| now.since(listed) >= LISTING) {
            self.listed = Some(now);
            let there = subject.process.thread_ids();
            self.threads.retain(|tid, _| there.contains(tid));
            for tid in there {
                self.threads.entry(tid).or_default();
            }
        }
        // What would be said of a thread is that it waits: those of a frozen process do not, wherever they seem to. Whoever stood before
        // begins anew after it.
        let may_be_said = |thread: &Thread| thread.standing.as_ref().is_some_and(|standing| standing.within.is_some());
        if self.frozen || self.threads.values().any(may_be_said) {
            self.frozen = subject.process.is_frozen();
        }
        if self.frozen {
            self.threads.values_mut().for_each(|thread| thread.standing = None);
            return Vec::new();
        }
        let mut found = Vec::new();
        for (tid, thread) in &mut self.threads {
            let arrivals = subject.process.arrivals(*tid);
            if arrivals.is_none() || thread.arrivals != arrivals {
                *thread = Thread { arrivals, standing: None };
                continue;
            }
            let standing = match &mut thread.standing {
                Some(standing) => standing,
                none => match seen(subject, *tid, stack, arrivals) {
                    Some(standing) => none.insert(standing),
                    None => continue,
                },
            };
            let during = now.since(standing.since);
            let Some((poll, addresses)) = standing.within.as_ref().filter(|_| !standing.said && during >= least) else {
                continue;
            };
            standing.said = true;
            found.push(Stuck { tid: *tid, poll: poll.clone(), addresses: addresses.clone(), during });
        }
        found.sort_by_key(|stuck| stuck.tid);
        found
    }
}

/// The thread as it waits; `None` where it does not, or did not all the while that it was looked at.
fn seen(subject: &mut Subject, tid: Tid, most: usize, arrivals: Option<u64>) -> Option<Standing> {
    let place = subject.process.standing(tid)?;
    let since = monotonic_now();
    let mut bytes = vec![0; most];
    let length = subject.process.memory().read(place.sp, &mut bytes).unwrap_or(0);
    bytes.truncate(length);
    let end = if length < most { CopyEnd::Unreadable } else { CopyEnd::Bound };
    let stack = StackCopy { from: place.sp, bytes, end };
    // What other registers hold is kept in the kernel, which does not tell.
    let Activity { of, addresses } = subject.of_standing(place, &stack);
    if subject.process.arrivals(tid) != arrivals {
        return None;
    }
    let within = match of {
        Doing::In(poll) => Some((poll, addresses)),
        Doing::Outside | Doing::Unknown(_) => None,
    };
    Some(Standing { since, within, said: false })
}
