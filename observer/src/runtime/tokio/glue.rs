//! The future type from the drop glue of a task's cell, whose legacy symbols carry it where poll's does not.
//!
//! Does not know: v0 symbols and DWARF, which tell more. Equal glue of different types is merged. What becomes of the names then depends on
//! what LLVM makes of the function before. One that other units refer to stays, as another name of what is left: `.llvm.` at its end tells
//! it. One that is its unit's own goes, and the name that is left may be that of a type which nobody uses. So a name counts as one type's
//! own only if it is of the former kind, no other type's vtable reaches the glue, and no other type's name stands on it. That of two equal
//! pieces in one unit, called by the same functions of the runtime, others refer to both or to neither is taken for granted.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::names::{BLOCKING_TASK, FutureType};
use super::places::Places;
use crate::model::{Resource, TaskType, VirtAddr};
use crate::symbols::{Calls, Path, SymbolIndex, TypeText};

/// Calls between a vtable's function and the glue that names it.
const DEPTH: usize = 2;
/// Calls that are followed to learn whether other vtables reach the same glue: further, to be sure.
const SHARING_DEPTH: usize = 4;
/// Calls between poll and the body: the thunk, the harness, the core.
const BODY_DEPTH: usize = 3;
/// Most functions visited for one type.
const MOST_FUNCTIONS: usize = 400;

/// The glue of all types of an image.
pub(super) struct Glue<'t> {
    types: &'t [TaskType],
    places: &'t Places,
    /// By type: glue functions in reach, the nearest first.
    reached: Vec<Vec<VirtAddr>>,
    /// By glue function: the types that its names carry, and how many vtables reach it.
    carriers: HashMap<VirtAddr, Carrier>,
}

#[derive(Default)]
struct Carrier {
    /// By normal form.
    types: Vec<(String, TypeText)>,
    /// Each type that was merged into it would have left its name.
    is_complete: bool,
    vtables: BTreeSet<usize>,
}

impl Carrier {
    fn bears(&self, name: &str) -> bool {
        self.types.iter().any(|(other, _)| other == name)
    }
}

impl<'t> Glue<'t> {
    /// Walks from every vtable's functions. Poll is no root: it runs the future, which may spawn and drop other tasks.
    pub(super) fn read(
        symbols: &SymbolIndex<'_>,
        calls: &mut Calls<'_, '_>,
        places: &'t Places,
        types: &'t [TaskType],
    ) -> Self {
        let mut carriers: HashMap<VirtAddr, Carrier> = HashMap::new();
        let mut names: HashMap<VirtAddr, bool> = HashMap::new();
        let mut reached = Vec::with_capacity(types.len());
        for (at, task) in types.iter().enumerate() {
            let functions = &task.functions;
            let roots = [
                functions.dealloc,
                functions.shutdown,
                functions.drop_join_handle_slow,
                functions.drop_abort_handle,
                functions.try_read_output,
            ];
            let mut near = Vec::new();
            for (level, found) in calls.levels(&roots, SHARING_DEPTH, MOST_FUNCTIONS).iter().enumerate() {
                for &function in found {
                    let carries = *names.entry(function).or_insert_with(|| {
                        let carrier = carried(symbols, function);
                        let any = !carrier.types.is_empty();
                        if any {
                            carriers.insert(function, carrier);
                        }
                        any
                    });
                    if carries && let Some(carrier) = carriers.get_mut(&function) {
                        carrier.vtables.insert(at);
                        if level <= DEPTH {
                            near.push(function);
                        }
                    }
                }
            }
            reached.push(near);
        }
        Self { types, places, reached, carriers }
    }

