//! What the task's `JoinHandle` would say, from what was seen when a call ended.
//!
//! | role | at entry | at return | further evidence | outcome |
//! |---|---|---|---|---|
//! | poll, shutdown | complete | any | - | none: this call did not run the future |
//! | poll, shutdown | not complete | there, not complete | - | none: pending, or another call runs it |
//! | poll, shutdown | not complete | there, complete | a `JoinError` with a payload is stored | panicked |
//! | poll, shutdown | not complete | there, complete | a `JoinError` without is stored, cancelled bit | cancelled |
//! | poll, shutdown | not complete | there, complete | an output, not idle and cancelled at entry | ready, whatever was raised or asked for |
//! | poll, shutdown | not complete | gone, or its output was taken | a panic was raised in this call | panicked (inferred) |
//! | poll | idle, cancelled | complete or gone | - | cancelled |
//! | any | running, unseen, or contested | complete or gone | - | unknown: another call may have completed it |
//! | shutdown | idle | complete or gone | - | cancelled |
//! | poll of a closure | idle | complete or gone | - | ready: it runs once, to its end |
//! | poll of a future | idle | complete or gone | cancelled bit first seen during this call | unknown |
//! | poll of a future | idle | complete or gone | no cancelled bit ever seen, or not before complete | ready |
//!
//! From the first row that fits on. Contested is a shutdown that was open at the same time as a poll: either may have
//! won. Where panics exist and are not seen, every row below the evidence says unknown.
//!
//! What is stored is evidence only while somebody has the handle: where nobody has it, who completes the task drops what
//! it stored at once, and what another thread drops while it is read is neither one thing nor the other.
//!
//! Why "no cancelled bit ever seen" proves that nobody aborted: who aborts holds a handle, whose drop after an abort
//! always takes the slow path, which is a probed function, and its entry shows the bit.

use crate::model::{Outcome, PanicSight, Role, StageEvidence, TaskState};

/// All that is known when a call of a task's function ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) role: Role,
    /// What ends is a closure on the blocking pool.
    pub(super) closure: bool,
    /// The state word at the call's entry.
    pub(super) entered: TaskState,
    /// No later call that could complete the task is open.
    pub(super) latest: bool,
    /// A shutdown and another such call were open at once.
    pub(super) contested: bool,
    /// The state word now; `None` if the task is gone.
    pub(super) alive: Option<TaskState>,
    /// The cancelled bit was seen by now, and was not seen to come after the end.
    pub(super) cancel_seen: bool,
    /// What its stage holds.
    pub(super) evidence: Option<StageEvidence>,
    /// A panic began in this call.
    pub(super) raised: bool,
    pub(super) panics: PanicSight,
}

/// Whether the call stored an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It did not.
    Pending,
    /// It did.
    Resolved { outcome: Outcome, inferred: bool },
}

