//! Points on instructions that the kernel must single-step: which of them a program runs into so often that nobody is given
//! them unasked, and what can still be said truly without them.
//!
//! Does not know: how a point came to sit where it does, what a hit costs in time.

use std::collections::HashSet;

use crate::model::{AttachPoint, Cost, EventSet, Missing, Role, TaskType, VirtAddr};

/// What becomes of hot points on instructions that the kernel must single-step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slow {
    /// No probe stands there, and it is said what is missing because of it.
    #[default]
    LeftOut,
    /// They are as good as any other.
    Allowed,
}

/// How often a program runs into the points of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At each poll of each task.
    EachPoll,
    /// Once in the life of each task.
    EachSpawn,
    /// Once in a life at most, and not in most.
    Seldom,
}

/// Of each role, how often it is hit, and whether it is *hot*: left out where it is slow, unless that is allowed. The release of
/// a join handle is not: without it ends would go unseen, and where it is slow all polls are.
const PACES: [(Role, Pace, bool); 10] = [
    (Role::Poll, Pace::EachPoll, true),
    (Role::Mint, Pace::EachSpawn, true),
    (Role::Birth, Pace::EachSpawn, true),
    (Role::Spawn, Pace::EachSpawn, true),
    (Role::DropJoinHandle, Pace::EachSpawn, false),
    (Role::Shutdown, Pace::Seldom, false),
    (Role::DropAbortHandle, Pace::Seldom, false),
    (Role::Dealloc, Pace::Seldom, false),
    (Role::Raise, Pace::Seldom, false),
    (Role::Hook, Pace::Seldom, false),
];

/// How often points of this role are hit.
pub fn pace(role: Role) -> Pace {
    PACES.iter().find(|(of, ..)| *of == role).map_or(Pace::Seldom, |(_, pace, _)| *pace)
}

/// Whether this point is one of those that [`Slow::LeftOut`] leaves out.
pub fn is_hot_and_slow(point: &AttachPoint) -> bool {
    point.cost == Cost::SingleStepped && PACES.iter().any(|(role, _, hot)| *role == point.role && *hot)
}

/// Takes hot and slow points out, and whatever would say something untrue without them; gives what is missing then.
///
/// | left out | goes with it | because |
/// |---|---|---|
/// | a poll | all points of the image | births would have no triggers, and tasks no ends, without it being known of which |
/// | a mint | all mints | a thread's latest id would be another task's |
/// | a birth | the other births of its type | its tasks are met at their first poll, which must be reported then |
pub(super) fn leave_out(points: &mut Vec<AttachPoint>, types: &[TaskType], wanted: EventSet) -> Vec<Missing> {
    let of = |points: &[AttachPoint], role| {
        let slow = points.iter().filter(|point| point.role == role && is_hot_and_slow(point)).count();
        (slow, points.iter().filter(|point| point.role == role).count())
    };
    let (polls, all) = of(points, Role::Poll);
    if polls > 0 {
        points.clear();
        return nothing(polls, all, wanted);
    }
    let mut missing = Vec::new();
    let (mints, all) = of(points, Role::Mint);
    if mints > 0 {
        points.retain(|point| point.role != Role::Mint);
        let reason = format!(
            "{mints} of {all} places where task ids are counted {STEPPED}: no id is known at a birth, and an init is matched to \
             its task by type and order at the first poll; {ALLOW}"
        );
        missing.push(Missing { event: Role::Mint.event(), reason });
    }
    let (births, all) = of(points, Role::Birth);
    if births > 0 {
        // A type is seen born at all of its sites or at none.
        let slow = points.iter().filter(|point| point.role == Role::Birth && is_hot_and_slow(point));
        let unseen: HashSet<VirtAddr> = slow.filter_map(|point| point.vtable).collect();
        let is_seen = |point: &AttachPoint| point.vtable.is_none_or(|vtable| !unseen.contains(&vtable));
        points.retain(|point| point.role != Role::Birth || !is_hot_and_slow(point) && is_seen(point));
        let polled = points.iter().any(|point| point.role == Role::Poll);
        let instead =
            if polled { "the init of their tasks is inferred at the first poll" } else { "their tasks are not seen" };
        let reason = format!("{births} of {all} spawn sites {STEPPED}: {instead}; {ALLOW}");
        missing.push(Missing { event: Role::Birth.event(), reason });
    }
    if !missing.is_empty() {
        report_first_polls(points, types, mints > 0);
    }
    missing
}

