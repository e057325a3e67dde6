//! One resource's state between its init and its destroy.

use crate::model::{AsyncId, Ns, ProcAddr, Role, TaskId, TaskState};

use super::resources::Moment;

/// What is known of one live resource. There may be a million of them: so two words are not options, and counts are short.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// Its type.
    pub(super) vtable: ProcAddr,
    /// Tokio's id, if it is `identified`.
    task_id: TaskId,
    /// Its header, if it is `placed`.
    header: ProcAddr,
    /// When the resource was last seen, by a record or a census.
    pub(super) seen_at: Ns,
    /// How many ids before its own that of its root is.
    from_root: u32,
    known: Flags,
    /// Resolve was said.
    pub(super) resolved: bool,
    /// Its memory is freed; destroy is said when no poll is open.
    pub(super) gone: bool,
    /// Its memory could not be read when a call ended: it may be gone, or its page was away for a moment.
    pub(super) doubtful: bool,
    /// Polls that began and did not end, on whatever thread.
    open_polls: u16,
    /// Number of the latest call that can complete it, modulo 2^32: a poll or shutdown that found it not complete.
    serial: u32,
    /// How many of those are open.
    completing: u8,
    /// How many of those are shutdowns.
    shutting_down: u8,
}

/// What is known of a task, yes or no, a bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Flags(u8);

impl Flags {
    const IDENTIFIED: u8 = 1;
    const PLACED: u8 = 2;
    /// Its state word was seen with the cancelled bit, which may have been set before it was complete; or a sight was missed
    /// that would have shown it.
    const CANCEL_SEEN: u8 = 4;
    /// Its state word was seen complete and without the cancelled bit: what is asked of it later comes too late.
    const ENDED_UNASKED: u8 = 8;
    /// A shutdown and another call that can complete it are or were open at once, and one of them still is.
    const CONTESTED: u8 = 16;

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
    }

    /// Once it is set it stays.
    fn add(&mut self, flag: u8, on: bool) {
        self.set(flag, on || self.has(flag));
    }
}

impl Task {
    pub(super) fn born(moment: Moment, vtable: ProcAddr, task_id: Option<TaskId>) -> Self {
        let mut known = Flags::default();
        known.set(Flags::IDENTIFIED, task_id.is_some());
        Self {
            vtable,
            task_id: task_id.unwrap_or(TaskId(0)),
            header: ProcAddr(0),
            seen_at: moment.at,
            from_root: 0,
            known,
            resolved: false,
            gone: false,
            doubtful: false,
            open_polls: 0,
            serial: 0,
            completing: 0,
            shutting_down: 0,
        }
    }

    pub(super) fn met(moment: Moment, vtable: ProcAddr, task_id: TaskId) -> Self {
        Self::born(moment, vtable, Some(task_id))
    }

    /// Tokio's id; `None` where only the birth was seen, without its mint.
    pub(super) fn task_id(&self) -> Option<TaskId> {
        self.known.has(Flags::IDENTIFIED).then_some(self.task_id)
    }

    /// Its id is known from now on.
    pub(super) fn identify(&mut self, id: TaskId) {
        self.task_id = id;
        self.known.set(Flags::IDENTIFIED, true);
    }

    /// Its root is this one; its own id is that. Too far apart, which takes four thousand million tasks, it is its own.
    pub(super) fn descends(&mut self, root: AsyncId, own: AsyncId) {
        self.from_root = own.0.checked_sub(root.0).and_then(|distance| u32::try_from(distance).ok()).unwrap_or(0);
    }

    /// Its root, where its own id is that.
    pub(super) fn root(&self, own: AsyncId) -> AsyncId {
        AsyncId(own.0.saturating_sub(self.from_root.into()))
    }

    /// Its header, once it was seen.
    pub(super) fn header(&self) -> Option<ProcAddr> {
        self.known.has(Flags::PLACED).then_some(self.header)
    }

