//! What all places of one task's wakers say together.
//!
//! Does not know: how each was judged. Every waker is a reference: what is over the task's count is a copy that was left
//! behind, so that a place that is not proved by itself counts only as far as there are references for it.

use super::cells::Cells;
use super::holder::Holder;
use super::objects::Objects;
use super::queue::Form;
use crate::model::{TaskState, UnknownWaiting, Waiting};

/// Answers for one task, at most.
const MAX_ANSWERS: usize = 8;

/// A holder of one of the task's wakers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which of all that were found.
    pub found: usize,
    /// Who.
    pub holder: Holder,
    /// The task's own future holds the address of what the waker lies in.
    pub pointed_at: bool,
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No waker exists.
    Nobody,
    /// This one holds it.
    Held(Held),
    /// Nobody can be named.
    Unknown(UnknownWaiting),
}

/// How sure it is that a place holds a waker now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    /// The structure around it says so.
    Proved,
    /// An object that the task's own future points to.
    PointedAt,
    /// In its own future.
    Own,
    /// In another task's future.
    Task,
    /// Anywhere else, where nobody can tell what is in use.
    Anywhere,
}

/// What the wakers say of a task in this state, surest first. `is_known` tells whether wakers can be recognised at all,
/// `truncated` whether some were not kept.
pub fn of(state: TaskState, is_known: bool, truncated: bool, held: &[Held]) -> Vec<Answer> {
    // The list of tasks and the handle hold one each; what is left are wakers and `AbortHandle`s.
    let wakers = state.references().saturating_sub(1 + u64::from(state.has_join_interest()));
    let Ok(wakers @ 1..) = usize::try_from(wakers) else { return vec![Answer::Nobody] };
    let mut sure: Vec<(Strength, Held)> = held.iter().filter_map(|held| Some((strength(held)?, *held))).collect();
    sure.sort_by_key(|(strength, _)| *strength);
    let mut answers: Vec<Answer> = Vec::new();
    let (mut explained, mut ambiguous) = (0, false);
    for group in sure.chunk_by(|(one, _), (next, _)| one == next) {
        // Several copies in one future have one holder, whichever of them is the one that counts.
        let mut holders: Vec<Held> = Vec::new();
        for (_, held) in group {
            let known = |other: &Held| held.is_in_future() && other.holder == held.holder;
            if !holders.iter().any(known) {
                holders.push(*held);
            }
        }
        let fits = explained + holders.len() <= wakers;
        if !fits && group[0].0 != Strength::Proved {
            ambiguous = explained < wakers;
            break;
        }
        answers.extend(holders.into_iter().map(Answer::Held));
        explained += group.len();
    }
    let unknown = match answers.len() {
        _ if ambiguous => Some(UnknownWaiting::Ambiguous),
        _ if explained >= wakers => None,
        _ if truncated => Some(UnknownWaiting::TooMany),
        0 if !is_known => Some(UnknownWaiting::NoWakerKnown),
        0 if held.iter().any(|held| held.holder == Holder::Stack) => Some(UnknownWaiting::OnStack),
        0 => Some(UnknownWaiting::NoWakerFound),
        _ => Some(UnknownWaiting::MoreReferences),
    };
    answers.truncate(MAX_ANSWERS);
    answers.extend(unknown.map(Answer::Unknown));
    answers
}

fn strength(held: &Held) -> Option<Strength> {
    match held.holder {
        Holder::Join(_) | Holder::Io { .. } | Holder::Timer(_) | Holder::Queue(_) => Some(Strength::Proved),
        Holder::Object if held.pointed_at => Some(Strength::PointedAt),
        Holder::OwnFuture => Some(Strength::Own),
        Holder::HeldBy(_) => Some(Strength::Task),
        Holder::Object => Some(Strength::Anywhere),
        Holder::Stack | Holder::Left => None,
    }
}

impl Held {
    fn is_in_future(&self) -> bool {
        matches!(self.holder, Holder::OwnFuture | Holder::HeldBy(_))
    }
}