/// Applies the table.
pub(super) fn outcome(ending: &Ending) -> Verdict {
    let seen = |outcome| Verdict::Resolved { outcome, inferred: false };
    let runs = matches!(ending.role, Role::Poll | Role::Shutdown) && ending.latest;
    let finished = ending.alive.is_none_or(|state| state.is_complete());
    if !runs || ending.entered.is_complete() || !finished {
        return Verdict::Pending;
    }
    let evidence = ending.alive.filter(|state| state.has_join_interest()).and(ending.evidence);
    let idle = ending.entered.is_idle();
    let cancels = ending.role == Role::Shutdown || ending.entered.is_cancelled();
    let may_have_panicked = match ending.panics {
        PanicSight::Probed => ending.raised,
        PanicSight::Aborts => false,
        PanicSight::Unseen => true,
    };
    match evidence {
        Some(StageEvidence::PanicStored) if may_have_panicked => return seen(Outcome::Panicked),
        Some(StageEvidence::CancellationStored) if cancels || ending.cancel_seen => return seen(Outcome::Cancelled),
        // Who enters it idle and cancelled never runs it.
        Some(StageEvidence::OutputStored) if !(idle && ending.entered.is_cancelled()) => return seen(Outcome::Ready),
        _ => {}
    }
    if ending.raised {
        return Verdict::Resolved { outcome: Outcome::Panicked, inferred: true };
    }
    if may_have_panicked {
        return seen(Outcome::Unknown);
    }
    seen(match ending.role {
        _ if idle && ending.entered.is_cancelled() => Outcome::Cancelled,
        _ if !idle || ending.contested => Outcome::Unknown,
        Role::Shutdown => Outcome::Cancelled,
        _ if ending.closure => Outcome::Ready,
        _ if ending.cancel_seen => Outcome::Unknown,
        _ => Outcome::Ready,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A poll that began idle with three references and left the task complete.
    fn completed() -> Ending {
        Ending {
            role: Role::Poll,
            closure: false,
            entered: TaskState(0xcc),
            latest: true,
            contested: false,
            alive: Some(TaskState(0x4a)),
            cancel_seen: false,
            evidence: None,
            raised: false,
            panics: PanicSight::Probed,
        }
    }

    fn said(ending: Ending) -> Option<(Outcome, bool)> {
        match outcome(&ending) {
            Verdict::Pending => None,
            Verdict::Resolved { outcome, inferred } => Some((outcome, inferred)),
        }
    }

    #[test]
    fn completion_without_panic_or_abort_is_ready_with_and_without_its_memory() {
        assert_eq!(said(completed()), Some((Outcome::Ready, false)));
        assert_eq!(said(Ending { alive: None, ..completed() }), Some((Outcome::Ready, false)));
    }

    #[test]
    fn a_poll_that_begins_cancelled_cancels() {
        let cancelled = Ending { entered: TaskState(0x13c & !0x8), ..completed() };
        assert_eq!(said(Ending { entered: TaskState(0x13c), ..cancelled }), Some((Outcome::Cancelled, false)));
        assert_eq!(said(Ending { alive: None, ..cancelled }), Some((Outcome::Cancelled, false)));
    }

    #[test]
    fn shutdown_cancels_an_idle_task_and_says_nothing_of_a_complete_one() {
        let shutdown = Ending { role: Role::Shutdown, entered: TaskState(0x88), ..completed() };
        assert_eq!(said(shutdown), Some((Outcome::Cancelled, false)));
        assert_eq!(said(Ending { entered: TaskState(0x8a), ..shutdown }), None);
    }

    #[test]
    fn a_shutdown_that_raced_a_poll_is_believed_only_by_what_is_stored() {
        let shutdown = Ending { role: Role::Shutdown, entered: TaskState(0x88), contested: true, ..completed() };
        assert_eq!(said(shutdown), Some((Outcome::Unknown, false)));
        assert_eq!(said(Ending { entered: TaskState(0x89), ..shutdown }), Some((Outcome::Unknown, false)));
        let cancelled = Some(StageEvidence::CancellationStored);
        let stored = Ending { alive: Some(TaskState(0x6a)), evidence: cancelled, ..shutdown };
        assert_eq!(said(stored), Some((Outcome::Cancelled, false)));
        let output = Ending { evidence: Some(StageEvidence::OutputStored), ..stored };
        assert_eq!(said(output), Some((Outcome::Ready, false)));
    }

    #[test]
    fn what_seems_to_be_stored_while_another_thread_drops_it_is_no_evidence() {
        // As read while a shutdown on another thread, which had cancelled the task, dropped what it had stored.
        let output = Some(StageEvidence::OutputStored);
        let poll = Ending { entered: TaskState(0x80), alive: Some(TaskState(0x66)), evidence: output, ..completed() };
        let raced = Ending { contested: true, cancel_seen: true, ..poll };
        assert_eq!(said(raced), Some((Outcome::Unknown, false)));
        let asked = Ending { entered: TaskState(0xa4), ..raced };
        assert_eq!(said(asked), Some((Outcome::Cancelled, false)));
        assert_eq!(said(Ending { alive: Some(TaskState(0x6a)), ..asked }), Some((Outcome::Cancelled, false)));
    }

    #[test]
    fn a_panic_caught_inside_the_future_is_ready() {
        let caught = Ending { raised: true, evidence: Some(StageEvidence::OutputStored), ..completed() };
        assert_eq!(said(caught), Some((Outcome::Ready, false)));
    }

    #[test]
    fn a_stored_panic_is_seen_and_a_freed_one_is_inferred() {
        let raised = Ending { raised: true, ..completed() };
        let stored = Ending { evidence: Some(StageEvidence::PanicStored), ..raised };
        assert_eq!(said(stored), Some((Outcome::Panicked, false)));
        assert_eq!(said(Ending { alive: None, ..raised }), Some((Outcome::Panicked, true)));
    }

    #[test]
    fn an_abort_during_the_last_poll_whose_memory_is_gone_stays_unknown() {
        assert_eq!(said(Ending { alive: None, cancel_seen: true, ..completed() }), Some((Outcome::Unknown, false)));
    }

    #[test]
    fn a_closure_aborted_while_it_runs_is_ready_all_the_same() {
        let closure = Ending { closure: true, alive: None, cancel_seen: true, ..completed() };
        assert_eq!(said(closure), Some((Outcome::Ready, false)));
    }

    #[test]
    fn without_sight_of_panics_a_freed_task_stays_unknown() {
        let blind = Ending { alive: None, panics: PanicSight::Unseen, ..completed() };
        assert_eq!(said(blind), Some((Outcome::Unknown, false)));
    }

    #[test]
    fn an_earlier_poll_that_ends_late_resolves_nothing() {
        assert_eq!(said(Ending { latest: false, ..completed() }), None);
    }
}
