//! Which functions others may have been merged into, by what is left of their names.
//!
//! Does not know: what the functions are.

use crate::model::VirtAddr;
use crate::symbols::SymbolIndex;

/// What LLVM puts at the end of a name that other units refer to.
pub(super) const PROMOTED: &str = ".llvm.";

/// The only name of a function, mangled, if a function that was merged into it would have left its own beside: one that others refer to.
pub(super) fn unmerged_name<'d>(symbols: &SymbolIndex<'d>, function: VirtAddr) -> Option<&'d str> {
    let mut names = symbols.mangled_at(function);
    let only = names.next().filter(|name| name.contains(PROMOTED))?;
    names.next().is_none().then_some(only)
}