/// Takes hot and slow points out that tell who spawns, and says so. Each of them stands for itself: what is spawned elsewhere is told as before.
pub(super) fn leave_out_spawns(points: &mut Vec<AttachPoint>) -> Option<Missing> {
    let all = points.len();
    points.retain(|point| !is_hot_and_slow(point));
    let slow = all - points.len();
    (slow > 0).then(|| Missing {
        event: "spawns",
        reason: format!(
            "{slow} of {all} places where task ids are taken {STEPPED}: who spawns there is not told; --allow-slow plants them"
        ),
    })
}

/// Who is not seen born with an id is met at a poll: none of those may go unsaid.
fn report_first_polls(points: &mut [AttachPoint], types: &[TaskType], without_ids: bool) {
    let born: HashSet<VirtAddr> = points.iter().filter(|_| !without_ids).filter_map(|point| point.vtable).collect();
    let unborn = types.iter().filter(|task| !born.contains(&task.vtable));
    let met: HashSet<VirtAddr> = unborn.map(|task| task.functions.poll).collect();
    points.iter_mut().filter(|point| point.role == Role::Poll && met.contains(&point.at)).for_each(|p| p.telling = 0);
}

/// Without polls nothing else can be said truly.
fn nothing(polls: usize, all: usize, wanted: EventSet) -> Vec<Missing> {
    let reason = format!(
        "{polls} of {all} poll functions {STEPPED}, so none of this image's points is probed; {ALLOW} (--tier sampled, ps and \
         sweep need none)"
    );
    let EventSet { init, before, after, resolve, destroy } = wanted;
    let events = [("init", init), ("before", before), ("after", after), ("resolve", resolve), ("destroy", destroy)];
    let absent = events.into_iter().filter(|(_, wanted)| *wanted);
    absent.map(|(event, _)| Missing { event, reason: reason.clone() }).collect()
}

