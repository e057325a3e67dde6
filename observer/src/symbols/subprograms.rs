//! Walks the subprograms of debug information, unit by unit, within bounds.
//!
//! Does not know: which of them are wanted. A unit ends at its first unreadable entry.

use std::cell::Cell;

use gimli::AttributeValue;

use super::located::Located;
use super::sections::Bytes;
use super::units::{Head, Heads};

/// Most bytes of debug information and most bytes of names that one search reads.
const MOST_READ: usize = 512 << 20;
const MOST_TEXT: usize = 512 << 20;
/// Most pieces of code that one search reads, those without code too.
pub(super) const MOST_PIECES: usize = 1 << 24;
/// Deepest nesting of namespaces that is followed.
const DEEPEST: usize = 256;
/// Longest name, and longest path of names, that is read.
pub(super) const LONGEST: usize = 1 << 16;

/// Where cargo unpacks dependencies, and compiles them.
const DEPENDENCIES: [&str; 2] = ["/registry/src/", "/git/checkouts/"];

/// A subprogram, as far as it was asked for.
#[derive(Default)]
pub(super) struct Function<'a> {
    pub(super) offset: usize,
    pub(super) name: Option<AttributeValue<Bytes<'a>>>,
    pub(super) linkage: Option<AttributeValue<Bytes<'a>>>,
    pub(super) low_pc: Option<AttributeValue<Bytes<'a>>>,
    pub(super) high_pc: Option<AttributeValue<Bytes<'a>>>,
    refers: Option<AttributeValue<Bytes<'a>>>,
    pub(super) declared: Option<(u64, u32)>,
    pub(super) line: Option<u32>,
}

impl Function<'_> {
    /// Whether it refers to another entry.
    pub(super) fn refers(&self) -> bool {
        self.refers.is_some()
    }

    /// The entry that names what this one only refers to.
    pub(super) fn origin(&self, unit: &Located<'_>) -> Option<usize> {
        unit.referred(self.refers?)
    }
}

/// The named entries around the one being read.
#[derive(Default)]
pub(super) struct Scopes<'a> {
    open: Vec<(isize, AttributeValue<Bytes<'a>>)>,
}

/// One pass over the debug information, with what it may still cost.
pub(super) struct Search<'a> {
    heads: Heads<'a>,
    text: Cell<usize>,
    /// Pieces of code of units and functions: each may name the longest list of them that there is.
    pub(super) pieces: Cell<usize>,
}

impl<'a> Search<'a> {
    pub(super) fn new(heads: Heads<'a>) -> Self {
        Self { heads, text: Cell::new(MOST_TEXT), pieces: Cell::new(MOST_PIECES) }
    }

    /// All units, by the numbers of their entries.
    pub(super) fn heads(&self) -> &[Head<'a>] {
        self.heads.as_slice()
    }

