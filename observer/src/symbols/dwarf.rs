//! What debug information says of functions: their names with types, and where closure-like bodies are declared.
//!
//! Does not know: what a name means, nor debug information that lies outside the image. A unit that cannot be read tells
//! nothing; the others still do.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use gimli::{AttributeValue, Dwarf, DwarfSections, EndianSlice, LittleEndian, SectionId, Unit, UnitOffset};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection};

use super::Image;
use crate::model::VirtAddr;

/// Most bytes that one compressed section may unfold to.
const LONGEST_SECTION: u64 = 1 << 30;
/// Most bytes of debug information that one search reads.
const MOST_READ: usize = 512 << 20;
/// Deepest nesting of namespaces that is followed.
const DEEPEST: usize = 256;
/// Longest path that is built.
const LONGEST_PATH: usize = 1 << 16;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// The debug information of an image.
pub struct Debug<'d> {
    sections: DwarfSections<Cow<'d, [u8]>>,
}

/// Where a body is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// Path as the compiler was given it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// The body's symbol, mangled, where there is one.
    pub symbol: Option<String>,
}

impl<'d> Debug<'d> {
    /// Finds the sections; `None` where the image has none that name functions.
    pub fn of(image: &Image<'d>) -> Option<Self> {
        let file = ElfFile64::<object::LittleEndian>::parse(image.bytes()).ok()?;
        let load = |id: SectionId| -> Result<Cow<'d, [u8]>, std::convert::Infallible> {
            let section = file.section_by_name(id.name()).and_then(|s| s.compressed_data().ok());
            let section = section.filter(|s| s.uncompressed_size <= LONGEST_SECTION);
            Ok(section.and_then(|s| s.decompress().ok()).unwrap_or_default())
        };
        let Ok(sections) = DwarfSections::load(load);
        let debug = Self { sections };
        let any = debug.dwarf().units().next().is_ok_and(|unit| unit.is_some());
        any.then_some(debug)
    }

    /// The full names, with their types, of the functions that start at these addresses.
    pub fn functions(&self, wanted: &HashSet<VirtAddr>) -> HashMap<VirtAddr, String> {
        let dwarf = self.dwarf();
        let mut found = HashMap::new();
        let mut origins: HashMap<usize, Vec<VirtAddr>> = HashMap::new();
        each_unit(&dwarf, |unit| {
            if !covers(&dwarf, unit, wanted) {
                return true;
            }
            walk(&dwarf, unit, |scopes, function| {
                let at = function.low_pc.and_then(|low| dwarf.attr_address(unit, low).ok()?).map(VirtAddr);
                if let Some(at) = at.filter(|at| wanted.contains(at)) {
                    match function.name {
                        Some(name) => _ = found.insert(at, scopes.path(&dwarf, unit, name)),
                        None => origins.entry(function.origin(unit).unwrap_or_default()).or_default().push(at),
                    }
                }
            });
            true
        });
        if !origins.is_empty() {
            each_unit(&dwarf, |unit| {
                walk(&dwarf, unit, |scopes, function| {
                    if let (Some(waiting), Some(name)) = (origins.get(&function.offset), function.name) {
                        let path = scopes.path(&dwarf, unit, name);
                        found.extend(waiting.iter().map(|at| (*at, path.clone())));
                    }
                });
                true
            });
        }
        found.retain(|_, path| !path.is_empty());
        found
    }

    /// The declarations of the bodies (`{async_fn#0}`, `{closure#1}`...) with these paths, which are without generic
    /// arguments: all instances of a generic body stand at one place.
    pub fn bodies(&self, wanted: &HashSet<String>) -> HashMap<String, Declaration> {
        let dwarf = self.dwarf();
        let mut found: HashMap<String, Declaration> = HashMap::new();
        each_unit(&dwarf, |unit| {
            walk(&dwarf, unit, |scopes, function| {
                let Some(name) = function.name.and_then(|name| text(&dwarf, unit, name)) else { return };
                let Some((file, line)) = function.declared.filter(|_| name.starts_with('{')) else { return };
                let key = scopes.key(&dwarf, unit, name);
                if !wanted.contains(&key) || found.contains_key(&key) {
                    return;
                }
                let Some(file) = file_name(&dwarf, unit, file) else { return };
                let symbol = function.linkage.and_then(|linkage| text(&dwarf, unit, linkage)).map(str::to_owned);
                found.insert(key, Declaration { file, line, symbol });
            });
            found.len() < wanted.len()
        });
        found
    }

    fn dwarf(&self) -> Dwarf<Bytes<'_>> {
        self.sections.borrow(|section| EndianSlice::new(section, LittleEndian))
    }
}

/// Every readable unit, until `each` says to stop or enough was read.
fn each_unit<'a>(dwarf: &Dwarf<Bytes<'a>>, mut each: impl FnMut(&Unit<Bytes<'a>>) -> bool) {
    let mut units = dwarf.units();
    let mut read = 0usize;
    while let Ok(Some(header)) = units.next() {
        read = read.saturating_add(header.length_including_self());
        if read > MOST_READ {
            return;
        }
        if dwarf.unit(header).is_ok_and(|unit| !each(&unit)) {
            return;
        }
    }
}

/// Whether the unit can hold one of the addresses; one that does not say which it holds can.
fn covers(dwarf: &Dwarf<Bytes<'_>>, unit: &Unit<Bytes<'_>>, wanted: &HashSet<VirtAddr>) -> bool {
    let Ok(mut ranges) = dwarf.unit_ranges(unit) else { return true };
    let mut any = false;
    while let Ok(Some(range)) = ranges.next() {
        any = true;
        if wanted.iter().any(|at| (range.begin..range.end).contains(&at.0)) {
            return true;
        }
    }
    !any
}