/// What is so of slow places.
const STEPPED: &str = "are on instructions that the kernel must single-step";
/// The next step.
const ALLOW: &str = "--allow-slow plants them, doctor --pid says at what cost";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Resource, TypeEntry};

    const POLL: VirtAddr = VirtAddr(0x900);

    /// Two types of one poll function, of which the second is born at a slow place.
    fn image() -> (Vec<AttachPoint>, Vec<TaskType>) {
        let entry = |vtable| TypeEntry::sample(VirtAddr(vtable), Resource::Task, false).task;
        let mut types = vec![entry(0x10), entry(0x20)];
        let birth = |at, vtable, cost| AttachPoint {
            at: VirtAddr(at),
            vtable: Some(VirtAddr(vtable)),
            cost,
            ..AttachPoint::sample(Role::Birth)
        };
        let mut points = vec![
            AttachPoint { at: VirtAddr(1), ..AttachPoint::sample(Role::Mint) },
            AttachPoint { at: VirtAddr(2), ..AttachPoint::sample(Role::Mint) },
            birth(3, 0x10, Cost::Emulated),
            birth(4, 0x20, Cost::SingleStepped),
        ];
        for (n, task) in (0..).zip(&mut types) {
            task.functions.poll = VirtAddr(POLL.0 + n);
            points.push(AttachPoint { at: task.functions.poll, telling: 3, ..AttachPoint::sample(Role::Poll) });
        }
        (points, types)
    }

    fn left(points: &[AttachPoint]) -> Vec<(Role, u64, u8)> {
        points.iter().map(|point| (point.role, point.at.0, point.telling)).collect()
    }

    #[test]
    fn tasks_of_a_slow_birth_are_met_at_a_poll_that_is_said() {
        let (mut points, types) = image();
        let missing = leave_out(&mut points, &types, EventSet::ALL);
        let (mint, poll) = (Role::Mint, Role::Poll);
        let expected = [(mint, 1, 0), (mint, 2, 0), (Role::Birth, 3, 0), (poll, POLL.0, 3), (poll, POLL.0 + 1, 0)];
        assert_eq!(left(&points), expected);
        let [Missing { event: "init", reason }] = &missing[..] else { panic!("one thing is missing: {missing:?}") };
        assert!(reason.starts_with("1 of 2 spawn sites") && reason.contains("first poll"), "{reason}");
        assert!(reason.contains("--allow-slow"), "the next step: {reason}");
    }

    #[test]
    fn a_type_with_a_slow_birth_is_seen_born_nowhere() {
        let (mut points, types) = image();
        let vtable = Some(VirtAddr(0x20));
        points.push(AttachPoint { at: VirtAddr(9), vtable, ..AttachPoint::sample(Role::Birth) });
        leave_out(&mut points, &types, EventSet::ALL);
        let births: Vec<_> = points.iter().filter(|point| point.role == Role::Birth).map(|point| point.at.0).collect();
        assert_eq!(births, [3], "who is born at the other place is met at a poll, as all of the type");
        assert_eq!(points.iter().find(|point| point.at.0 == POLL.0 + 1).map(|point| point.telling), Some(0));
    }

    #[test]
    fn without_polls_tasks_of_a_slow_birth_are_not_seen() {
        let (mut points, types) = image();
        points.retain(|point| point.role != Role::Poll);
        let missing = leave_out(&mut points, &types, EventSet { init: true, ..EventSet::NONE });
        assert!(missing[0].reason.contains("their tasks are not seen"), "{missing:?}");
    }

    #[test]
    fn one_slow_mint_takes_all_with_it_or_a_birth_would_be_told_another_s_id() {
        let (mut points, types) = image();
        points[0].cost = Cost::SingleStepped;
        let missing = leave_out(&mut points, &types, EventSet::ALL);
        assert!(points.iter().all(|point| point.role != Role::Mint && point.telling == 0), "{points:?}");
        let [mints, births] = &missing[..] else { panic!("two things are missing: {missing:?}") };
        assert!(mints.reason.starts_with("1 of 2 places where task ids"), "{mints:?}");
        assert!(births.reason.starts_with("1 of 2 spawn sites"), "{births:?}");
    }

    #[test]
    fn with_one_slow_poll_nothing_is_planted_and_every_wanted_event_is_missing() {
        let (mut points, types) = image();
        points[4].cost = Cost::SingleStepped;
        let missing = leave_out(&mut points, &types, EventSet { before: false, ..EventSet::ALL });
        assert_eq!(points, []);
        let events: Vec<_> = missing.iter().map(|missing| missing.event).collect();
        assert_eq!(events, ["init", "after", "resolve", "destroy"]);
        assert!(missing.iter().all(|missing| missing.reason.contains("--allow-slow")), "{missing:?}");
    }

    #[test]
    fn what_is_slow_and_seldom_stays() {
        let (mut points, types) = image();
        points.truncate(3);
        points.push(AttachPoint { cost: Cost::SingleStepped, ..AttachPoint::sample(Role::DropAbortHandle) });
        assert_eq!(leave_out(&mut points, &types, EventSet::ALL), []);
        assert_eq!(points.len(), 4);
    }

    #[test]
    fn of_the_places_that_tell_who_spawns_only_the_slow_ones_are_left_out() {
        let spawn = |at, cost| AttachPoint { at: VirtAddr(at), cost, ..AttachPoint::sample(Role::Spawn) };
        let mut points = vec![spawn(1, Cost::Emulated), spawn(2, Cost::SingleStepped), spawn(3, Cost::Emulated)];
        let missing = leave_out_spawns(&mut points).expect("it is said");
        assert_eq!(left(&points), [(Role::Spawn, 1, 0), (Role::Spawn, 3, 0)]);
        assert!(missing.reason.starts_with("1 of 3") && missing.reason.contains("--allow-slow"), "{missing:?}");
        assert_eq!(leave_out_spawns(&mut points), None);
    }

    #[test]
    fn every_role_has_a_pace() {
        let roles: HashSet<Role> = PACES.iter().map(|(role, ..)| *role).collect();
        assert_eq!(roles.len(), PACES.len(), "each once");
        assert_eq!(
            (pace(Role::Poll), pace(Role::Birth), pace(Role::Raise)),
            (Pace::EachPoll, Pace::EachSpawn, Pace::Seldom)
        );
    }
}