    /// A unit that is to be read.
    pub(super) fn open(&self, head: &Head<'a>) -> Option<Located<'a>> {
        self.heads.open(head)
    }

    /// Every readable unit, until `each` says to stop or enough was read; whether those were all units.
    pub(super) fn each_unit(&self, mut each: impl FnMut(&Located<'a>) -> bool) -> bool {
        let (mut read, mut all) = (0usize, self.heads.are_all());
        for head in self.heads() {
            read = read.saturating_add(head.length());
            if read > MOST_READ {
                return false;
            }
            match self.open(head) {
                Some(unit) if !each(&unit) => return false,
                Some(_) => {}
                None => all = false,
            }
        }
        all
    }

    /// Whether the unit can hold one of the addresses; one that does not say which it holds can, and each once enough was read.
    pub(super) fn covers(&self, unit: &Located<'a>, sorted: &[u64]) -> bool {
        let mut any = false;
        let told = unit.ranges(&self.pieces, |range| {
            any = true;
            let from = sorted.partition_point(|at| *at < range.start.0);
            let is_in = sorted.get(from).is_some_and(|at| *at < range.end.0);
            (!is_in).then_some(())
        });
        told.is_none() || !any
    }

    /// Calls `each` with every subprogram of the unit and the scopes it stands in; ends at the first unreadable entry.
    pub(super) fn walk(&self, unit: &Located<'a>, each: impl FnMut(&Scopes<'a>, &Function<'a>)) -> Option<()> {
        self.walk_those(unit, |tag| tag == gimli::DW_TAG_subprogram, each)
    }

    /// The same with those that were put into others, too, which only refer to what they are of.
    pub(super) fn walk_all(&self, unit: &Located<'a>, each: impl FnMut(&Scopes<'a>, &Function<'a>)) -> Option<()> {
        let is_one = |tag| matches!(tag, gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine);
        self.walk_those(unit, is_one, each)
    }

    fn walk_those(
        &self,
        unit: &Located<'a>,
        is_one: impl Fn(gimli::DwTag) -> bool,
        mut each: impl FnMut(&Scopes<'a>, &Function<'a>),
    ) -> Option<()> {
        let mut entries = unit.entries_raw(None).ok()?;
        let base = unit.base();
        let mut scopes = Scopes::default();
        while !entries.is_empty() {
            let depth = entries.next_depth();
            let offset = entries.next_offset().0;
            let Some(abbreviation) = entries.read_abbreviation().ok()? else { continue };
            while scopes.open.last().is_some_and(|(open, _)| *open >= depth) {
                scopes.open.pop();
            }
            let is_function = is_one(abbreviation.tag());
            if !(is_function || is_scope(abbreviation.tag()) && abbreviation.has_children()) {
                entries.skip_attributes(abbreviation.attributes()).ok()?;
                continue;
            }
            let mut function = Function { offset: base.checked_add(offset)?, ..Function::default() };
            let mut file = None;
            for specification in abbreviation.attributes() {
                let attribute = entries.read_attribute(*specification).ok()?;
                let value = attribute.value();
                match attribute.name() {
                    gimli::DW_AT_name => function.name = Some(value),
                    gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => function.linkage = Some(value),
                    gimli::DW_AT_low_pc => function.low_pc = Some(value),
                    gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => function.refers = Some(value),
                    gimli::DW_AT_high_pc => function.high_pc = Some(value),
                    gimli::DW_AT_decl_line => {
                        function.line = value.udata_value().and_then(|line| u32::try_from(line).ok());
                    }
                    gimli::DW_AT_decl_file => match value {
                        AttributeValue::FileIndex(index) => file = Some(index),
                        value => file = value.udata_value(),
                    },
                    _ => {}
                }
            }
            if is_function {
                function.declared = file.zip(function.line.filter(|line| *line > 0));
                each(&scopes, &function);
            } else if let Some(name) = function.name.filter(|_| scopes.open.len() < DEEPEST) {
                scopes.open.push((depth, name));
            }
        }
        Some(())
    }

    /// The path of an entry of this name in these scopes.
    pub(super) fn path(
        &self,
        unit: &Located<'a>,
        scopes: &Scopes<'a>,
        name: AttributeValue<Bytes<'a>>,
    ) -> Option<String> {
        let mut path = String::new();
        for (_, scope) in &scopes.open {
            path.push_str(self.text(unit, *scope)?);
            path.push_str("::");
        }
        path.push_str(self.text(unit, name)?);
        (path.len() <= LONGEST).then_some(path)
    }

    /// The same without generic arguments.
    pub(super) fn key(&self, unit: &Located<'a>, scopes: &Scopes<'a>, name: &str) -> Option<String> {
        let bare = |name: &'a str| name.split_once('<').map_or(name, |(bare, _)| bare);
        let mut key = String::new();
        for (_, scope) in &scopes.open {
            key.push_str(bare(self.text(unit, *scope)?));
            key.push_str("::");
        }
        key.push_str(name.split_once('<').map_or(name, |(bare, _)| bare));
        (key.len() <= LONGEST).then_some(key)
    }

    /// The path of a file of the unit as the compiler was given it. DWARF makes paths relative to where the compiler ran;
    /// for the own code that is how cargo gives them, for a dependency's it is not.
    pub(super) fn file_name(&self, unit: &Located<'a>, index: u64) -> Option<String> {
        let header = unit.line_program.as_ref()?.header();
        let text = |value| self.read(unit.text_of_lines(value)?);
        let file = header.file(index)?;
        let name = text(file.path_name())?;
        let directory = file.directory(header).and_then(text).unwrap_or_default();
        let ran_in = unit.comp_dir.and_then(|ran_in| std::str::from_utf8(ran_in.slice()).ok()).unwrap_or_default();
        let dependency = DEPENDENCIES.iter().any(|folder| ran_in.contains(folder));
        let parts = [if dependency { ran_in } else { "" }, directory, name];
        let absolute = parts.iter().rposition(|part| part.starts_with('/')).unwrap_or(0);
        let parts: Vec<&str> = parts.into_iter().skip(absolute).filter(|part| !part.is_empty()).collect();
        Some(parts.join("/"))
    }

    pub(super) fn text(&self, unit: &Located<'a>, value: AttributeValue<Bytes<'a>>) -> Option<&'a str> {
        self.read(unit.text(value)?)
    }

    /// The text at the beginning of these bytes.
    fn read(&self, bytes: &'a [u8]) -> Option<&'a str> {
        let bytes = bytes.get(..bytes.len().min(LONGEST))?;
        let bytes = memchr::memchr(0, bytes).and_then(|end| bytes.get(..end)).unwrap_or(bytes);
        self.text.set(self.text.get().checked_sub(bytes.len())?);
        std::str::from_utf8(bytes).ok()
    }
}

/// The entries whose names are parts of paths.
fn is_scope(tag: gimli::DwTag) -> bool {
    matches!(
        tag,
        gimli::DW_TAG_namespace
            | gimli::DW_TAG_module
            | gimli::DW_TAG_structure_type
            | gimli::DW_TAG_union_type
            | gimli::DW_TAG_enumeration_type
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use gimli::{DwarfSections, EndianSlice, LittleEndian, SectionId};

    use super::*;
    use crate::symbols::sections::Room;
    use crate::symbols::split::Split;

    #[test]
    fn a_list_of_no_code_that_units_share_is_paid_for_by_each_of_them() {
        let unit = [&12_u32.to_le_bytes()[..], &[4, 0, 0, 0, 0, 0, 8, 1, 0, 0, 0, 0]].concat();
        let list: Vec<u64> = [[0x10, 0x20]].into_iter().chain([[1, 1]; 99]).chain([[0, 0]]).flatten().collect();
        let Ok::<_, Infallible>(sections) = DwarfSections::load(|id| {
            Ok(match id {
                SectionId::DebugInfo => unit.repeat(3),
                SectionId::DebugAbbrev => vec![1, 0x11, 0, 0x55, 0x17, 0, 0, 0],
                SectionId::DebugRanges => list.iter().flat_map(|word| word.to_le_bytes()).collect(),
                _ => Vec::new(),
            })
        });
        let split = Split::read(&[], &Room::new());
        let main = sections.borrow(|section| EndianSlice::new(section, LittleEndian));
        let search = Search::new(Heads::of(main, None, &split));
        search.pieces.set(250);
        let mut covered = Vec::new();
        let is_whole = search.each_unit(|unit| {
            covered.push(search.covers(unit, &[0x20]));
            unit.ranges(&search.pieces, |_| Some(())).is_some()
        });
        assert_eq!((covered, is_whole), (vec![false, true], false), "of the second it is not known");
    }
}