impl Answer {
    /// As the rest of the program knows it. `found` gives where the waker of a place lies, `link` what a descriptor is.
    pub fn into_waiting(
        self,
        cells: &Cells<'_>,
        objects: &Objects,
        place: impl Fn(usize) -> crate::model::ProcAddr,
        link: impl FnOnce(u32) -> Option<Box<str>>,
    ) -> Waiting {
        let held = match self {
            Self::Nobody => return Waiting::Nobody,
            Self::Unknown(reason) => return Waiting::Unknown(reason),
            Self::Held(held) => held,
        };
        match held.holder {
            Holder::Join(task) => Waiting::Join { task: cells.task(task).id },
            Holder::HeldBy(task) => Waiting::HeldBy { task: cells.task(task).id },
            Holder::Io { fd } => Waiting::Io { fd, object: fd.and_then(link) },
            Holder::Timer(timer) => Waiting::Timer { deadline: timer.deadline },
            Holder::Queue(queue) => {
                let (address, peers) = (queue.owner, objects.peers(queue.owner));
                match queue.form {
                    Form::Semaphore { lacking } => Waiting::Semaphore { address, lacking, peers },
                    Form::Notify => Waiting::Notify { address, peers },
                    Form::Other => Waiting::Queue { address, peers },
                }
            }
            Holder::OwnFuture => Waiting::OwnFuture,
            Holder::Object => match objects.begin(held.found) {
                Some(address) => Waiting::Object { address, begins: true, peers: objects.peers(address) },
                None => {
                    let address = place(held.found);
                    Waiting::Object { address, begins: false, peers: crate::model::Peers::default() }
                }
            },
            // `of` has left these out.
            Holder::Stack | Holder::Left => Waiting::Unknown(UnknownWaiting::OnStack),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// References of an idle task with its handle kept.
    fn state(references: u64) -> TaskState {
        TaskState(references << 6 | 8)
    }

    fn held(found: usize, holder: Holder) -> Held {
        Held { found, holder, pointed_at: false }
    }

    #[test]
    fn without_a_reference_for_a_waker_nobody_waits_whatever_lies_around() {
        assert_eq!(of(state(2), true, false, &[held(0, Holder::OwnFuture)]), [Answer::Nobody]);
        assert_eq!(of(TaskState(1 << 6), true, false, &[]), [Answer::Nobody]);
    }

    #[test]
    fn what_is_proved_leaves_no_room_for_copies() {
        let io = held(1, Holder::Io { fd: Some(3) });
        assert_eq!(of(state(3), true, false, &[held(0, Holder::OwnFuture), io]), [Answer::Held(io)]);
        let own = held(0, Holder::OwnFuture);
        assert_eq!(of(state(4), true, false, &[own, io]), [Answer::Held(io), Answer::Held(own)]);
    }

    #[test]
    fn more_places_than_references_name_nobody() {
        let places = [held(0, Holder::Object), held(1, Holder::Object)];
        assert_eq!(of(state(3), true, false, &places), [Answer::Unknown(UnknownWaiting::Ambiguous)]);
        let pointed = Held { pointed_at: true, ..held(2, Holder::Object) };
        let all = [&places[..], &[pointed]].concat();
        assert_eq!(of(state(3), true, false, &all), [Answer::Held(pointed)]);
        assert_eq!(
            of(state(4), true, false, &all),
            [Answer::Held(pointed), Answer::Unknown(UnknownWaiting::Ambiguous)]
        );
    }

    #[test]
    fn copies_in_one_future_have_one_holder() {
        let places = [held(0, Holder::OwnFuture), held(1, Holder::OwnFuture)];
        assert_eq!(of(state(3), true, false, &places), [Answer::Held(places[0])]);
        assert_eq!(of(state(4), true, false, &places), [Answer::Held(places[0])]);
    }

    #[test]
    fn why_nobody_is_named_is_told() {
        let reason = |is_known, truncated, held: &[Held]| of(state(3), is_known, truncated, held);
        assert_eq!(reason(true, false, &[]), [Answer::Unknown(UnknownWaiting::NoWakerFound)]);
        assert_eq!(reason(false, false, &[]), [Answer::Unknown(UnknownWaiting::NoWakerKnown)]);
        assert_eq!(reason(true, true, &[]), [Answer::Unknown(UnknownWaiting::TooMany)]);
        assert_eq!(reason(true, false, &[held(0, Holder::Stack)]), [Answer::Unknown(UnknownWaiting::OnStack)]);
        let io = held(0, Holder::Io { fd: Some(3) });
        let more = [Answer::Held(io), Answer::Unknown(UnknownWaiting::MoreReferences)];
        assert_eq!(of(state(4), true, false, &[io]), more);
    }
}
