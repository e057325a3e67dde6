//! What a plan cannot show, in words for whoever reads them at three in the morning.
//!
//! Does not know: how the points were found.

use std::collections::{BTreeMap, HashSet};

use super::place::Refused;
use super::roles::Roles;
use crate::model::{EventSet, Missing, Role};
use crate::runtime::{IdCounter, Raises, RuntimeImage};

/// Everything missing from the wanted events.
pub(super) fn list(runtime: &RuntimeImage, wanted: EventSet, refused: &BTreeMap<Role, Vec<Refused>>) -> Vec<Missing> {
    let mut missing = Vec::new();
    let roles = Roles::for_events(wanted);
    if wanted.init {
        missing.extend(births(runtime));
        if runtime.mints.is_empty() {
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
        }
    }
    if wanted.resolve {
        missing.extend(raises(&runtime.raises));
    }
    for (&role, places) in refused {
        missing.extend(places.first().map(|first| unprobed(role, first, places.len())));
    }
    missing
}

/// Everything missing from who spawned what.
pub(super) fn of_spawns(runtime: &RuntimeImage, refused: &BTreeMap<Role, Vec<Refused>>) -> Vec<Missing> {
    let reason = match runtime.ids {
        IdCounter::At(_) => None,
        IdCounter::NotFound => Some("the place where tokio counts task ids was not found".to_owned()),
        IdCounter::Several(count) => Some(format!("{count} counters could be the one of task ids")),
    };
    let nowhere = reason.map(|reason| Missing {
        event: "spawns",
        reason: format!("{reason}: no spawn of this image can be led back to the calls that made it"),
    });
    let unprobed = refused.iter().filter_map(|(&role, places)| Some(unprobed(role, places.first()?, places.len())));
    nowhere.into_iter().chain(unprobed).collect()
}

fn births(runtime: &RuntimeImage) -> Option<Missing> {
    let born: HashSet<_> = runtime.births.iter().map(|b| b.vtable).collect();
    let unborn = runtime.types.iter().filter(|t| !born.contains(&t.vtable)).count();
    (unborn > 0).then(|| Missing {
        event: "init",
        reason: format!(
            "{unborn} of {} future types have no spawn site that was found: the init of their tasks is inferred at the \
             first poll",
            runtime.types.len()
        ),
    })
}

fn raises(raises: &Raises) -> Option<Missing> {
    let reason = match raises {
        Raises::At(_) | Raises::Aborts => return None,
        Raises::Elsewhere(library) => {
            format!(
                "panics begin in {library}, which is not watched: a task that panicked is not told from one that returned"
            )
        }
        Raises::NotFound => {
            "the place where panics begin to unwind was not found: a task that panicked is not told from \
                             one that returned"
                .to_owned()
        }
    };
    Some(Missing { event: "outcome", reason })
}

/// Points of one role that cannot be attached.
fn unprobed(role: Role, first: &Refused, count: usize) -> Missing {
    let (event, what) = match role {
        Role::Mint => ("init", "counting of task ids"),
        Role::Birth => ("init", "spawn sites"),
        Role::Spawn => ("spawns", "places where task ids are taken"),
        Role::Poll => ("before", "poll functions"),
        Role::Shutdown => ("resolve", "shutdown functions"),
        Role::DropJoinHandle => ("destroy", "join handle functions"),
        Role::DropAbortHandle => ("destroy", "abort handle functions"),
        Role::Dealloc => ("destroy", "dealloc functions"),
        Role::Raise => ("outcome", "beginnings of panics"),
    };
    let Refused { at, reason } = first;
    Missing { event, reason: format!("{count} {what} cannot be probed, the first at {at}: {reason}") }
}
