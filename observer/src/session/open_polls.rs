//! Polls that have begun and were not seen to end, by thread.
//!
//! Does not know: what is measured of those that end.

use crate::model::{AsyncId, Ns, Pid, QuickMap, Tid};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenPoll {
    pub(super) id: AsyncId,
    pub(super) root: Option<AsyncId>,
    pub(super) pid: Pid,
    pub(super) began: Ns,
    /// Its end would have been seen: nothing was lost since it began.
    sure: bool,
}

/// All of them, of each thread the innermost last.
#[derive(Debug, Default)]
pub(super) struct OpenPolls {
    by_thread: QuickMap<Tid, Vec<OpenPoll>>,
}

impl OpenPolls {
    /// A poll begins.
    pub(super) fn begins(&mut self, tid: Tid, pid: Pid, (id, root): (AsyncId, Option<AsyncId>), began: Ns) {
        self.by_thread.entry(tid).or_default().push(OpenPoll { id, root, pid, began, sure: true });
    }

    /// A poll ends. When it began, if that was seen. What had begun inside of it and was not seen to end has ended.
    pub(super) fn ends(&mut self, tid: Tid, id: AsyncId) -> Option<Ns> {
        let open = self.by_thread.get_mut(&tid)?;
        let at = open.iter().rposition(|poll| poll.id == id)?;
        let began = open[at].began;
        open.truncate(at);
        Some(began)
    }

    /// Whatever poll of it there was is over, on whichever thread.
    pub(super) fn over(&mut self, id: AsyncId) {
        self.by_thread.values_mut().for_each(|open| open.retain(|poll| poll.id != id));
    }

    /// Ends may have been missed.
    pub(super) fn missed(&mut self) {
        self.by_thread.values_mut().flatten().for_each(|poll| poll.sure = false);
    }

    pub(super) fn thread_ended(&mut self, tid: Tid) {
        self.by_thread.remove(&tid);
    }

    pub(super) fn process_ended(&mut self, pid: Pid) {
        self.by_thread.values_mut().for_each(|open| open.retain(|poll| poll.pid != pid));
    }

    /// Those that go on for certain.
    pub(super) fn sure(&self) -> impl Iterator<Item = &OpenPoll> {
        self.by_thread.values().flatten().filter(|poll| poll.sure)
    }
}
