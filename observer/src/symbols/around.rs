//! Which functions the code at a place is of, by debug information: the one that stands there, and those that the compiler put into it,
//! each by its name with types.
//!
//! Does not know: what a name means, lines. What cannot be read names nothing.

use std::collections::{HashMap, HashSet};

use gimli::AttributeValue;

use super::Debug;
use super::subprograms::{Bytes, Search};
use super::units::Located;
use crate::model::VirtAddr;

/// Most functions that are remembered for all places together.
const MOST: usize = 1 << 18;
/// So often an entry that only refers to another is followed: from what was put in to what it is of, to where that is declared.
const FURTHEST: usize = 3;

impl Debug<'_> {
    /// The full names, with their types, of all functions that each of these addresses is in the code of; in no order.
    pub fn around(&self, places: &HashSet<VirtAddr>) -> HashMap<VirtAddr, Vec<String>> {
        let search = self.search();
        let mut sorted: Vec<u64> = places.iter().map(|at| at.0).collect();
        sorted.sort_unstable();
        // The places in the code of each entry's function.
        let mut unnamed: HashMap<usize, Vec<VirtAddr>> = HashMap::new();
        let mut left = MOST;
        search.each_unit(|unit| {
            if search.covers(unit, &sorted) {
                // What cannot be read on from names nothing more.
                let _ = covering(unit, &sorted, &mut left, &mut unnamed);
            }
            true
        });
        named(&search, unnamed)
    }
}

/// Adds the functions of a unit, those that were put into others too, that the places are in.
fn covering(
    unit: &Located<'_>,
    sorted: &[u64],
    left: &mut usize,
    found: &mut HashMap<usize, Vec<VirtAddr>>,
) -> Option<()> {
    let mut entries = unit.entries_raw(None).ok()?;
    let base = unit.base();
    while !entries.is_empty() {
        let offset = entries.next_offset().0;
        let Some(abbreviation) = entries.read_abbreviation().ok()? else { continue };
        let is_function = matches!(abbreviation.tag(), gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine);
        if !is_function {
            entries.skip_attributes(abbreviation.attributes()).ok()?;
            continue;
        }
        let (mut low, mut high, mut ranges): (Option<AttributeValue<Bytes<'_>>>, _, _) = (None, None, None);
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification).ok()?;
            match attribute.name() {
                gimli::DW_AT_low_pc => low = Some(attribute.value()),
                gimli::DW_AT_high_pc => high = Some(attribute.value()),
                gimli::DW_AT_ranges => ranges = Some(attribute.value()),
                _ => {}
            }
        }
        let entry = base.checked_add(offset)?;
        for range in unit.code(low, high, ranges) {
            let from = sorted.partition_point(|at| *at < range.start.0);
            for at in sorted.get(from..)?.iter().take_while(|at| **at < range.end.0) {
                *left = left.checked_sub(1)?;
                found.entry(entry).or_default().push(VirtAddr(*at));
            }
        }
    }
    Some(())
}

/// The names of these functions, by place.
fn named(search: &Search<'_>, mut unnamed: HashMap<usize, Vec<VirtAddr>>) -> HashMap<VirtAddr, Vec<String>> {
    let mut names: HashMap<VirtAddr, Vec<String>> = HashMap::new();
    for _ in 0..FURTHEST {
        if unnamed.is_empty() {
            break;
        }
        let mut further: HashMap<usize, Vec<VirtAddr>> = HashMap::new();
        search.each_unit(|unit| {
            search.walk_all(unit, |scopes, function| {
                let Some(places) = unnamed.get(&function.offset) else { return };
                if let Some(path) = function.name.and_then(|name| search.path(unit, scopes, name)) {
                    places.iter().for_each(|at| names.entry(*at).or_default().push(path.clone()));
                } else if let Some(origin) = function.origin(unit) {
                    further.entry(origin).or_default().extend(places);
                }
            });
            true
        });
        unnamed = further;
    }
    names
}
