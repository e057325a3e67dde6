//! What of a plan the wanted events need, and what it cannot show of them, in words for whoever reads them at three in
//! the morning.
//!
//! Does not know: how the points were found.

use super::roles::{OF_VTABLES, Roles};
use super::slow::{Slow, leave_out, leave_out_spawns};
use crate::model::{AttachPoint, EventSet, IdPlaces, ImagePlan, Missing, PanicPlaces, Role, TaskType, Unprobed};

/// What the wanted events need of an image.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// By place, one a role and place (births: one a spawn site).
    pub points: Vec<AttachPoint>,
    /// Events that will be absent or incomplete.
    pub missing: Vec<Missing>,
}

/// Chooses the points for the wanted events. `types` are those of the image.
pub fn choose(plan: &ImagePlan, types: &[TaskType], wanted: EventSet, slow: Slow) -> Chosen {
    let roles = Roles::for_events(wanted);
    let mut points = plan.points.iter().filter(|point| roles.has(point.role)).cloned().collect();
    let mut missing = missing(plan, wanted);
    if slow == Slow::LeftOut {
        missing.extend(leave_out(&mut points, types, wanted));
    }
    Chosen { points, missing }
}

/// Chooses the points that tell who spawns: one wherever a task takes its id, and nothing else.
pub fn choose_spawns(plan: &ImagePlan, slow: Slow) -> Chosen {
    let mut points = plan.points.iter().filter(|point| point.role == Role::Spawn).cloned().collect();
    let mut missing = missing_spawns(plan);
    if slow == Slow::LeftOut {
        missing.extend(leave_out_spawns(&mut points));
    }
    Chosen { points, missing }
}

/// Whether the wanted events need the polls to be watched: without that no trigger is known.
pub fn watches_polls(wanted: EventSet) -> bool {
    Roles::for_events(wanted).has(Role::Poll)
}

/// Whether the wanted events need all to be watched that may free a task: without that nobody knows who lives.
pub fn watches_ends(wanted: EventSet) -> bool {
    let roles = Roles::for_events(wanted);
    OF_VTABLES.iter().all(|role| roles.has(*role))
}

/// Everything missing from the wanted events.
fn missing(plan: &ImagePlan, wanted: EventSet) -> Vec<Missing> {
    let mut missing = Vec::new();
    let roles = Roles::for_events(wanted);
    if wanted.init {
        missing.extend(births(plan));
        let tell = plan.points.iter().any(|point| point.role == Role::Birth && point.register.is_some());
        if plan.mints == 0 && !tell {
            missing.push(Missing {
                event: "init",
                reason:
                    "the place where tokio counts task ids was not found: an init is matched to its task by type and \
                         order at the first poll, and shows its task id from then on"
                        .to_owned(),
            });
        }
        if !roles.has(Role::Poll) {
            missing.push(Missing {
                event: "trigger",
                reason:
                    "only init is wanted, so polls are not watched and no task is known to be the one that spawns; \
                         add before, after, resolve or destroy to --events"
                        .to_owned(),
            });
            missing.extend(["resolve", "destroy"].map(|event| Missing {
                event,
                reason: "only init is wanted, so no end is watched and of who was born nobody knows whether it lives; ps tells who lives, \
                         --tier lifecycle (or destroy among --events) watches ends"
                    .to_owned(),
            }));
        }
    }
    if wanted.resolve {
        missing.extend(panics(&plan.panics));
        missing.extend(hooks(plan));
    }
    missing.extend(plan.unprobed.iter().filter(|unprobed| roles.has(unprobed.role)).map(unprobed_role));
    missing
}

/// Everything missing from who spawned what.
fn missing_spawns(plan: &ImagePlan) -> Vec<Missing> {
    let reason = match plan.ids {
        IdPlaces::Found => None,
        IdPlaces::NotFound => Some("the place where tokio counts task ids was not found".to_owned()),
        IdPlaces::Several(count) => Some(format!("{count} counters could be the one of task ids")),
    };
    let nowhere = reason.map(|reason| Missing {
        event: "spawns",
        reason: format!("{reason}: no spawn of this image can be led back to the calls that made it"),
    });
    nowhere.into_iter().chain(plan.unprobed.iter().filter(|of| of.role == Role::Spawn).map(unprobed_role)).collect()
}

fn births(plan: &ImagePlan) -> Option<Missing> {
    (plan.unborn > 0).then(|| Missing {
        event: "init",
        reason: format!(
            "{} of {} future types have no spawn site that was found: the init of their tasks is inferred at the \
             first poll",
            plan.unborn, plan.types
        ),
    })
}

fn panics(places: &PanicPlaces) -> Option<Missing> {
    let reason = match places {
        PanicPlaces::Found | PanicPlaces::Aborts => return None,
        PanicPlaces::Elsewhere(library) => {
            format!(
                "panics begin in {library}, which is not watched: a task that panicked is not told from one that returned"
            )
        }
        PanicPlaces::NotFound => {
            "the place where panics begin to unwind was not found: a task that panicked is not told from \
                             one that returned"
                .to_owned()
        }
    };
    Some(Missing { event: "outcome", reason })
}

fn hooks(plan: &ImagePlan) -> Option<Missing> {
    let known = plan.points.iter().any(|point| point.role == Role::Hook)
        || plan.unprobed.iter().any(|unprobed| unprobed.role == Role::Hook);
    (plan.panics == PanicPlaces::Found && !known).then(|| Missing {
        event: "panickedAt",
        reason: "the place where panics are told to the program's hook was not found: where a task panicked is not said; its own \
                 message is"
            .to_owned(),
    })
}

/// Points of one role that cannot be attached.
fn unprobed_role(unprobed: &Unprobed) -> Missing {
    let (event, what) = match unprobed.role {
        Role::Mint => ("init", "counting of task ids"),
        Role::Birth => ("init", "spawn sites"),
        Role::Spawn => ("spawns", "places where task ids are taken"),
        Role::Poll => ("before", "poll functions"),
        Role::Shutdown => ("resolve", "shutdown functions"),
        Role::DropJoinHandle => ("destroy", "join handle functions"),
        Role::DropAbortHandle => ("destroy", "abort handle functions"),
        Role::Dealloc => ("destroy", "dealloc functions"),
        Role::Raise => ("outcome", "beginnings of panics"),
        Role::Hook => ("panickedAt", "places where panics are told to the program's hook"),
    };
    let Unprobed { places, first, reason, .. } = unprobed;
    Missing { event, reason: format!("{places} {what} cannot be probed, the first at {first}: {reason}") }
}
