//! One pass over debug information: which of its entries tell how futures lie in memory.
//!
//! Does not know: how a type is read.

use std::collections::{HashMap, HashSet};

use gimli::{AttributeValue, EntriesRaw, UnitOffset};

use super::located::Located;
use super::sections::Bytes;
use super::subprograms::Search;
use crate::model::VirtAddr;

/// The end of the name that a table of functions has.
const TABLE: &str = "::{vtable}";
/// What polls a future, and what its first parameter's type begins with.
const POLL: &str = "poll";
const PINNED: &str = "Pin<&mut ";
/// Most entries that are remembered.
const MOST: usize = 1 << 20;

/// An entry, by its number among those of all units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Entry(pub(super) usize);

/// The entries of interest.
#[derive(Default)]
pub(super) struct TypeIndex {
    /// The first type parameter of the wanted functions, by their addresses.
    pub(super) of_functions: HashMap<VirtAddr, Entry>,
    /// Those that may be the holder of each type, by the type.
    pub(super) holders: HashMap<Entry, Vec<Entry>>,
    /// Full names of types that a function polls.
    pub(super) polled: HashSet<String>,
    /// What may be pinned references to such types, where that is told in other units than what polls them.
    pub(super) pinned: HashSet<Entry>,
    /// What lies at a table's address: the entry that tells whose it is. Several, if types share it.
    pub(super) tables: Vec<(VirtAddr, Entry)>,
}

/// What is looked for.
pub(super) struct Wanted<'w> {
    /// Functions with a type parameter, by their addresses.
    pub(super) functions: &'w HashSet<VirtAddr>,
    /// The path of what holds such a type, without its parameters.
    pub(super) holder: &'w str,
}

/// A function whose children tell more of it.
struct Function {
    depth: isize,
    entry: Entry,
    /// Where it stands, if that is wanted.
    at: Option<VirtAddr>,
    polls: bool,
    /// Its first type parameter was met, and its first parameter.
    typed: bool,
    met: bool,
}

impl TypeIndex {
    /// Reads all units.
    pub(super) fn read(search: &Search<'_>, wanted: &Wanted<'_>) -> Self {
        let mut index = Self::default();
        let holder = wanted.holder.rsplit("::").next().unwrap_or(wanted.holder);
        let wanted = &Wanted { holder, ..*wanted };
        // Of functions that are only referred to: their first type parameter.
        let (mut generic, mut instances) = (HashMap::new(), Vec::new());
        search.each_unit(|unit| {
            // What cannot be read on from tells nothing more.
            let _ = index.read_unit(search, unit, wanted, &mut generic, &mut instances);
            true
        });
        for (at, origin) in instances {
            if let Some(of) = generic.get(&origin) {
                index.of_functions.entry(at).or_insert(*of);
            }
        }
        index
    }

