//! How types lie in memory, as debug information describes them: from what holds a task's future on to all that it holds.
//!
//! Follows a value's own fields and what they alone point to, never what is shared: what belongs to others is not awaited
//! through it. Does not know: runtimes, processes. What cannot be read is opaque.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use gimli::{AttributeValue, UnitOffset};

use super::Debug;
use super::located::Located;
use super::sections::Bytes;
use super::subprograms::Search;
use super::type_index::{Entry, TypeIndex, Wanted, pinned, target};
use super::type_units::{Opened, Units};
use crate::model::{BodyState, Part, Phase, Place, Shape, ShapeId, ShapeKind, Shapes, Tag, Variant, VirtAddr};

/// Most types that are read.
const MOST: usize = 1 << 20;
/// Most fields or variants of one type, more of which no program has.
const MOST_PARTS: usize = 1 << 14;
/// The compiler's own names, since async bodies exist: the state of a body, what it awaits, and what a body is called.
const STATE: &str = "__state";
const AWAITED: &str = "__awaitee";
const BODY: &str = "{async_";
const DYN_FUTURE: &str = "dyn core::future::future::Future<";
const PIN: &str = "core::pin::Pin<";

impl Debug<'_> {
    /// The shapes of what holds the first type parameter of each of these functions, by that holder's path.
    pub fn shapes(&self, functions: &HashSet<VirtAddr>, holder: &str) -> Shapes {
        let search = self.search();
        let index = TypeIndex::read(&search, &Wanted { functions, holder });
        let mut shaping = Shaping::new(&search, &index.polled);
        index.pinned.iter().for_each(|entry| shaping.is_polled(*entry));
        let mut stages = HashMap::new();
        let mut holding: HashMap<Entry, Vec<Entry>> = HashMap::new();
        for (of, holders) in &index.holders {
            holding.entry(shaping.units.itself(*of)).or_default().extend(holders);
        }
        for (at, of) in &index.of_functions {
            // Others may have types of the same name.
            let holders = holding.get(&shaping.units.itself(*of)).into_iter().flatten();
            if let Some(holder) = holders.copied().find(|entry| shaping.is_called(*entry, holder)) {
                stages.insert(*at, Some(shaping.id(holder)));
            }
        }
        let mut objects: HashMap<VirtAddr, Vec<(String, ShapeId)>> = HashMap::new();
        for (at, table) in &index.tables {
            let Some((name, id)) = shaping.object(*table) else { continue };
            let known = objects.entry(*at).or_default();
            if known.iter().all(|(other, _)| *other != name) {
                known.push((name, id));
            }
        }
        shaping.read_all();
        let only = |of: Vec<(String, ShapeId)>| if let [(_, id)] = of[..] { Some(id) } else { None };
        let objects = objects.into_iter().map(|(at, of)| (at, only(of))).collect();
        Shapes { all: shaping.shapes, stages, objects, names: HashMap::new() }
    }
}

/// Shapes that were read, and those that are to be read yet.
struct Shaping<'s, 'a> {
    units: Units<'s, 'a>,
    /// Full names of types that a function polls.
    polled: HashSet<String>,
    ids: HashMap<Entry, ShapeId>,
    shapes: Vec<Shape>,
    unread: Vec<(ShapeId, Entry)>,
    places: HashMap<(String, u32), Arc<Place>>,
}

/// A member of a type.
struct Member<'a> {
    name: Option<&'a str>,
    part: Option<Part>,
    of: Option<Entry>,
    offset: u64,
    place: Option<(u64, u32)>,
}

