//! Where tasks are born: the instructions that take a task vtable's address to write it into a new header.
//!
//! Does not know: where the header will be.

use crate::model::TaskType;
use crate::runtime::BirthSite;
use crate::symbols::{Access, Image, Targets, references};

/// Every instruction that takes the address of one of the types' vtables, by place.
pub(super) fn find(image: &Image<'_>, types: &[TaskType]) -> Vec<BirthSite> {
    let vtables = Targets::new(types.iter().map(|t| t.vtable));
    let taken = references(image, &vtables).into_iter().filter(|r| {
        // A load would read the poll function out of the vtable: that is a call, not a birth.
        !matches!(r.access, Access::Load(_) | Access::Call | Access::Jump | Access::FetchAdd(_))
    });
    taken.map(|r| BirthSite { at: r.at, vtable: r.target, boundary: r.boundary }).collect()
}
