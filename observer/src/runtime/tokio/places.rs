//! Where a future's async body stands, from the `Location` that it would panic with if it were polled after its end. That
//! constant survives `strip`, because the panic prints it.
//!
//! Does not know: names. A future that is no async body itself has the place of the one it runs. A place is certain if
//! * it is the only one at the first depth of calls from poll where there is any,
//! * the body also panics with it when polled after a panic: every body that can unwind does, while the other panic is
//!   missing from one that never returns, where only a body inside it would be found. Images built with
//!   `panic = "abort"` have none, so nothing in them is certain;
//! * no other vtable has the same poll function.
//!
//! Types may share a place: a generic body stands once for all its types, and what only wraps a body has that body's.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::model::{Place, Resource, TaskType, VirtAddr};
use crate::runtime::printing::printing;
use crate::symbols::{Calls, Image, Location, SymbolIndex};

/// Calls between poll and the body.
const DEPTH: usize = 3;
/// Most functions visited for one type.
const MOST_FUNCTIONS: usize = 400;
/// The panics themselves are this long at most; what is longer only has their text, too.
const LONGEST_PANIC: u64 = 256;

/// What the two panics are called, and what they print.
const RETURNED: (&str, &[u8]) = ("panic_const_async_fn_resumed", b"`async fn` resumed after completion");
const PANICKED: (&str, &[u8]) = ("panic_const_async_fn_resumed_panic", b"`async fn` resumed after panicking");

/// One candidate for a body's place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Found {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) column: u32,
    /// Its body can be left by a panic.
    unwinds: bool,
}

/// The candidates of all types of an image.
#[derive(Debug, Default)]
pub(super) struct Places {
    types: Vec<OfType>,
}

#[derive(Debug)]
struct OfType {
    candidates: Vec<Found>,
    certain: bool,
    /// No other type of the same scheduler may have the first.
    alone: bool,
}

impl Places {
    /// Walks from the poll of every type on a scheduler; a blocking closure is no async body.
    pub(super) fn read(
        image: &Image<'_>,
        symbols: &SymbolIndex<'_>,
        calls: &mut Calls<'_, '_>,
        types: &[TaskType],
    ) -> Self {
        let panics = Panics::find(image, symbols);
        if panics.returned.is_empty() && panics.panicked.is_empty() {
            return Self::default();
        }
        let mut polls: HashMap<VirtAddr, usize> = HashMap::new();
        for task in types {
            *polls.entry(task.functions.poll).or_default() += 1;
        }
        let mut found: HashMap<VirtAddr, Vec<Found>> = HashMap::new();
        let mut users: HashMap<(VirtAddr, Found), usize> = HashMap::new();
        for task in types.iter().filter(|t| t.resource == Resource::Task) {
            let poll = task.functions.poll;
            let candidates = found.entry(poll).or_insert_with(|| panics.reached(image, calls, poll));
            for candidate in candidates.iter() {
                *users.entry((task.functions.schedule, candidate.clone())).or_default() += 1;
            }
        }
        let types = types.iter().map(|task| {
            let poll = task.functions.poll;
            let candidates = match task.resource {
                Resource::Task => found.get(&poll).cloned().unwrap_or_default(),
                Resource::Blocking => Vec::new(),
            };
            let (certain, alone) = match candidates.as_slice() {
                [only] => {
                    let users = users.get(&(task.functions.schedule, only.clone()));
                    (only.unwinds && polls.get(&poll) == Some(&1), users == Some(&1))
                }
                _ => (false, false),
            };
            OfType { candidates, certain, alone }
        });
        Self { types: types.collect() }
    }

    /// The candidates of the type at this index.
    pub(super) fn candidates(&self, at: usize) -> &[Found] {
        self.types.get(at).map(|of| of.candidates.as_slice()).unwrap_or_default()
    }

    /// The body of the type at this index, if it is certain, and no other type's of the same scheduler.
    pub(super) fn sole(&self, at: usize) -> Option<&Found> {
        self.types.get(at).filter(|of| of.certain && of.alone)?.candidates.first()
    }

    /// The place of the type at this index.
    pub(super) fn place(&self, at: usize) -> Option<Place> {
        let OfType { candidates, certain, .. } = self.types.get(at)?;
        let first = candidates.first()?;
        Some(Place { file: first.file.clone(), line: first.line, column: Some(first.column), certain: *certain })
    }
}

/// Where the two panics are.
#[derive(Debug, Default)]
struct Panics {
    returned: HashSet<VirtAddr>,
    panicked: HashSet<VirtAddr>,
}

impl Panics {
    fn find(image: &Image<'_>, symbols: &SymbolIndex<'_>) -> Self {
        let named = |name: &str| -> HashSet<VirtAddr> {
            let path = format!("core::panicking::panic_const::{name}");
            let holding = symbols.holding(name);
            holding.filter(|at| symbols.names_at(*at).any(|known| known == path)).collect()
        };
        let mut panics = Self { returned: named(RETURNED.0), panicked: named(PANICKED.0) };
        if panics.returned.is_empty() && panics.panicked.is_empty() {
            let short = |function: &Range<VirtAddr>| function.end.0 - function.start.0 <= LONGEST_PANIC;
            [panics.returned, panics.panicked] = printing(image, [RETURNED.1, PANICKED.1])
                .map(|functions| functions.into_iter().filter(short).map(|function| function.start).collect());
        }
        panics
    }

    /// The places outside the runtime and the standard library that the panics are called with, at the first depth from
    /// poll where there are any, in the order of the code.
    fn reached(&self, image: &Image<'_>, calls: &mut Calls<'_, '_>, poll: VirtAddr) -> Vec<Found> {
        for level in calls.levels(&[poll], DEPTH, MOST_FUNCTIONS) {
            let mut found: Vec<Found> = Vec::new();
            for function in level {
                for call in calls.of(function).iter() {
                    let unwinds = self.panicked.contains(&call.to);
                    if !unwinds && !self.returned.contains(&call.to) {
                        continue;
                    }
                    let places = call.arguments.iter().filter_map(|at| Location::read(image, *at));
                    for place in places.filter(|place| is_foreign(place.file)) {
                        let same =
                            |f: &&mut Found| f.line == place.line && f.column == place.column && f.file == place.file;
                        match found.iter_mut().find(same) {
                            Some(known) => known.unwinds |= unwinds,
                            None => found.push(Found {
                                file: place.file.to_owned(),
                                line: place.line,
                                column: place.column,
                                unwinds,
                            }),
                        }
                    }
                }
            }
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }
}

/// Neither the standard library's nor tokio's own source.
fn is_foreign(file: &str) -> bool {
    let standard = file.starts_with("/rustc/")
        || ["core", "alloc", "std"].iter().any(|c| {
            file.strip_prefix("library/").is_some_and(|rest| rest.starts_with(c))
                || file.contains(&format!("/library/{c}/src/"))
        });
    let runtime = file.split(['/', '\\']).zip(file.split(['/', '\\']).skip(1)).any(|(folder, inside)| {
        let version = folder.rsplit_once("tokio-").map(|(_, version)| version);
        inside == "src" && (folder == "tokio" || version.is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit())))
    });
    !standard && !runtime
}
