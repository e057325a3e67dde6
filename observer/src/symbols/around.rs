//! Which functions the code at a place is of, by debug information: the one that stands there, and those that the compiler put into it,
//! each by its name with types.
//!
//! Does not know: what a name means, lines. What cannot be read names nothing.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::Debug;
use super::located::{Extent, Located};
use super::subprograms::{MOST_PIECES, Search};
use crate::model::VirtAddr;

/// Most functions that are remembered for all places together.
const MOST: usize = 1 << 18;
/// So often an entry that only refers to another is followed: from what was put in to what it is of, to where that is declared.
const FURTHEST: usize = 3;

/// The functions that code at some places is of.
#[derive(Debug, Default)]
pub struct Around {
    /// Equal names are one text.
    names: HashMap<VirtAddr, Vec<Rc<str>>>,
    /// Those of whose functions one could not be named.
    partial: HashSet<VirtAddr>,
    /// Not all was read: of no place it is known which functions are there.
    cut_short: bool,
}

impl Around {
    /// The full names, with their types, of all functions that the code at a place is of, in no order; `None` where there may be more
    /// than could be read. Equal names are one text in memory.
    pub fn at(&self, place: VirtAddr) -> Option<&[Rc<str>]> {
        let is_whole = !self.cut_short && !self.partial.contains(&place);
        is_whole.then(|| self.names.get(&place).map_or(&[][..], |names| names))
    }
}

/// What may be read: functions that are remembered, and pieces of code.
struct Left {
    functions: usize,
    pieces: usize,
}

impl Debug<'_> {
    /// The functions that each of these addresses is in the code of.
    pub fn around(&self, places: &HashSet<VirtAddr>) -> Around {
        self.around_within(places, Left { functions: MOST, pieces: MOST_PIECES })
    }

    fn around_within(&self, places: &HashSet<VirtAddr>, mut left: Left) -> Around {
        let search = self.search();
        search.pieces.set(left.pieces);
        let mut sorted: Vec<u64> = places.iter().map(|at| at.0).collect();
        sorted.sort_unstable();
        // The places in the code of each entry's function.
        let mut unnamed: HashMap<usize, Vec<VirtAddr>> = HashMap::new();
        let is_whole = search.each_unit(|unit| {
            !search.covers(unit, &sorted)
                || covering(unit, &sorted, (&mut left.functions, &search.pieces), &mut unnamed).is_some()
        });
        if !is_whole {
            return Around { cut_short: true, ..Around::default() };
        }
        named(&search, unnamed)
    }
}

/// Adds the functions of a unit, those that were put into others too, that the places are in; `None` where that is not all of them.
fn covering(
    unit: &Located<'_>,
    sorted: &[u64],
    (functions, pieces): (&mut usize, &Cell<usize>),
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
        let mut extent = Extent::default();
        for specification in abbreviation.attributes() {
            extent.take(&entries.read_attribute(*specification).ok()?);
        }
        let entry = base.checked_add(offset)?;
        unit.code(&extent, pieces, |range| {
            let from = sorted.partition_point(|at| *at < range.start.0);
            for at in sorted.get(from..)?.iter().take_while(|at| **at < range.end.0) {
                *functions = functions.checked_sub(1)?;
                found.entry(entry).or_default().push(VirtAddr(*at));
            }
            Some(())
        })?;
    }
    Some(())
}

/// The names of these functions, by place.
fn named(search: &Search<'_>, mut unnamed: HashMap<usize, Vec<VirtAddr>>) -> Around {
    let mut around = Around::default();
    let mut texts: HashSet<Rc<str>> = HashSet::new();
    for _ in 0..FURTHEST {
        let mut further: HashMap<usize, Vec<VirtAddr>> = HashMap::new();
        search.each_unit(|unit| {
            search.walk_all(unit, |scopes, function| {
                let Some(places) = unnamed.remove(&function.offset) else { return };
                match (function.name, function.refers()) {
                    (Some(name), _) => match search.path(unit, scopes, name) {
                        Some(path) => {
                            let text = texts.get(path.as_str()).cloned().unwrap_or_else(|| Rc::from(path));
                            texts.insert(Rc::clone(&text));
                            places.iter().for_each(|at| around.names.entry(*at).or_default().push(Rc::clone(&text)));
                        }
                        None => around.partial.extend(places),
                    },
                    (None, true) => match function.origin(unit) {
                        Some(origin) => further.entry(origin).or_default().extend(places),
                        None => around.partial.extend(places),
                    },
                    // Code that somebody gave no name is no function of a source.
                    (None, false) => {}
                }
            });
            !unnamed.is_empty()
        });
        // Where they stand was not read, or is nowhere.
        around.partial.extend(unnamed.into_values().flatten());
        unnamed = further;
    }
    around.partial.extend(unnamed.into_values().flatten());
    around
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::{Image, own};

    fn places() -> HashSet<VirtAddr> {
        let image = own::image();
        let here = |symbol: &str| symbol.contains("6around5tests") && symbol.contains("generic");
        image.symbols().filter(|symbol| here(symbol.name)).map(|symbol| symbol.at).collect()
    }

    /// With a type, so that its name must carry it.
    #[inline(never)]
    fn generic<T: std::fmt::Debug>(of: T) -> usize {
        std::hint::black_box(format!("{of:?}").len())
    }

    #[test]
    fn code_is_of_the_function_that_stands_there_and_where_not_all_could_be_read_of_none_that_is_known() {
        assert_eq!(generic(1_u8) + generic('x'), 4);
        let image = Image::parse(own::bytes()).expect("an image");
        let (debug, places) = (Debug::of(&image).expect("debug information"), places());
        assert_eq!(places.len(), 2);
        let around = debug.around(&places);
        let path = "observer::symbols::around::tests::generic";
        let mut names: Vec<&str> =
            places.iter().flat_map(|at| around.at(*at).expect("all is read")).map(|name| &**name).collect();
        names.retain(|name| name.starts_with(path));
        names.sort_unstable();
        assert_eq!(names, [format!("{path}<char>"), format!("{path}<u8>")]);
        for left in [Left { functions: 1, pieces: MOST_PIECES }, Left { functions: MOST, pieces: 1 }] {
            let around = debug.around_within(&places, left);
            assert!(places.iter().all(|at| around.at(*at).is_none()));
        }
    }
}
