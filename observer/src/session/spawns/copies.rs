//! Which copy of the runtime each type belongs to: ids are unique in one copy only, and each image that holds one counts apart.
//!
//! Does not know: who was born.

use std::collections::HashMap;

use super::Born;
use crate::model::{Catalog, ProcAddr, TargetEntry, TaskId};

/// By target: the image of each vtable, as an index into the target's images.
#[derive(Debug, Default)]
pub(super) struct Copies(Vec<HashMap<ProcAddr, usize>>);

impl Copies {
    pub(super) fn of(catalog: &Catalog) -> Self {
        Self(catalog.targets.iter().map(of_target).collect())
    }

    /// The task of this type with this id; `None` for a type that is not in the catalog.
    pub(super) fn born(&self, target: u16, vtable: ProcAddr, task: TaskId) -> Option<Born> {
        let image = *self.0.get(usize::from(target))?.get(&vtable)?;
        Some(Born { target, image, task })
    }
}

fn of_target(target: &TargetEntry) -> HashMap<ProcAddr, usize> {
    let image_of = |at: ProcAddr, id: &crate::model::TypeId| {
        // The same file may be there twice: then it is the bias that tells.
        target.images.iter().position(|image| image.build_id == id.build_id && image.bias.to_process(id.vtable) == at)
    };
    target.types.iter().filter_map(|(at, entry)| Some((*at, image_of(*at, &entry.id)?))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One target, whose types at these addresses are of these images.
    pub(in crate::session::spawns) fn copies(types: &[(ProcAddr, usize)]) -> Copies {
        Copies(vec![types.iter().copied().collect()])
    }

    #[test]
    fn the_same_id_of_two_copies_is_two_tasks_and_an_unknown_type_is_none() {
        let copies = copies(&[(ProcAddr(1), 0), (ProcAddr(2), 1), (ProcAddr(3), 0)]);
        let born = |vtable| copies.born(0, ProcAddr(vtable), TaskId(7));
        assert_ne!(born(1), born(2));
        assert!(born(1).is_some() && born(1) == born(3));
        assert_eq!((born(4), copies.born(1, ProcAddr(1), TaskId(7))), (None, None));
    }
}
