//! Which copy of the runtime each type belongs to: ids are unique in one copy only, and each image that holds one counts apart.
//!
//! Does not know: who was born.

use super::Born;
use crate::model::{Catalog, ProcAddr, TargetId, TaskId};

/// The types of all targets, each with the image that holds it.
#[derive(Debug, Default)]
pub(super) struct Copies(Catalog);

impl Copies {
    pub(super) fn of(catalog: &Catalog) -> Self {
        Self(catalog.clone())
    }

    /// The task of this type with this id; `None` for a type that is not in the catalog.
    pub(super) fn born(&self, target: TargetId, vtable: ProcAddr, task: TaskId) -> Option<Born> {
        let (mapped, _) = self.0.target(target)?.holder_of(vtable)?;
        Some(Born { target, image: mapped.image.first_point, task })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{
        AttachPoint, Bias, ImageEntry, MappedImage, Pid, Resource, Role, TargetEntry, TypeEntry, VirtAddr,
    };

    /// One target, with an image for each of these: how many points come before it, and its types.
    pub(in crate::session::spawns) fn copies(images: &[(usize, &[u64])]) -> Copies {
        let mut catalog = Catalog::default();
        let mut target = TargetEntry::new(Pid(7), "app".into());
        for (points, vtables) in images {
            let types = vtables.iter().map(|at| TypeEntry::sample(VirtAddr(*at), Resource::Task, false)).collect();
            catalog.add_image(ImageEntry {
                points: vec![AttachPoint::sample(Role::Spawn); *points],
                ..ImageEntry::sample(Vec::new())
            });
            let image = catalog.add_image(ImageEntry::sample(types));
            target.images.push(MappedImage { image, path: "/app".into(), bias: Bias(0) });
        }
        catalog.begin(target);
        Copies::of(&catalog)
    }

    #[test]
    fn the_same_id_of_two_copies_is_two_tasks_and_an_unknown_type_is_none() {
        let copies = copies(&[(1, &[1, 3]), (1, &[2])]);
        let born = |vtable| copies.born(TargetId(0), ProcAddr(vtable), TaskId(7));
        assert_ne!(born(1), born(2));
        assert!(born(1).is_some() && born(1) == born(3));
        assert_eq!((born(4), copies.born(TargetId(1), ProcAddr(1), TaskId(7))), (None, None));
    }
}
