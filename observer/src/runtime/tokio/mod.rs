//! Tokio, as a compiled image shows it without any symbol.
//!
//! Does not know: how a panic begins (that is the standard library's, see `panics`), what a probe costs.

mod births;
mod glue;
mod mints;
mod names;
mod places;
mod versions;
mod vtables;
mod worker;

pub use names::name_types;

use super::{Found, RuntimeImage, panics};
use crate::symbols::Image;

/// Looks for tokio's task vtables, and for its version where there are none.
pub(super) fn analyse(image: &Image<'_>) -> Found {
    let versions = versions::named(image);
    let vtables = vtables::find(image);
    if vtables.is_empty() {
        return versions::too_old(&versions);
    }
    let version = versions::supported(&versions);
    let unstable = vtables::all_record_spawn_locations(image, &vtables);
    let row = versions::layout(version.as_ref());
    let mut types: Vec<_> = vtables.iter().map(|v| v.task_type(row, unstable)).collect();
    worker::mark(image, &mut types);
    let births = births::find(image, &types);
    let mints = mints::find(image);
    Found::Runtime(RuntimeImage { version, unstable, types, births, mints, raises: panics::raises(image) })
}
