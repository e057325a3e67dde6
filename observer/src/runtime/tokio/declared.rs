//! What debug information declares of async bodies: where they stand, and which `impl` they are in.
//!
//! Does not know: which types are spawned.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::future_type::FutureType;
use crate::model::{Naming, Place, Resource};
use crate::symbols::{Debug, Declaration, Path, TypeText, demangle};

/// How debug information names an `impl` block, without its number.
const NUMBERED: &str = "{impl#";

/// What DWARF declares of the bodies that the named types consist of.
#[derive(Debug, Default)]
pub(super) struct Declared {
    bodies: HashMap<String, Declaration>,
}

impl Declared {
    pub(super) fn read(debug: Option<&Debug<'_>>, futures: &[Option<FutureType>]) -> Self {
        let wanted: HashSet<String> =
            futures.iter().flatten().filter_map(|f| f.text.only_body()).map(|body| body.bare().key()).collect();
        Self { bodies: debug.filter(|_| !wanted.is_empty()).map(|d| d.bodies(&wanted)).unwrap_or_default() }
    }

    fn of(&self, body: &Path) -> Option<&Declaration> {
        self.bodies.get(&body.bare().key())
    }

    pub(super) fn place(&self, future: Option<&FutureType>) -> Option<Place> {
        let future = future?;
        let declared = self.of(future.text.only_body()?)?;
        Some(Place { file: declared.file.clone(), line: declared.line, column: None, certain: future.alone })
    }

    /// The type with its `impl` named by the body's symbol, where DWARF only numbers it.
    fn with_impl(&self, text: &TypeText) -> Option<TypeText> {
        let path = text.path().filter(|path| path.numbers_an_impl())?;
        let symbol = demangle(self.of(path)?.symbol.as_deref()?)?;
        let named = TypeText::parse(&symbol)?;
        path.with_impl_of(&named.path()?.bare()).map(TypeText::from)
    }
}

impl FutureType {
    /// As a person writes it.
    pub(super) fn naming(&self, resource: Resource, declared: &Declared) -> Naming {
        let named = declared.with_impl(&self.text);
        let text = named.as_ref().unwrap_or(&self.text);
        let text = match resource {
            Resource::Task => text.short_future(),
            Resource::Blocking => text.short(),
        };
        if self.alone { Naming::Certain(text) } else { Naming::Uncertain(text) }
    }
}

/// The names, as a person writes them, of those among these bodies of which debug information only numbers the `impl`.
pub(super) fn with_impls<'n>(debug: &Debug<'_>, raw: impl Iterator<Item = &'n Arc<str>>) -> HashMap<Arc<str>, String> {
    let numbered = raw.filter(|raw| raw.contains(NUMBERED)).filter_map(|raw| Some((raw, TypeText::parse(raw)?)));
    let numbered: Vec<(&Arc<str>, TypeText)> = numbered.collect();
    let wanted: HashSet<String> = numbered.iter().filter_map(|(_, text)| Some(text.path()?.bare().key())).collect();
    let declared = Declared { bodies: debug.bodies(&wanted) };
    let name = |(raw, text): (&Arc<str>, TypeText)| Some((Arc::clone(raw), declared.with_impl(&text)?.short_future()));
    numbered.into_iter().filter_map(name).collect()
}
