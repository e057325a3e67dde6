//! The future type and the source place of each task vtable, from whatever the image still holds.
//!
//! Does not know: how to find the vtables. It never guesses: a name that may be another type's is `Uncertain`, and a type
//! that nothing names stays `Unknown`. How a type reads is `symbols::TypeText`'s; tokio's wrapper around a blocking
//! closure is left out.
//!
//! | evidence | where it is found | certain when |
//! |---|---|---|
//! | v0 symbol at `vtable.poll` | unstripped, v0 mangling | the poll function is this vtable's alone |
//! | DWARF name of `vtable.poll` | `debug = 1` and up | the same |
//! | drop glue of the cell (`glue`) | unstripped, legacy mangling | the same, and the glue bears one type's name only |
//! | body that poll calls | unstripped, fully inlined glue | never |
//! | `Location` of the async body (`places`) | everywhere, place only | see there |

use std::collections::{HashMap, HashSet};

use super::glue::Glue;
use super::places::{Found, Places};
use crate::model::{Naming, Place, Resource, TaskType, Unnamed, VirtAddr};
use crate::symbols::{Calls, Debug, Image, Path, SymbolIndex, TypeText, demangle};

/// Most instructions that are read for one image, all types together.
const MOST_INSTRUCTIONS: usize = 40_000_000;

/// What tokio wraps a blocking closure into, to have a future of it.
pub(super) const BLOCKING_TASK: [&str; 5] = ["tokio", "runtime", "blocking", "task", "BlockingTask"];

/// Fills `future` and `place` of every type with what the image tells.
pub fn name_types(image: &Image<'_>, types: &mut [TaskType]) {
    let symbols = SymbolIndex::of(image);
    let debug = Debug::of(image);
    let mut calls = Calls::new(image, MOST_INSTRUCTIONS);
    let places = Places::read(image, &symbols, &mut calls, types);
    let mut futures = polled(&symbols, debug.as_ref(), types);
    if !symbols.is_empty() && futures.iter().any(Option::is_none) {
        let glue = Glue::read(&symbols, &mut calls, &places, types);
        for (at, future) in futures.iter_mut().enumerate().filter(|(_, future)| future.is_none()) {
            *future = glue.future(at, &symbols, &mut calls);
        }
    }
    let declared = Declared::read(debug.as_ref(), &futures);
    let unnamed = match (symbols.is_empty() && debug.is_none(), calls.is_exhausted()) {
        (true, _) => Unnamed::Stripped,
        (false, true) => Unnamed::NotSearched,
        (false, false) => Unnamed::NoSymbolCarriesIt,
    };
    for (at, (task, future)) in types.iter_mut().zip(&futures).enumerate() {
        let own = declared.place(future.as_ref());
        task.place = match own {
            Some(own) => Some(with_column(own, places.candidates(at))),
            None => places.place(at),
        };
        task.future = future.as_ref().map_or(Naming::Unknown(unnamed), |f| f.naming(task.resource, &declared));
    }
}

/// A future's type and whether the evidence for it is one vtable's alone.
#[derive(Clone, Debug)]
pub(super) struct FutureType {
    pub(super) text: TypeText,
    pub(super) alone: bool,
}

impl FutureType {
    /// From the type that tokio's own generic functions have as `T`: without the wrapper of a blocking closure.
    pub(super) fn of(task: &TypeText, alone: bool) -> Self {
        let wrapper = task.path().filter(|p| p.is(&BLOCKING_TASK));
        let text = wrapper.and_then(|wrapper| wrapper.argument(0)).unwrap_or(task).clone();
        Self { text, alone }
    }

    fn naming(&self, resource: Resource, declared: &Declared) -> Naming {
        let named = declared.with_impl(&self.text);
        let text = named.as_ref().unwrap_or(&self.text);
        let text = match resource {
            Resource::Task => text.short_future(),
            Resource::Blocking => text.short(),
        };
        if self.alone { Naming::Certain(text) } else { Naming::Uncertain(text) }
    }
}

/// The types that the poll functions' own names carry: v0 symbols, completed by DWARF, which knows kinds of bodies.
fn polled(symbols: &SymbolIndex<'_>, debug: Option<&Debug<'_>>, types: &[TaskType]) -> Vec<Option<FutureType>> {
    let mut vtables: HashMap<VirtAddr, usize> = HashMap::new();
    for task in types {
        *vtables.entry(task.functions.poll).or_default() += 1;
    }
    let wanted: HashSet<VirtAddr> = vtables.keys().copied().collect();
    let described = debug.map(|debug| debug.functions(&wanted)).unwrap_or_default();
    let mut known: HashMap<VirtAddr, Option<FutureType>> = HashMap::new();
    for (&poll, &sharing) in &vtables {
        let mut named: Vec<TypeText> = symbols.names_at(poll).filter_map(|name| polled_type(&name)).collect();
        named.dedup();
        let described = described.get(&poll).and_then(|name| polled_type(name));
        let text = match (named.first(), described) {
            (Some(symbol), Some(described)) => Some(symbol.with_bodies_of(&described)),
            (Some(symbol), None) => Some(symbol.clone()),
            (None, described) => described,
        };
        let alone = sharing == 1 && named.len() <= 1;
        known.insert(poll, text.map(|text| FutureType::of(&text, alone)));
    }
    types.iter().map(|task| known.get(&task.functions.poll).cloned().flatten()).collect()
}

/// `T` of `tokio::runtime::task::raw::poll<T, S>`.
fn polled_type(name: &str) -> Option<TypeText> {
    let text = TypeText::parse(name)?;
    text.path().filter(|p| p.is(&["tokio", "runtime", "task", "raw", "poll"]))?.argument(0).cloned()
}

/// What DWARF declares of the bodies that the named types consist of.
#[derive(Debug, Default)]
struct Declared {
    bodies: HashMap<String, crate::symbols::Declaration>,
}

impl Declared {
    fn read(debug: Option<&Debug<'_>>, futures: &[Option<FutureType>]) -> Self {
        let wanted: HashSet<String> =
            futures.iter().flatten().filter_map(|f| f.text.only_body()).map(|body| body.bare().key()).collect();
        Self { bodies: debug.filter(|_| !wanted.is_empty()).map(|d| d.bodies(&wanted)).unwrap_or_default() }
    }

    fn of(&self, body: &Path) -> Option<&crate::symbols::Declaration> {
        self.bodies.get(&body.bare().key())
    }

    fn place(&self, future: Option<&FutureType>) -> Option<Place> {
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

/// DWARF does not tell a body's column; its `Location`, if it is the one of the same line, does.
fn with_column(place: Place, candidates: &[Found]) -> Place {
    let same = candidates.iter().find(|c| c.line == place.line && c.file == place.file);
    Place { column: same.map(|c| c.column).or(place.column), ..place }
}