    /// Whether all vtables that reach the glue are one type's: there is one, or they are for different schedulers and run
    /// the same body, which is certain for each.
    fn is_one_type(&self, carrier: &Carrier) -> bool {
        let mut all = carrier.vtables.iter().filter_map(|at| Some((self.types.get(*at)?, self.places.sole(*at))));
        let Some((first, body)) = all.next() else { return false };
        let mut schedulers = HashSet::from([first.functions.schedule]);
        all.all(|(task, other)| {
            body.is_some()
                && body == other
                && task.layout.trailer == first.layout.trailer
                && schedulers.insert(task.functions.schedule)
        })
    }

    /// How many types reach the glue, at least: those of one scheduler are each another's.
    fn reaching(&self, carrier: &Carrier) -> usize {
        let mut by_scheduler: HashMap<VirtAddr, usize> = HashMap::new();
        for task in carrier.vtables.iter().filter_map(|at| self.types.get(*at)) {
            *by_scheduler.entry(task.functions.schedule).or_default() += 1;
        }
        by_scheduler.into_values().max().unwrap_or_default()
    }

    /// Whether this glue can be of a task with this name that other glue bears alone.
    fn agrees(&self, carrier: &Carrier, name: &str) -> bool {
        if carrier.bears(name) {
            // More names than types: one is of a type that nobody uses, which may be this one.
            return !carrier.is_complete || carrier.types.len() <= self.reaching(carrier);
        }
        // The name may be gone where several types were merged. Else it is inlined code of a field, or a contradiction.
        !carrier.is_complete && !self.is_one_type(carrier)
    }

    /// How likely the name is this task's, in percent: one task type of a scheduler can bear it, of all that share the
    /// glue that the fewest reach.
    fn odds(&self, near: &[&Carrier], text: &TypeText, task: &TaskType) -> u32 {
        let sharing = |c: &&Carrier| {
            let tasks = c.vtables.iter().filter_map(|at| self.types.get(*at));
            tasks.filter(|other| other.functions.schedule == task.functions.schedule).count()
        };
        let bearing = near.iter().filter(|c| c.types.iter().any(|(_, other)| other == text)).copied();
        bearing.map(|c| sharing(&c)).min().and_then(|n| u32::try_from(n).ok()).map_or(0, |n| 100 / n.max(1))
    }

    /// The type at this index, from its glue, else from the body that its poll calls.
    pub(super) fn future(&self, at: usize, symbols: &SymbolIndex<'_>, calls: &mut Calls<'_, '_>) -> Option<FutureType> {
        let task = self.types.get(at)?;
        let blocking = task.resource == Resource::Blocking;
        let near: Vec<&Carrier> =
            self.reached.get(at)?.iter().filter_map(|function| self.carriers.get(function)).collect();
        let own = |carrier: &&&Carrier| carrier.types.len() == 1 && self.is_one_type(carrier);
        let complete = near.iter().filter(|carrier| carrier.is_complete).find(own);
        if let Some(carrier) = complete.or_else(|| near.iter().find(own))
            && let Some((name, text)) = carrier.types.first()
        {
            let agreed = carrier.is_complete && near.iter().all(|other| self.agrees(other, name));
            return Some(FutureType::of(text, agreed && is_blocking(text) == blocking));
        }
        let bodies = called_bodies(symbols, calls, task);
        let called = |text: &TypeText| text.path().is_some_and(|path| bodies.iter().any(|b| *b == path.bare()));
        // Merged glue bears several names: likeliest is the one whose body poll calls, then the one on most pieces.
        let holding = |text: &TypeText| near.iter().filter(|c| c.types.iter().any(|(_, other)| other == text)).count();
        let shared = near.iter().flat_map(|c| c.types.iter().map(|(_, text)| text));
        let likeliest = shared
            .filter(|text| is_blocking(text) == blocking)
            .max_by_key(|text| (called(text), holding(text), self.odds(&near, text, task)));
        // A name that is more likely another's is none at all.
        let chosen = likeliest.filter(|text| called(text) || self.odds(&near, text, task) >= EVEN);
        let chosen = chosen.map(|text| FutureType::of(text, false));
        match (chosen, bodies.as_slice()) {
            (Some(chosen), _) => Some(chosen),
            (None, [body]) => Some(FutureType { text: body.clone().into(), alone: false }),
            (None, _) => None,
        }
    }
}