/// A variant part while its entries are read.
struct Choosing<'a> {
    depth: isize,
    discriminant: Option<Entry>,
    tag: Option<(Tag, Option<&'a str>)>,
    variants: Vec<(Option<u64>, Member<'a>)>,
    value: Option<u64>,
}

impl<'s, 'a> Shaping<'s, 'a> {
    fn new(search: &'s Search<'a>, polled: &HashSet<String>) -> Self {
        let (units, polled) = (Units::new(search), polled.clone());
        let (ids, places) = (HashMap::new(), HashMap::new());
        Self { units, polled, ids, shapes: Vec::new(), unread: Vec::new(), places }
    }

    /// A function polls what a pinned reference of this type refers to.
    fn is_polled(&mut self, entry: Entry) {
        if let Some((opened, offset)) = self.units.open(entry) {
            self.polled.extend(pinned(self.units.search, &opened.unit, offset));
        }
    }

    /// Whether a type has this path, whatever its parameters.
    fn is_called(&mut self, entry: Entry, path: &str) -> bool {
        let name = self.units.open(entry).and_then(|(opened, offset)| self.units.name(&opened, offset));
        name.is_some_and(|name| name.split('<').next() == Some(path))
    }

    /// The number of an entry's shape, which is read later if it was not yet.
    fn id(&mut self, entry: Entry) -> ShapeId {
        let entry = self.units.itself(entry);
        if let Some(id) = self.ids.get(&entry) {
            return *id;
        }
        if self.shapes.len() >= MOST {
            // The first of them is opaque: see `read_all`.
            return ShapeId(u32::MAX);
        }
        let id = ShapeId(u32::try_from(self.shapes.len()).unwrap_or(u32::MAX));
        self.shapes.push(Shape { name: Arc::from(""), size: 0, align: 1, future: false, kind: ShapeKind::Opaque });
        self.ids.insert(entry, id);
        self.unread.push((id, entry));
        id
    }

    fn read_all(&mut self) {
        while let Some((id, entry)) = self.unread.pop() {
            if let Some(shape) = self.read(entry)
                && let Some(place) = usize::try_from(id.0).ok().and_then(|n| self.shapes.get_mut(n))
            {
                *place = shape;
            }
        }
    }

    /// The type that has a table of functions, by the entry of the table's own type.
    fn object(&mut self, table: Entry) -> Option<(String, ShapeId)> {
        let (opened, offset) = self.units.open(table)?;
        let of = opened.unit.entry(offset).ok()?.attr_value(gimli::DW_AT_containing_type)?;
        let of = target(&opened.unit, of)?;
        let (opened, offset) = self.units.open(of)?;
        let name = self.units.name(&opened, offset)?;
        Some((name, self.id(of)))
    }

    fn read(&mut self, entry: Entry) -> Option<Shape> {
        let (opened, offset) = self.units.open(entry)?;
        let unit = &opened.unit;
        let found = unit.entry(offset).ok()?;
        let size = found.attr_value(gimli::DW_AT_byte_size).and_then(|size| size.udata_value());
        let bare =
            found.attr_value(gimli::DW_AT_name).and_then(|name| self.units.search.text(unit, name)).unwrap_or_default();
        match found.tag() {
            gimli::DW_TAG_pointer_type => {
                let of = found.attr_value(gimli::DW_AT_type).and_then(|of| target(unit, of));
                let kind = match of {
                    Some(of) if owns(bare) => ShapeKind::Pointer(self.id(of)),
                    Some(_) | None => ShapeKind::Opaque,
                };
                Some(Shape { name: Arc::from(""), size: 8, align: 8, future: false, kind })
            }
            gimli::DW_TAG_structure_type => {
                let (members, choosing) = self.members(&opened, offset)?;
                let is_body = choosing.as_ref().is_some_and(|choosing| matches!(choosing.tag, Some((_, Some(STATE)))));
                let kind = match choosing {
                    Some(choosing) if is_body => self.body(&opened, choosing),
                    Some(choosing) => {
                        let Choosing { tag, variants, .. } = choosing;
                        let cut = |value: u64| tag.map_or(value, |(tag, _)| tag.cut(value));
                        let variants = variants.into_iter();
                        let variants = variants
                            .filter_map(|(tag, member)| Some(Variant { tag: tag.map(cut), part: member.part? }));
                        ShapeKind::Choice(tag.map(|(tag, _)| tag), variants.collect())
                    }
                    None => self.record(bare, members),
                };
                let name = self.units.name(&opened, offset).unwrap_or_default();
                let future = match &kind {
                    ShapeKind::Body { .. } => bare.starts_with(BODY),
                    ShapeKind::Object => bare.contains(DYN_FUTURE),
                    // What only leads to a future is none by itself.
                    _ => self.polled.contains(&name) && !name.starts_with(PIN),
                };
                let align = found.attr_value(gimli::DW_AT_alignment).and_then(|align| align.udata_value());
                let align = align.filter(|align| align.is_power_of_two()).unwrap_or(1);
                Some(Shape { name: Arc::from(name), size: size?, align, future, kind })
            }
            _ => None,
        }
    }

    /// A type without variants: a record, or a pointer of two words.
    fn record(&mut self, name: &str, members: Vec<Member<'a>>) -> ShapeKind {
        let second = members.get(1).and_then(|member| member.name);
        match (second, &members[..]) {
            (Some("vtable"), [_, _]) if owns(name) => ShapeKind::Object,
            (Some("length"), [data, _]) if owns(name) => {
                let of = data.of.and_then(|of| self.pointee(of));
                of.map_or(ShapeKind::Opaque, ShapeKind::Slice)
            }
            // Another fat pointer.
            (Some("vtable" | "length"), [_, _]) if name.starts_with(['&', '*']) => ShapeKind::Opaque,
            // What it held may have been dropped: what that pointed to is another's then.
            _ if owned_by_hand(name).is_some_and(owns) => ShapeKind::Opaque,
            _ => ShapeKind::Record(members.into_iter().filter_map(|member| member.part).collect()),
        }
    }

    /// What a plain pointer points to.
    fn pointee(&mut self, pointer: Entry) -> Option<ShapeId> {
        let (opened, offset) = self.units.open(pointer)?;
        let of = opened.unit.entry(offset).ok()?.attr_value(gimli::DW_AT_type)?;
        let of = target(&opened.unit, of)?;
        Some(self.id(of))
    }

    /// An async body, by its states.
    fn body(&mut self, opened: &Rc<Opened<'a>>, choosing: Choosing<'a>) -> ShapeKind {
        let Some((tag, _)) = choosing.tag else { return ShapeKind::Opaque };
        let (mut states, mut declared) = (Vec::new(), None);
        for (value, member) in choosing.variants {
            let (Some(value), Some(of)) = (value, member.of) else { continue };
            let phase = match self.body_phase(opened, &member, of) {
                Some(phase) => phase,
                None => continue,
            };
            if phase == Phase::NotStarted {
                declared = member.place.and_then(|(file, line)| self.place(&opened.unit, file, line));
            }
            states.push(BodyState { tag: tag.cut(value), phase });
        }
        ShapeKind::Body { tag, states, declared }
    }

    fn body_phase(&mut self, opened: &Rc<Opened<'a>>, member: &Member<'a>, of: Entry) -> Option<Phase> {
        let (inner, offset) = self.units.open(of)?;
        let name = inner.unit.entry(offset).ok()?.attr_value(gimli::DW_AT_name)?;
        match self.units.search.text(&inner.unit, name)? {
            "Unresumed" => Some(Phase::NotStarted),
            "Returned" => Some(Phase::Returned),
            "Panicked" => Some(Phase::Panicked),
            name if name.starts_with("Suspend") => {
                let (members, _) = self.members(&inner, offset)?;
                let awaits =
                    members.into_iter().find(|member| member.name == Some(AWAITED)).and_then(|found| found.part);
                // Both are counted from the body's own beginning: the state's fields lie where the body's do.
                let awaits = awaits.map(|part| Part { offset: part.offset.saturating_add(member.offset), ..part });
                let place = member.place.and_then(|(file, line)| self.place(&opened.unit, file, line));
                Some(Phase::Suspended { place, awaits })
            }
            _ => None,
        }
    }

    fn place(&mut self, unit: &Located<'a>, file: u64, line: u32) -> Option<Arc<Place>> {
        let file = self.units.search.file_name(unit, file)?;
        let key = (file, line);
        if let Some(place) = self.places.get(&key) {
            return Some(Arc::clone(place));
        }
        let place = Arc::new(Place { file: key.0.clone(), line, column: None, certain: true });
        self.places.insert(key, Arc::clone(&place));
        Some(place)
    }

    /// The fields of a type, and its variants.
    fn members(
        &mut self,
        opened: &Rc<Opened<'a>>,
        offset: UnitOffset,
    ) -> Option<(Vec<Member<'a>>, Option<Choosing<'a>>)> {
        let unit = &opened.unit;
        let base = unit.base();
        let mut entries = unit.entries_raw(Some(offset)).ok()?;
        let (mut members, mut choosing): (Vec<Member<'a>>, Option<Choosing<'a>>) = (Vec::new(), None);
        // The entry itself.
        let first = entries.read_abbreviation().ok()??;
        if !first.has_children() {
            return Some((members, choosing));
        }
        entries.skip_attributes(first.attributes()).ok()?;
        let top = entries.next_depth();
        while !entries.is_empty() && entries.next_depth() >= top {
            let (depth, entry) = (entries.next_depth(), Entry(base.checked_add(entries.next_offset().0)?));
            let Some(abbreviation) = entries.read_abbreviation().ok()? else { continue };
            let is_part = choosing.as_ref().is_some_and(|choosing: &Choosing<'a>| depth > choosing.depth);
            let (mut name, mut of, mut at, mut value, mut file, mut line, mut discriminant) =
                (None, None, Some(0), None, None, None, None);
            for specification in abbreviation.attributes() {
                let attribute = entries.read_attribute(*specification).ok()?;
                let found = attribute.value();
                match attribute.name() {
                    gimli::DW_AT_name => name = self.units.search.text(unit, found),
                    gimli::DW_AT_type => of = target(unit, found),
                    gimli::DW_AT_data_member_location => at = found.udata_value(),
                    gimli::DW_AT_discr_value => value = tag_value(&found),
                    gimli::DW_AT_discr => discriminant = target(unit, found),
                    gimli::DW_AT_decl_line => line = found.udata_value().and_then(|line| u32::try_from(line).ok()),
                    gimli::DW_AT_decl_file => match found {
                        AttributeValue::FileIndex(index) => file = Some(index),
                        found => file = found.udata_value(),
                    },
                    _ => {}
                }
            }
            match abbreviation.tag() {
                gimli::DW_TAG_variant_part if depth == top && choosing.is_none() => {
                    choosing = Some(Choosing { depth, discriminant, tag: None, variants: Vec::new(), value: None });
                }
                gimli::DW_TAG_variant if is_part => {
                    if let Some(choosing) = choosing.as_mut() {
                        choosing.value = value;
                    }
                }
                gimli::DW_TAG_member if depth == top || is_part => {
                    // Where a field lies may be an expression: of a type that has no fixed layout.
                    let Some(offset) = at else { continue };
                    let place = file.zip(line.filter(|line| *line > 0));
                    let is_tag = choosing.as_ref().is_some_and(|choosing| choosing.discriminant == Some(entry));
                    if is_tag {
                        let size = of.and_then(|of| self.size(of)).filter(|size| matches!(size, 1 | 2 | 4 | 8));
                        let tag = size.map(|size| (Tag { offset, size }, name));
                        if let Some(choosing) = choosing.as_mut() {
                            choosing.tag = tag;
                        }
                        // Of a tag that cannot be read nothing can be said.
                        tag?;
                        continue;
                    }
                    let part = of.map(|of| Part { offset, shape: self.id(of) });
                    let member = Member { name, part, of, offset, place };
                    let into = match choosing.as_mut().filter(|_| is_part) {
                        Some(choosing) if choosing.variants.len() < MOST_PARTS => {
                            choosing.variants.push((choosing.value, member));
                            continue;
                        }
                        Some(_) => continue,
                        None => &mut members,
                    };
                    if into.len() < MOST_PARTS {
                        into.push(member);
                    }
                }
                _ => {}
            }
        }
        Some((members, choosing))
    }

    fn size(&mut self, of: Entry) -> Option<u8> {
        let (opened, offset) = self.units.open(of)?;
        let size = opened.unit.entry(offset).ok()?.attr_value(gimli::DW_AT_byte_size)?.udata_value()?;
        u8::try_from(size).ok()
    }
}

/// A pointer that no one else has to the same value, by its name.
fn owns(name: &str) -> bool {
    name.starts_with("&mut ") || name.starts_with("alloc::boxed::Box<") || name.starts_with("Box<")
}

/// What a type without a destructor of its own has within, by its name: whoever has it drops that by hand. Without the pin around it.
fn owned_by_hand(name: &str) -> Option<&str> {
    let held = name.strip_prefix("ManuallyDrop<")?;
    Some(held.strip_prefix(PIN).unwrap_or(held))
}

/// A variant's tag; numbers that have a sign in debug information have none here.
fn tag_value(value: &AttributeValue<Bytes<'_>>) -> Option<u64> {
    match value {
        AttributeValue::Sdata(value) => Some(value.cast_unsigned()),
        value => value.udata_value(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_by_hand_is_followed_only_as_far_as_it_lies_in_its_holder() {
        let follows = |name: &str| owned_by_hand(name).is_none_or(|held| !owns(held));
        assert!(follows("Instrumented<app::work::{async_fn_env#0}>"));
        assert!(follows("ManuallyDrop<app::work::{async_fn_env#0}>"));
        assert!(!follows(
            "ManuallyDrop<core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future<Output=u64>, alloc::alloc::Global>>>"
        ));
        assert!(!follows("ManuallyDrop<alloc::boxed::Box<app::Work, alloc::alloc::Global>>"));
    }
}
