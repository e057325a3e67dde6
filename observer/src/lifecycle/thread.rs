//! One thread's open calls: pairs `after` with its `before`, and tells what the thread is running.
//!
//! Calls are ordered by the stack pointer at their entry, not by address of what they work on. The stack grows down:
//! | seen | stack | then |
//! |---|---|---|
//! | entry at frame f | a call at a frame <= f is open | that call has ended unseen |
//! | return from frame f | calls below f are open | those have ended unseen |
//! | return from frame f | no call at f with that role | its entry was not seen: nothing is said |
//! | return from frame f | the call at f is another task's | that call has ended unseen, and the entry was not seen |
//!
//! So a lost record costs what it told, and the next one puts the stack right again.

use crate::model::{AsyncId, Frame, ProcAddr, Role, TaskState};

/// One call of a vtable function that began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) id: AsyncId,
    pub(super) role: Role,
    pub(super) frame: Frame,
    /// The task's header at entry.
    pub(super) header: ProcAddr,
    /// The task's number of this call, see `Task::enter`.
    pub(super) serial: u32,
    /// The state word at entry.
    pub(super) entered: TaskState,
}

/// A span on its stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) span: Span,
    worker: bool,
    raised: u32,
    /// It began before calls went out of sight: it may be over.
    stale: bool,
}

impl Open {
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }
}

/// The open calls of one thread, outermost first.
#[derive(Clone, Debug, Default)]
pub(super) struct Thread {
    open: Vec<Open>,
    /// Panics that began in the call that was popped last.
    raised: u32,
    /// What it was running at the attach, by the census. Holds until the thread begins another poll of a task.
    attached_in: Option<AsyncId>,
    /// A poll was seen here, or the census placed one: what the thread runs is known from then on.
    known: bool,
    /// The census found it inside a task, in a poll that was not seen to begin and may be over by now.
    doubtful: bool,
}

impl Thread {
    /// A call begins. Gives the calls that have ended unseen.
    pub(super) fn push(&mut self, span: Span, worker: bool) -> Vec<Span> {
        let ended = self.cut(|open| open.span.frame <= span.frame);
        if span.role == Role::Poll {
            self.attached_in = None;
            self.known = true;
        }
        self.open.push(Open { span, worker, raised: 0, stale: false });
        ended
    }

    /// Whether the innermost call is this very one.
    pub(super) fn is_in(&self, id: AsyncId, role: Role, frame: Frame) -> bool {
        self.open.last().is_some_and(|Open { span, .. }| span.id == id && span.role == role && span.frame == frame)
    }

    /// A call returns. Gives the calls that have ended unseen, and the call itself if its entry was seen.
    pub(super) fn pop(&mut self, role: Role, frame: Frame, header: Option<ProcAddr>) -> (Vec<Span>, Option<Open>) {
        let another = |span: &Span| span.role != role || header.is_some_and(|header| header != span.header);
        let ended = self.cut(|open| open.span.frame < frame || (open.span.frame == frame && another(&open.span)));
        let returns = self.open.last().is_some_and(|open| open.span.frame == frame);
        let left = if returns { self.open.pop() } else { None };
        self.raised = left.map_or(0, |open| open.raised);
        (ended, left)
    }

    /// A panic begins in the innermost call.
    pub(super) fn raised(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.raised += 1;
        }
    }

    /// Whether a panic began in the call that was popped last.
    pub(super) fn take_raised(&mut self) -> bool {
        std::mem::take(&mut self.raised) > 0
    }

    /// The census found this thread inside a task.
    pub(super) fn attached_in(&mut self, id: AsyncId) {
        if self.open.is_empty() {
            self.attached_in = Some(id);
            self.known = true;
        }
    }

    /// Calls go out of sight, or come back into it: what is open may be over, and something else may have begun.
    pub(super) fn lose_sight(&mut self) {
        (self.attached_in, self.known, self.doubtful) = (None, false, false);
        self.open.iter_mut().for_each(|open| open.stale = true);
    }

    /// The census found this thread inside a task, in a poll whose beginning or end it may have missed.
    pub(super) fn may_be_in_a_task(&mut self) {
        self.doubtful = true;
    }

    /// Whether it may be in a poll that was not seen to begin. Once it is known what it runs, this says nothing.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Whether what the thread runs is known.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// The innermost task being polled here, `Some(None)` for none: a runtime's worker is none. `None` where the only one that may
    /// be it may be over as well.
    pub(super) fn innermost(&self) -> Option<Option<AsyncId>> {
        match self.open.iter().rev().find(|open| open.span.role == Role::Poll) {
            Some(Open { worker: true, .. }) => Some(None),
            Some(Open { stale: true, .. }) => None,
            Some(open) => Some(Some(open.span.id)),
            None => Some(self.attached_in),
        }
    }

    fn cut(&mut self, over: impl Fn(&Open) -> bool) -> Vec<Span> {
        let mut ended = Vec::new();
        while self.open.last().is_some_and(&over) {
            ended.extend(self.open.pop().map(|open| open.span));
        }
        ended
    }
}
