//! Live tasks led back to where they were spawned, as far as spawns were watched.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::model::{Ancestor, Beyond, Origin, ProcAddr, Site, StackId, TargetEntry, TargetId, Trigger, TypeEntry};
use crate::sink::{Spelling, future_label};
use crate::target::Process;

use super::inspect::Inspected;
use super::spawns::{Born, Spawns, Watching};

/// Ancestors that are named at most.
const ANCESTORS: usize = 16;

/// Where the live tasks of a site come from, most first; tasks whose spawn was not seen are in none of them.
pub(super) fn origins(watching: &Watching, target: &Inspected, site: Site) -> Vec<Origin> {
    let unnamed = unnamed(&watching.seen(), target, site);
    let named = |(stack, origin): (Option<StackId>, Origin)| {
        let callers = stack.map_or_else(Vec::new, |stack| watching.callers(stack));
        Origin { callers, ..origin }
    };
    unnamed.into_iter().map(named).collect()
}

/// The same with stacks in place of their calls.
fn unnamed(spawns: &Spawns, target: &Inspected, site: Site) -> Vec<(Option<StackId>, Origin)> {
    let Some(number) = number_of(spawns, &target.process) else { return Vec::new() };
    let mut groups: HashMap<Option<StackId>, Group> = HashMap::new();
    for task in target.tasks.iter().filter(|task| Site::of(task) == site && !task.state.is_complete()) {
        let Some(born) = spawns.born(number, task.vtable, task.id) else { continue };
        let Some(seen) = spawns.of_task(&born) else { continue };
        let group = groups.entry(seen.stack).or_insert(Group { example: born, tasks: 0, stuck: 0 });
        group.tasks += 1;
        group.stuck += u64::from(target.history.is_stuck(task));
    }
    let mut groups: Vec<(Option<StackId>, Group)> = groups.into_iter().collect();
    groups.sort_by_key(|(stack, group)| (Reverse(group.tasks), *stack));
    let origin = |(stack, group): (Option<StackId>, Group)| {
        let (ancestors, beyond) = ancestors(spawns, &target.entry, &group.example);
        let Group { tasks, stuck, .. } = group;
        (stack, Origin { tasks, stuck, callers: Vec::new(), ancestors, beyond })
    };
    groups.into_iter().map(origin).collect()
}

/// Which of the watched processes it is.
pub(super) fn number_of(spawns: &Spawns, process: &Process) -> Option<TargetId> {
    spawns.catalog().of_process(process.pid())
}

struct Group {
    example: Born,
    tasks: u64,
    stuck: u64,
}

fn ancestors(spawns: &Spawns, entry: &TargetEntry, born: &Born) -> (Vec<Ancestor>, Beyond) {
    let label = |entry: &TypeEntry| future_label(entry, Spelling::Compiler);
    let name = |vtable: &ProcAddr| entry.type_at(*vtable).map_or_else(|| format!("unnamed {vtable}"), label);
    let mut ancestors = Vec::new();
    for seen in spawns.chain(born).into_iter().take(ANCESTORS) {
        match &seen.trigger {
            Trigger::Task { id, vtable } => ancestors.push(Ancestor { task: Some(*id), future: name(vtable) }),
            Trigger::OfType { vtables, .. } => {
                let future = vtables.iter().map(name).collect::<Vec<_>>().join(" or ");
                ancestors.push(Ancestor { task: None, future });
                return (ancestors, Beyond::NotTold);
            }
            Trigger::NoTask => return (ancestors, Beyond::NoTask),
            Trigger::Unknown(_) => return (ancestors, Beyond::NotTold),
        }
    }
    (ancestors, Beyond::NotSeen)
}