/// A subprogram, as far as it was asked for.
#[derive(Default)]
struct Function<'a> {
    offset: usize,
    name: Option<AttributeValue<Bytes<'a>>>,
    linkage: Option<AttributeValue<Bytes<'a>>>,
    low_pc: Option<AttributeValue<Bytes<'a>>>,
    refers: Option<AttributeValue<Bytes<'a>>>,
    declared: Option<(u64, u32)>,
}

impl Function<'_> {
    /// The entry that names what this one only refers to.
    fn origin(&self, unit: &Unit<Bytes<'_>>) -> Option<usize> {
        match self.refers? {
            AttributeValue::UnitRef(UnitOffset(offset)) => unit.header.offset().0.checked_add(offset),
            AttributeValue::DebugInfoRef(offset) => Some(offset.0),
            _ => None,
        }
    }
}

/// The named entries around the one being read.
#[derive(Default)]
struct Scopes<'a> {
    open: Vec<(isize, AttributeValue<Bytes<'a>>)>,
}

impl<'a> Scopes<'a> {
    /// The path of an entry of this name in these scopes; empty if it cannot be read.
    fn path(&self, dwarf: &Dwarf<Bytes<'a>>, unit: &Unit<Bytes<'a>>, name: AttributeValue<Bytes<'a>>) -> String {
        let names = self.open.iter().map(|(_, name)| *name).chain([name]);
        let names: Option<Vec<&str>> = names.map(|name| text(dwarf, unit, name)).collect();
        let path = names.map(|names| names.join("::")).unwrap_or_default();
        if path.len() <= LONGEST_PATH { path } else { String::new() }
    }

    /// The same without generic arguments.
    fn key(&self, dwarf: &Dwarf<Bytes<'a>>, unit: &Unit<Bytes<'a>>, name: &str) -> String {
        let bare = |name: &str| name.split_once('<').map_or(name, |(bare, _)| bare).to_owned();
        let open = self.open.iter().map(|(_, name)| bare(text(dwarf, unit, *name).unwrap_or_default()));
        open.chain([bare(name)]).collect::<Vec<_>>().join("::")
    }
}

/// Calls `each` with every subprogram of the unit and the scopes it stands in; ends at the first unreadable entry.
fn walk<'a>(
    dwarf: &Dwarf<Bytes<'a>>,
    unit: &Unit<Bytes<'a>>,
    mut each: impl FnMut(&Scopes<'a>, &Function<'a>),
) -> Option<()> {
    let _ = dwarf;
    let mut entries = unit.entries_raw(None).ok()?;
    let base = unit.header.offset().0;
    let mut scopes = Scopes::default();
    while !entries.is_empty() {
        let depth = entries.next_depth();
        let offset = entries.next_offset().0;
        let Some(abbreviation) = entries.read_abbreviation().ok()? else { continue };
        while scopes.open.last().is_some_and(|(open, _)| *open >= depth) {
            scopes.open.pop();
        }
        let is_function = abbreviation.tag() == gimli::DW_TAG_subprogram;
        let is_scope = matches!(
            abbreviation.tag(),
            gimli::DW_TAG_namespace
                | gimli::DW_TAG_module
                | gimli::DW_TAG_structure_type
                | gimli::DW_TAG_union_type
                | gimli::DW_TAG_enumeration_type
        );
        if !is_function && !(is_scope && abbreviation.has_children()) {
            entries.skip_attributes(abbreviation.attributes()).ok()?;
            continue;
        }
        let mut function = Function { offset: base.checked_add(offset)?, ..Function::default() };
        let (mut file, mut line) = (None, None);
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification).ok()?;
            let value = attribute.value();
            match attribute.name() {
                gimli::DW_AT_name => function.name = Some(value),
                gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => function.linkage = Some(value),
                gimli::DW_AT_low_pc => function.low_pc = Some(value),
                gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => function.refers = Some(value),
                gimli::DW_AT_decl_line => line = value.udata_value(),
                gimli::DW_AT_decl_file => match value {
                    AttributeValue::FileIndex(index) => file = Some(index),
                    value => file = value.udata_value(),
                },
                _ => {}
            }
        }
        if is_function {
            function.declared = file.zip(line.and_then(|line| u32::try_from(line).ok()).filter(|line| *line > 0));
            each(&scopes, &function);
        } else if let Some(name) = function.name.filter(|_| scopes.open.len() < DEEPEST) {
            scopes.open.push((depth, name));
        }
    }
    Some(())
}

fn text<'a>(dwarf: &Dwarf<Bytes<'a>>, unit: &Unit<Bytes<'a>>, value: AttributeValue<Bytes<'a>>) -> Option<&'a str> {
    let string = dwarf.attr_string(unit, value).ok()?;
    (string.len() <= LONGEST_PATH).then(|| std::str::from_utf8(string.slice()).ok())?
}

/// The path of a file of the unit; relative to where the compiler ran if its directory is.
fn file_name<'a>(dwarf: &Dwarf<Bytes<'a>>, unit: &Unit<Bytes<'a>>, index: u64) -> Option<String> {
    let header = unit.line_program.as_ref()?.header();
    let file = header.file(index)?;
    let name = text(dwarf, unit, file.path_name())?;
    let directory = file.directory(header).and_then(|d| text(dwarf, unit, d)).unwrap_or_default();
    Some(if directory.is_empty() || name.starts_with('/') { name.to_owned() } else { format!("{directory}/{name}") })
}
