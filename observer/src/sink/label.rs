//! What a resource or a future type is called to people.
//!
//! Does not know: what is said of it.

use crate::model::{Naming, Place, Resource, ResourceFacts, TypeEntry, TypeId};

use super::Spelling;

/// A resource, as it is named to people.
pub(super) fn label(facts: &ResourceFacts, spelling: Spelling) -> String {
    type_label(spelling, facts.resource, &facts.future, facts.place.as_ref(), facts.type_id.as_ref())
}

/// A future type, as it is named to people.
pub fn future_label(entry: &TypeEntry, spelling: Spelling) -> String {
    type_label(spelling, entry.task.resource, &entry.task.future, entry.task.place.as_ref(), Some(&entry.id))
}

/// Whether a question mark stands in what such a thing is called.
pub(super) fn is_marked(future: &Naming, place: Option<&Place>) -> bool {
    matches!(future, Naming::Uncertain(_)) || place.is_some_and(|place| !place.certain)
}

/// Type, name and place as far as known, in one phrase. A question mark stands behind what is not certain.
pub(super) fn type_label(
    spelling: Spelling,
    resource: Resource,
    future: &Naming,
    place: Option<&Place>,
    id: Option<&TypeId>,
) -> String {
    let mut label = resource.as_str().to_owned();
    match future {
        Naming::Certain(name) => label.push_str(&format!(" {}", spelling.of(name))),
        Naming::Uncertain(name) => label.push_str(&format!(" {}?", spelling.of(name))),
        Naming::Unknown(_) if place.is_none() => match id {
            Some(id) => label.push_str(&format!(" unnamed {}", id.vtable)),
            None => label.push_str(" unnamed"),
        },
        Naming::Unknown(_) => {}
    }
    if let Some(place) = place {
        label.push_str(&format!(" ({place}{})", if place.certain { "" } else { "?" }));
    }
    label
}
