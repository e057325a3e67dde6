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

use std::sync::Arc;

use crate::model::{AsyncId, Frame, Place, ProcAddr, Role, TaskState};

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

/// Where the panics of a call were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Panicked {
    /// None has begun.
    #[default]
    Nowhere,
    /// All of them there.
    At(Arc<Place>),
    /// At several places, or one is not known: which of them leaves the call is not seen, as one may be caught while another goes on.
    Unknown,
}

impl Panicked {
    /// One more begins.
    fn and(&mut self, at: Option<Arc<Place>>) {
        *self = match (std::mem::take(self), at) {
            (Self::Nowhere, Some(at)) => Self::At(at),
            (Self::At(before), Some(at)) if before == at => Self::At(at),
            _ => Self::Unknown,
        };
    }

    fn place(self) -> Option<Arc<Place>> {
        match self {
            Self::At(place) => Some(place),
            Self::Nowhere | Self::Unknown => None,
        }
    }
}

/// A span on its stack.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) span: Span,
    worker: bool,
    raised: u32,
    panicked_at: Panicked,
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
    /// Where the panic is that was told to the hook and has not begun to unwind.
    hooked: Option<Arc<Place>>,
    /// Panics that began in the call that was popped last.
    raised: u32,
    /// Where all of them were.
    panicked_at: Option<Arc<Place>>,
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
        self.open.push(Open { span, worker, raised: 0, panicked_at: Panicked::Nowhere, stale: false });
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
        let mut left = if returns { self.open.pop() } else { None };
        self.raised = left.as_ref().map_or(0, |open| open.raised);
        self.panicked_at = left.as_mut().and_then(|open| std::mem::take(&mut open.panicked_at).place());
        (ended, left)
    }

    /// Panics may have been told to the hook, and have begun, unseen.
    pub(super) fn forget_panics(&mut self) {
        self.hooked = None;
        self.open.iter_mut().for_each(|open| open.panicked_at = Panicked::Unknown);
    }

    /// A panic is told to the hook, with its place where that can be read.
    pub(super) fn hooked(&mut self, at: Option<Arc<Place>>) {
        self.hooked = at;
    }

    /// A panic begins in the innermost call. One that was not told to the hook goes on where it was caught before: its place is
    /// not known.
    pub(super) fn raised(&mut self) {
        let at = self.hooked.take();
        if let Some(open) = self.open.last_mut() {
            open.raised += 1;
            open.panicked_at.and(at);
        }
    }

    /// Whether a panic began in the call that was popped last, and where, if that is known of whichever left it.
    pub(super) fn take_raised(&mut self) -> (bool, Option<Arc<Place>>) {
        (std::mem::take(&mut self.raised) > 0, self.panicked_at.take())
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
        self.forget_panics();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: u32) -> Arc<Place> {
        Arc::new(Place { file: "a.rs".into(), line, column: Some(1), certain: true })
    }

    /// The line that is told of a call with panics, of those told to the hook at these lines (0: at none that is known) and of those
    /// that went on without being told.
    fn told(panics: &[Option<u32>]) -> (bool, Option<u32>) {
        let mut thread = Thread::default();
        let state = TaskState(0);
        let id = AsyncId(1);
        let span = Span { id, role: Role::Poll, frame: Frame(100), header: ProcAddr(8), serial: 1, entered: state };
        thread.push(span, false);
        for panic in panics {
            if let Some(line) = panic {
                thread.hooked((*line > 0).then(|| place(*line)));
            }
            thread.raised();
        }
        thread.pop(Role::Poll, Frame(100), Some(ProcAddr(8)));
        let (raised, at) = thread.take_raised();
        assert_eq!(thread.take_raised(), (false, None), "of one call, once");
        (raised, at.map(|place| place.line))
    }

    #[test]
    fn a_call_whose_panics_were_at_several_places_or_one_told_to_no_hook_has_none_that_is_known() {
        assert_eq!(told(&[]), (false, None));
        assert_eq!(told(&[Some(3)]), (true, Some(3)));
        assert_eq!(told(&[Some(3), Some(3)]), (true, Some(3)));
        // One was caught, and it may have been the second, while the first unwound.
        assert_eq!(told(&[Some(3), Some(7)]), (true, None));
        assert_eq!(told(&[Some(3), Some(7), Some(3)]), (true, None));
        assert_eq!(told(&[Some(3), None]), (true, None));
        assert_eq!(told(&[None, Some(3)]), (true, None));
    }

    #[test]
    fn a_place_whose_panic_may_have_gone_on_unseen_is_no_later_panic_s() {
        let mut thread = Thread::default();
        let state = TaskState(0);
        let span = Span {
            id: AsyncId(1),
            role: Role::Poll,
            frame: Frame(100),
            header: ProcAddr(8),
            serial: 1,
            entered: state,
        };
        thread.push(span, false);
        thread.hooked(Some(place(3)));
        thread.raised();
        thread.forget_panics();
        thread.hooked(Some(place(3)));
        thread.raised();
        thread.pop(Role::Poll, Frame(100), Some(ProcAddr(8)));
        assert_eq!(thread.take_raised(), (true, None));
    }
}
