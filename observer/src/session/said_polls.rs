//! Which polls are said one by one, where that changes while a stream runs.
//!
//! A poll is said whole or not at all: whose `before` was said has its `after` said, and the others have neither. Does not know
//! what becomes of those that are not said.

use crate::model::{AsyncId, Event, EventKind, Pid, Tid};

/// A poll whose beginning was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    id: AsyncId,
    pid: Option<Pid>,
    tid: Option<Tid>,
}

/// The polls that are said.
#[derive(Debug)]
pub(super) struct SaidPolls {
    each: bool,
    /// The latest last; no more than threads are amid.
    open: Vec<Open>,
}

impl SaidPolls {
    /// Each is said, for the time being.
    pub(super) fn new() -> Self {
        Self { each: true, open: Vec::new() }
    }

    /// Whether those that begin from now on are said.
    pub(super) fn say_each(&mut self, each: bool) {
        self.each = each;
    }

    /// Whether this event is to be said: all that is of no poll is.
    pub(super) fn take(&mut self, event: &Event) -> bool {
        match event.kind {
            EventKind::Before(id) => {
                if self.each {
                    self.open.push(Open { id, pid: event.pid, tid: event.tid });
                }
                self.each
            }
            EventKind::After(id) => {
                // Where an end was concluded no thread was seen ending it.
                let is_it = |open: &Open| open.id == id && (event.tid.is_none() || open.tid == event.tid);
                let begun = self.open.iter().rposition(is_it);
                begun.inspect(|at| _ = self.open.remove(*at)).is_some()
            }
            EventKind::Init { .. } | EventKind::Resolve(..) | EventKind::Destroy(_) | EventKind::Lost { .. } => true,
        }
    }

    /// A thread has ended.
    pub(super) fn thread_ended(&mut self, tid: Tid) {
        self.open.retain(|open| open.tid != Some(tid));
    }

    /// A process has ended, or runs another program.
    pub(super) fn process_ended(&mut self, pid: Pid) {
        self.open.retain(|open| open.pid != Some(pid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ns;

    fn take(polls: &mut SaidPolls, tid: Option<u32>, kind: EventKind) -> bool {
        polls.take(&Event { at: Ns(1), pid: Some(Pid(7)), tid: tid.map(Tid), root: None, inferred: false, kind })
    }

    #[test]
    fn a_poll_is_said_whole_or_not_at_all_whatever_changes_meanwhile() {
        let (before, after) = (EventKind::Before(AsyncId(1)), EventKind::After(AsyncId(1)));
        let mut polls = SaidPolls::new();
        assert!(take(&mut polls, Some(8), before.clone()));
        polls.say_each(false);
        assert!(!take(&mut polls, Some(9), before.clone()), "another thread's, later");
        assert!(!take(&mut polls, Some(9), after.clone()));
        polls.say_each(true);
        assert!(take(&mut polls, Some(8), after.clone()));
        assert!(!take(&mut polls, Some(8), after.clone()), "its beginning was not said");
        assert!(take(&mut polls, Some(8), EventKind::Destroy(AsyncId(1))));
    }

    #[test]
    fn an_end_that_was_concluded_is_of_whichever_thread() {
        let mut polls = SaidPolls::new();
        take(&mut polls, Some(8), EventKind::Before(AsyncId(1)));
        assert!(take(&mut polls, None, EventKind::After(AsyncId(1))));
        take(&mut polls, Some(8), EventKind::Before(AsyncId(2)));
        polls.thread_ended(Tid(8));
        assert!(!take(&mut polls, None, EventKind::After(AsyncId(2))), "nothing is open any more");
    }
}