/// One of two.
const EVEN: u32 = 50;

fn is_blocking(text: &TypeText) -> bool {
    text.path().is_some_and(|p| p.is(&BLOCKING_TASK))
}

/// What LLVM puts at the end of a name that other units refer to.
pub(super) const PROMOTED: &str = ".llvm.";

/// The types of the tasks whose glue the symbols at this address say it is.
fn carried(symbols: &SymbolIndex<'_>, function: VirtAddr) -> Carrier {
    // Demangling everything in reach would cost far more than looking for the word first.
    let glue = symbols.mangled_at(function).filter(|name| name.contains("drop_in_place") && name.contains("task"));
    let mut carrier = Carrier { is_complete: true, ..Carrier::default() };
    for mangled in glue {
        if let Some(text) = crate::symbols::demangle(mangled).and_then(|name| cell_type(&name)) {
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

/// The bodies outside the runtime and the standard library that poll calls, at the first depth where there are any.
fn called_bodies(symbols: &SymbolIndex<'_>, calls: &mut Calls<'_, '_>, task: &TaskType) -> Vec<Path> {
    for level in calls.levels(&[task.functions.poll], BODY_DEPTH, MOST_FUNCTIONS) {
        let mut bodies: Vec<Path> = Vec::new();
        for function in level {
            let named = symbols.mangled_at(function).filter(|name| name.contains("closure") || name.starts_with("_R"));
            for name in named.filter_map(crate::symbols::demangle) {
                let body =
                    TypeText::parse(&name).and_then(|text| text.path().filter(|p| is_foreign_body(p)).map(Path::bare));
                bodies.extend(body.filter(|body| !bodies.contains(body)));
            }
        }
        if !bodies.is_empty() {
            return bodies;
        }
    }
    Vec::new()
}

fn is_foreign_body(path: &Path) -> bool {
    let ours = path.root().is_some_and(|root| ["core", "alloc", "std", "tokio"].contains(&root));
    path.body().is_some() && !ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TypeEntry;

    /// Types of one scheduler.
    fn types(count: u64) -> Vec<TaskType> {
        (0..count).map(|n| TypeEntry::sample(VirtAddr(0x9000 + n), Resource::Task, false).task).collect()
    }

    fn carrier(names: &[&str], is_complete: bool, vtables: &[usize]) -> Carrier {
        let types = names.iter().map(|name| ((*name).to_owned(), TypeText::parse(name).expect("a type"))).collect();
        Carrier { types, is_complete, vtables: vtables.iter().copied().collect() }
    }

    fn glue<'t>(types: &'t [TaskType], places: &'t Places) -> Glue<'t> {
        Glue { types, places, reached: Vec::new(), carriers: HashMap::new() }
    }

    #[test]
    fn glue_of_more_names_than_types_may_be_of_one_that_nobody_uses_and_with_as_many_it_is_not() {
        let (types, places) = (types(2), Places::default());
        let glue = glue(&types, &places);
        assert!(!glue.agrees(&carrier(&["a::first", "a::second"], true, &[0]), "a::first"));
        assert!(glue.agrees(&carrier(&["a::first", "a::second"], true, &[0, 1]), "a::first"));
    }

    #[test]
    fn another_s_name_alone_contradicts_unless_the_own_one_may_have_been_merged_away() {
        let (types, places) = (types(2), Places::default());
        let glue = glue(&types, &places);
        assert!(!glue.agrees(&carrier(&["a::first"], false, &[0]), "a::second"));
        assert!(glue.agrees(&carrier(&["a::first"], false, &[0, 1]), "a::second"));
        assert!(!glue.agrees(&carrier(&["a::first"], true, &[0, 1]), "a::second"));
    }
}
