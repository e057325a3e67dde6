//! The functions of async bodies outside the runtime and the standard library, by their symbols.
//!
//! Does not know: which of several bodies is a task's own.

use super::merging::unmerged_name;
use crate::model::{TaskType, VirtAddr};
use crate::symbols::{Calls, Path, SymbolIndex, TypeText, demangle};

/// Calls between poll and the body: the thunk, the harness, the core.
const BODY_DEPTH: usize = 3;
/// Most functions visited for one type.
const MOST_FUNCTIONS: usize = 400;

/// The function of an async body that nothing else is merged with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnBody {
    /// Each instance of a generic body has its own.
    pub(super) function: VirtAddr,
    pub(super) path: Path,
}

impl OwnBody {
    pub(super) fn at(symbols: &SymbolIndex<'_>, function: VirtAddr) -> Option<Self> {
        let text = TypeText::parse(&demangle(unmerged_name(symbols, function)?)?)?;
        let path = text.path().filter(|path| is_foreign_body(path))?.bare();
        Some(Self { function, path })
    }
}

/// The bodies outside the runtime and the standard library that poll calls, at the first depth where there are any.
pub(super) fn called_bodies(symbols: &SymbolIndex<'_>, calls: &mut Calls<'_, '_>, task: &TaskType) -> Vec<Path> {
    for level in calls.levels(&[task.functions.poll], BODY_DEPTH, MOST_FUNCTIONS) {
        let mut bodies: Vec<Path> = Vec::new();
        for function in level.functions {
            let named = symbols.mangled_at(function).filter(|name| name.contains("closure") || name.starts_with("_R"));
            for name in named.filter_map(demangle) {
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
