//! The units of debug information, opened as they are needed, with the full names of their types.
//!
//! Does not know: which types are wanted, nor what is in them.

use std::collections::HashMap;
use std::rc::Rc;

use gimli::UnitOffset;

use super::located::Located;
use super::subprograms::{LONGEST, Search};
use super::type_index::Entry;

/// Deepest nesting of namespaces that is followed.
const DEEPEST: usize = 256;

/// One unit, with the scopes of its types.
pub(super) struct Opened<'a> {
    pub(super) unit: Located<'a>,
    scopes: HashMap<usize, Scope>,
}

/// A path of namespaces and types; `None` if it is longer or deeper than what is followed.
type Scope = Option<Rc<str>>;

/// All of them.
pub(super) struct Units<'s, 'a> {
    pub(super) search: &'s Search<'a>,
    opened: HashMap<usize, Option<Rc<Opened<'a>>>>,
}

impl<'s, 'a> Units<'s, 'a> {
    /// None is opened yet.
    pub(super) fn new(search: &'s Search<'a>) -> Self {
        Self { search, opened: HashMap::new() }
    }

    /// The unit of an entry, and the entry's offset there; of one that only refers to a type with a unit of its own, that unit.
    pub(super) fn open(&mut self, entry: Entry) -> Option<(Rc<Opened<'a>>, UnitOffset)> {
        let (opened, offset) = self.open_itself(entry)?;
        let own = opened.unit.entry(offset).ok().and_then(|found| found.attr_value(gimli::DW_AT_signature));
        match own.and_then(|signature| opened.unit.referred(signature)) {
            Some(elsewhere) => self.open_itself(Entry(elsewhere)),
            None => Some((opened, offset)),
        }
    }

    /// The entry of the type itself, of one that may only refer to it; as it is where it cannot be read.
    pub(super) fn itself(&mut self, entry: Entry) -> Entry {
        let found = self.open(entry).and_then(|(opened, offset)| opened.unit.base().checked_add(offset.0));
        found.map_or(entry, Entry)
    }

    fn open_itself(&mut self, entry: Entry) -> Option<(Rc<Opened<'a>>, UnitOffset)> {
        let heads = self.search.heads();
        let n = heads.partition_point(|head| head.base() <= entry.0).checked_sub(1)?;
        let head = heads.get(n)?;
        let offset = UnitOffset(entry.0.checked_sub(head.base())?);
        let opened = match self.opened.get(&n) {
            Some(opened) => opened.clone(),
            None => {
                let unit = self.search.open(head);
                let opened = unit.map(|unit| Rc::new(Opened { scopes: scopes(self.search, &unit), unit }));
                self.opened.insert(n, opened.clone());
                opened
            }
        };
        Some((opened?, offset))
    }

    /// The full name of a type.
    pub(super) fn name(&self, opened: &Opened<'a>, offset: UnitOffset) -> Option<String> {
        let name = opened.unit.entry(offset).ok()?.attr_value(gimli::DW_AT_name)?;
        let name = self.search.text(&opened.unit, name)?;
        let scope = match opened.scopes.get(&offset.0) {
            Some(scope) => scope.as_deref()?,
            None => "",
        };
        Some(format!("{scope}{name}"))
    }
}

/// The paths of namespaces and types around each type of a unit, by the type's offset.
fn scopes<'a>(search: &Search<'a>, unit: &Located<'a>) -> HashMap<usize, Scope> {
    let mut found = HashMap::new();
    // What cannot be read on from has no scopes.
    let _ = read_scopes(search, unit, &mut found);
    found
}

fn read_scopes<'a>(search: &Search<'a>, unit: &Located<'a>, found: &mut HashMap<usize, Scope>) -> Option<()> {
    let mut entries = unit.entries_raw(None).ok()?;
    let mut open: Vec<(isize, Scope)> = Vec::new();
    while !entries.is_empty() {
        let (depth, offset) = (entries.next_depth(), entries.next_offset().0);
        let Some(abbreviation) = entries.read_abbreviation().ok()? else { continue };
        while open.last().is_some_and(|(at, _)| *at >= depth) {
            open.pop();
        }
        let is_type = abbreviation.tag() == gimli::DW_TAG_structure_type;
        if !is_type && abbreviation.tag() != gimli::DW_TAG_namespace {
            entries.skip_attributes(abbreviation.attributes()).ok()?;
            continue;
        }
        let mut name = None;
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification).ok()?;
            if attribute.name() == gimli::DW_AT_name {
                name = search.text(unit, attribute.value());
            }
        }
        let around = open.last().map_or_else(|| Some(Rc::from("")), |(_, scope)| scope.clone());
        if is_type {
            found.insert(offset, around.clone());
        }
        // What is in one that is not followed is not either.
        if abbreviation.has_children()
            && let Some(name) = name
            && let Some(around) = around
        {
            open.push((depth, inner(&around, name).filter(|_| open.len() < DEEPEST)));
        }
    }
    Some(())
}

/// The path of what is in a scope of this name.
fn inner(around: &str, name: &str) -> Scope {
    let is_short = around.len().saturating_add(name.len()) <= LONGEST;
    is_short.then(|| Rc::from(format!("{around}{name}::")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_longer_than_what_is_read_is_none_rather_than_a_part_of_it() {
        assert_eq!(inner("a::", "b").as_deref(), Some("a::b::"));
        assert!(inner("", &"b".repeat(LONGEST)).is_some());
        assert_eq!(inner("a::", &"b".repeat(LONGEST)), None);
    }
}