    fn read_unit<'a>(
        &mut self,
        search: &Search<'a>,
        unit: &Located<'a>,
        wanted: &Wanted<'_>,
        generic: &mut HashMap<Entry, Entry>,
        instances: &mut Vec<(VirtAddr, Entry)>,
    ) -> Option<()> {
        let mut entries = unit.entries_raw(None).ok()?;
        let base = unit.base();
        let (mut function, mut holder): (Option<Function>, Option<(isize, Entry)>) = (None, None);
        while !entries.is_empty() {
            let (depth, entry) = (entries.next_depth(), Entry(base.checked_add(entries.next_offset().0)?));
            let Some(abbreviation) = entries.read_abbreviation().ok()? else { continue };
            function = function.filter(|function| function.depth < depth);
            holder = holder.filter(|(around, _)| *around < depth);
            let own = function.as_mut().filter(|function| function.depth + 1 == depth);
            match abbreviation.tag() {
                gimli::DW_TAG_subprogram => {
                    let found = attributes(&mut entries, abbreviation)?;
                    let at = found.low_pc.and_then(|low| unit.address(low));
                    let at = at.filter(|at| wanted.functions.contains(at));
                    let name = found.name.and_then(|name| search.text(unit, name));
                    let polls = name.is_some_and(|name| name.split('<').next() == Some(POLL));
                    if let (Some(at), Some(origin)) = (at, found.refers.and_then(|to| target(unit, to))) {
                        instances.push((at, origin));
                    }
                    function = Some(Function { depth, entry, at, polls, typed: false, met: false });
                }
                gimli::DW_TAG_structure_type => {
                    let found = attributes(&mut entries, abbreviation)?;
                    let name = found.name.and_then(|name| search.text(unit, name)).unwrap_or_default();
                    let is_holder = name.strip_prefix(wanted.holder).is_some_and(|rest| rest.starts_with('<'));
                    // A variant that has a unit of its own stands there in what only refers to its enumeration.
                    let may_be = found.signature.is_some() && abbreviation.has_children();
                    if is_holder || may_be {
                        holder = Some((depth, entry));
                    }
                }
                gimli::DW_TAG_template_type_parameter => {
                    let found = attributes(&mut entries, abbreviation)?;
                    let Some(of) = found.of.and_then(|to| target(unit, to)) else { continue };
                    // An enumeration's own parameters stand behind its variants', which are the same.
                    if let Some((_, holder)) = holder.take().filter(|_| self.holders.len() < MOST) {
                        self.holders.entry(of).or_default().push(holder);
                        continue;
                    }
                    let Some(own) = own.filter(|own| !own.typed) else { continue };
                    own.typed = true;
                    if let Some(at) = own.at {
                        self.of_functions.entry(at).or_insert(of);
                    }
                    // An instance of this may be met that has neither name nor parameters of its own.
                    if generic.len() < MOST {
                        generic.insert(own.entry, of);
                    }
                }
                gimli::DW_TAG_formal_parameter => {
                    let found = attributes(&mut entries, abbreviation)?;
                    let Some(own) = own.filter(|own| own.polls && !own.met) else { continue };
                    own.met = true;
                    let Some(of) = found.of else { continue };
                    match of {
                        _ if self.polled.len() + self.pinned.len() >= MOST => {}
                        AttributeValue::UnitRef(at) if is_named(unit, at) => {
                            self.polled.extend(pinned(search, unit, at));
                        }
                        // It is elsewhere, and what stands here refers to it.
                        of => self.pinned.extend(target(unit, of)),
                    }
                }
                gimli::DW_TAG_variable => {
                    let found = attributes(&mut entries, abbreviation)?;
                    let name = found.name.and_then(|name| search.text(unit, name));
                    if !name.is_some_and(|name| name.ends_with(TABLE)) || self.tables.len() >= MOST {
                        continue;
                    }
                    let at = found.location.and_then(|location| unit.place(location));
                    let of = found.of.and_then(|to| target(unit, to));
                    self.tables.extend(at.zip(of));
                }
                _ => entries.skip_attributes(abbreviation.attributes()).ok()?,
            }
        }
        Some(())
    }
}

/// The attributes that any of these entries is asked for.
#[derive(Default)]
struct Attributes<'a> {
    name: Option<AttributeValue<Bytes<'a>>>,
    low_pc: Option<AttributeValue<Bytes<'a>>>,
    refers: Option<AttributeValue<Bytes<'a>>>,
    of: Option<AttributeValue<Bytes<'a>>>,
    location: Option<AttributeValue<Bytes<'a>>>,
    signature: Option<AttributeValue<Bytes<'a>>>,
}

fn attributes<'a>(
    entries: &mut EntriesRaw<'_, Bytes<'a>>,
    abbreviation: &gimli::Abbreviation,
) -> Option<Attributes<'a>> {
    let mut found = Attributes::default();
    for specification in abbreviation.attributes() {
        let attribute = entries.read_attribute(*specification).ok()?;
        let value = attribute.value();
        match attribute.name() {
            gimli::DW_AT_name => found.name = Some(value),
            gimli::DW_AT_low_pc => found.low_pc = Some(value),
            gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => found.refers = Some(value),
            gimli::DW_AT_type => found.of = Some(value),
            gimli::DW_AT_location => found.location = Some(value),
            gimli::DW_AT_signature => found.signature = Some(value),
            _ => {}
        }
    }
    Some(found)
}

/// The entry that an attribute refers to.
pub(super) fn target<'a>(unit: &Located<'a>, value: AttributeValue<Bytes<'a>>) -> Option<Entry> {
    unit.referred(value).map(Entry)
}

/// Whether an entry says its own name.
fn is_named(unit: &Located<'_>, at: UnitOffset) -> bool {
    unit.entry(at).is_ok_and(|found| found.attr_value(gimli::DW_AT_name).is_some())
}

/// The full name of the type that a pinned reference refers to, by the entry of the reference's type.
pub(super) fn pinned<'a>(search: &Search<'a>, unit: &Located<'a>, at: UnitOffset) -> Option<String> {
    let name = unit.entry(at).ok()?.attr_value(gimli::DW_AT_name)?;
    let name = search.text(unit, name)?.strip_prefix(PINNED)?.strip_suffix('>')?;
    Some(name.to_owned())
}
