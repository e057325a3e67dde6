//! One piece of drop glue, and the types whose names it carries.
//!
//! Does not know: which of them are spawned.

use std::collections::BTreeSet;

use super::merging::PROMOTED;
use crate::model::VirtAddr;
use crate::symbols::{Path, SymbolIndex, TypeText, demangle};

/// A function that drops a task's cell, or a part of one.
#[derive(Default)]
pub(super) struct Carrier {
    /// By normal form.
    pub(super) types: Vec<(String, TypeText)>,
    /// Each type that was merged into it would have left its name.
    pub(super) is_complete: bool,
    pub(super) vtables: BTreeSet<usize>,
}

impl Carrier {
    pub(super) fn bears(&self, name: &str) -> bool {
        self.types.iter().any(|(other, _)| other == name)
    }

    /// The only type with this body, if all types are bodies themselves.
    pub(super) fn instance_of(&self, body: &Path) -> Option<&(String, TypeText)> {
        let are_bodies = self.types.iter().all(|(_, text)| text.path().is_some_and(|path| path.body().is_some()));
        let mut instances = self.types.iter().filter(|(_, text)| text.path().is_some_and(|path| path.bare() == *body));
        let only = instances.next().filter(|_| are_bodies)?;
        instances.next().is_none().then_some(only)
    }
}

/// The types of the tasks whose glue the symbols at this address say it is.
pub(super) fn carried(symbols: &SymbolIndex<'_>, function: VirtAddr) -> Carrier {
    // Demangling everything in reach would cost far more than looking for the word first.
    let glue = symbols.mangled_at(function).filter(|name| name.contains("drop_in_place") && name.contains("task"));
    let mut carrier = Carrier { is_complete: true, ..Carrier::default() };
    for mangled in glue {
        if let Some(text) = demangle(mangled).and_then(|name| cell_type(&name)) {
            carrier.is_complete &= mangled.contains(PROMOTED);
            if !carrier.types.iter().any(|(_, known)| *known == text) {
                carrier.types.push((text.short_future(), text));
            }
        }
    }
    carrier
}

/// `T` of `core::ptr::drop_in_place<..>` of a task's cell, its core, its stage, or a box of one.
fn cell_type(name: &str) -> Option<TypeText> {
    let text = TypeText::parse(name)?;
    let mut dropped = text.path().filter(|p| p.is(&["core", "ptr", "drop_in_place"]))?.argument(0)?.path()?;
    if dropped.is(&["alloc", "boxed", "Box"]) {
        dropped = dropped.argument(0)?.path()?;
    }
    let parts = ["Cell", "Core", "CoreStage", "Stage"];
    let known = parts.iter().any(|part| dropped.is(&["tokio", "runtime", "task", "core", part]));
    dropped.argument(0).filter(|_| known).cloned()
}