    /// It was seen at this header.
    pub(super) fn place(&mut self, header: ProcAddr) {
        self.header = header;
        self.known.set(Flags::PLACED, true);
    }

    /// Takes in a state word that was seen. A shutdown sets the cancelled bit on a complete task too, and no bit of the two
    /// is ever cleared: complete without cancelled proves that nobody asked in time.
    pub(super) fn notice(&mut self, state: TaskState) {
        self.known.add(Flags::ENDED_UNASKED, state.is_complete() && !state.is_cancelled());
        self.known.add(Flags::CANCEL_SEEN, state.is_cancelled());
    }

    /// Its state word was not seen where it could have been.
    pub(super) fn miss_a_sight(&mut self) {
        self.known.set(Flags::CANCEL_SEEN, true);
    }

    /// Whether an abort or a shutdown was seen that may have come in time.
    pub(super) fn may_be_cancelled(&self) -> bool {
        self.known.has(Flags::CANCEL_SEEN) && !self.known.has(Flags::ENDED_UNASKED)
    }

    /// Counts a call that begins and numbers it. Only a poll or shutdown that finds the task not complete can complete
    /// it, so only such a call takes the number over from an earlier one.
    pub(super) fn enter(&mut self, role: Role, state: TaskState) -> u32 {
        if role == Role::Poll {
            self.open_polls = self.open_polls.saturating_add(1);
        }
        if can_complete(role, state) {
            self.serial = self.serial.wrapping_add(1);
            self.shutting_down = self.shutting_down.saturating_add(u8::from(role == Role::Shutdown));
            self.known.add(Flags::CONTESTED, self.completing > 0 && self.shutting_down > 0);
            self.completing = self.completing.saturating_add(1);
        }
        self.serial
    }

    /// Counts a call that ended.
    pub(super) fn leave(&mut self, role: Role, entered: TaskState) {
        if role == Role::Poll {
            self.open_polls = self.open_polls.saturating_sub(1);
        }
        if can_complete(role, entered) {
            self.completing = self.completing.saturating_sub(1);
            self.shutting_down = self.shutting_down.saturating_sub(u8::from(role == Role::Shutdown));
            self.known.set(Flags::CONTESTED, self.is_contested() && self.completing > 0);
        }
    }

    /// Whether a shutdown and another call race, or raced while this one was open, to complete the task.
    pub(super) fn is_contested(&self) -> bool {
        self.known.has(Flags::CONTESTED)
    }

    /// Whether the call with this number, which just ended, can be what completed the task: a later one that is still
    /// open is the likelier, for a task is polled again only when its last poll left it idle.
    pub(super) fn may_be_completed_by(&self, serial: u32) -> bool {
        self.serial == serial || self.completing == 0
    }

    /// Whether these words are this task's.
    pub(super) fn is_at(&self, vtable: ProcAddr, id: TaskId) -> bool {
        self.vtable == vtable && self.task_id() == Some(id)
    }

    /// Freed, and no call is open that has still something to say of it: time for its last event.
    pub(super) fn is_done(&self) -> bool {
        self.gone && self.open_polls == 0 && self.completing == 0
    }

    /// Nothing is open that could still say how it ended, and nothing has said it.
    pub(super) fn missed_its_end(&self) -> bool {
        !self.resolved && self.completing == 0
    }

    /// Forgets its open polls: their returns were lost.
    pub(super) fn close_polls(&mut self) -> u16 {
        self.completing = 0;
        std::mem::take(&mut self.open_polls)
    }
}

/// A poll or shutdown gets to run or cancel the future if it finds the task idle. What was read at its entry may have
/// changed before it looks for itself: who was running then may be idle now. Complete stays complete.
fn can_complete(role: Role, entered: TaskState) -> bool {
    matches!(role, Role::Poll | Role::Shutdown) && !entered.is_complete()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_task_is_six_words() {
        assert_eq!(size_of::<Task>(), 48);
    }
}
