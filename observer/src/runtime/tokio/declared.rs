//! What debug information declares of async bodies: where they stand, and which `impl` they are in.
//!
//! Does not know: which types are spawned.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::future_type::FutureType;
use super::reached::Found;
use crate::model::{Naming, Place, Resource};
use crate::symbols::{Debug, Declaration, Path, TypeText, demangle};

/// How debug information names an `impl` block, without its number.
const NUMBERED: &str = "{impl#";

/// What DWARF declares of the bodies that the named types consist of.
#[derive(Debug, Default)]
pub(super) struct Declared {
    bodies: HashMap<String, Vec<Declaration>>,
}

impl Declared {
    pub(super) fn read(debug: Option<&Debug<'_>>, futures: &[Option<FutureType>]) -> Self {
        let wanted: HashSet<String> =
            futures.iter().flatten().filter_map(|f| f.text.only_body()).map(|body| body.bare().key()).collect();
        Self { bodies: debug.filter(|_| !wanted.is_empty()).map(|d| d.bodies(&wanted)).unwrap_or_default() }
    }

    /// All bodies of this path.
    fn of(&self, body: &Path) -> &[Declaration] {
        self.bodies.get(&body.bare().key()).map(Vec::as_slice).unwrap_or_default()
    }

    /// The place of this future's body, of which the code tells this and these `candidates`. Where bodies of several places have its
    /// path, or the code tells of a future that is a body that it stands elsewhere, only the code can tell: what has a
    /// path may be another crate's body, and a body of a macro stands where the macro is used.
    pub(super) fn place(
        &self,
        future: Option<&FutureType>,
        told: Option<Place>,
        candidates: &[Found],
    ) -> Option<Place> {
        let Some((future, body)) = future.and_then(|future| Some((future, future.text.only_body()?))) else {
            return told;
        };
        match self.of(body) {
            [] => told,
            [only] => {
                let is_body = future.text.path().is_some_and(|path| path == body);
                let elsewhere =
                    |told: &Place| is_body && told.certain && !(only.file == told.file && only.line == told.line);
                let elsewhere = told.filter(elsewhere);
                elsewhere.or_else(|| {
                    let column = candidates.iter().find(|found| is_at(only, found)).map(|found| found.column);
                    Some(Place { file: only.file.clone(), line: only.line, column, certain: future.alone })
                })
            }
            several => {
                let mut fitting = candidates.iter().filter(|found| several.iter().any(|body| is_at(body, found)));
                match (fitting.next(), fitting.next()) {
                    (Some(one), None) => Some(one.place(told.is_some_and(|told| told.certain))),
                    _ => told,
                }
            }
        }
    }

    /// The type with its `impl` named by the body's symbol, where DWARF only numbers it; not where bodies of several `impl`s have its path.
    fn with_impl(&self, text: &TypeText) -> Option<TypeText> {
        let path = text.path().filter(|path| path.numbers_an_impl())?;
        let named = |body: &Declaration| {
            let named = TypeText::parse(&demangle(body.symbol.as_deref()?)?)?;
            path.with_impl_of(&named.path()?.bare()).map(TypeText::from)
        };
        let mut names = self.of(path).iter().map(named);
        let first = names.next()??;
        names.all(|name| name.as_ref() == Some(&first)).then_some(first)
    }
}

/// Whether they stand at one place: debug information does not tell a body's column.
fn is_at(body: &Declaration, found: &Found) -> bool {
    body.line == found.line && body.file == found.file
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
