//! The panics of async bodies that are polled after their end, and the places that they are called with.
//!
//! Does not know: whose bodies they are.

use std::collections::HashSet;
use std::ops::Range;

use crate::model::VirtAddr;
use crate::runtime::printing::printing;
use crate::symbols::{Call, Image, Location, SymbolIndex};

/// The panics themselves are this long at most; what is longer only has their text, too.
const LONGEST_PANIC: u64 = 256;

/// What the two panics are called, and what they print.
const RETURNED: (&str, &[u8]) = ("panic_const_async_fn_resumed", b"`async fn` resumed after completion");
const PANICKED: (&str, &[u8]) = ("panic_const_async_fn_resumed_panic", b"`async fn` resumed after panicking");

/// Where the two panics are.
#[derive(Debug, Default)]
pub(super) struct Panics {
    pub(super) returned: HashSet<VirtAddr>,
    pub(super) panicked: HashSet<VirtAddr>,
}

impl Panics {
    pub(super) fn find(image: &Image<'_>, symbols: &SymbolIndex<'_>) -> Self {
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

    pub(super) fn is_one(&self, function: VirtAddr) -> bool {
        self.returned.contains(&function) || self.panicked.contains(&function)
    }
}

/// The places that a panic is called with, and whether there may be others.
pub(super) fn told<'d>(image: &Image<'d>, call: &Call) -> (Vec<Location<'d>>, bool) {
    let places: Vec<_> = call.arguments.iter().filter_map(|at| Location::read(image, *at)).collect();
    let is_blurred = call.is_unsure || places.len() < call.arguments.len();
    (places, is_blurred)
}
