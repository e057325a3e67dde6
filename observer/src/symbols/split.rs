//! Split debug information: units whose entries lie in files of their own, by the unit (`.dwo`) or for a whole program
//! (`.dwp`), as `-C split-debuginfo` of rustc and `-gsplit-dwarf` of other compilers write them. The image has a skeleton of each such
//! unit: its id, its name, its lines and addresses.
//!
//! Does not know: where such files lie. Entries are a unit's only where its id stands with them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use gimli::{
    Attribute, DebugInfo, Dwarf, DwarfPackage, DwarfPackageSections, DwarfSections, DwoId, EndianSlice, LittleEndian,
    Section as _, SectionId, UnitHeader, UnitType,
};

use super::sections::{Room, Sections};
use super::subprograms::Bytes;
use super::units::MOST_UNITS;

/// Most units that are looked for, and most that are read of one file.
const MOST: usize = 1 << 14;
/// Units that one entry of a package's table leads to: it is one.
const MOST_PACKED: usize = 16;
/// The section that has all addresses of such units.
const ADDRESSES: &str = ".debug_addr";
/// Longest path of a file that is looked for.
const LONGEST: usize = 4096;

/// A unit of an image whose entries lie elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitUnit {
    /// What the compiler numbered it, by its content.
    pub id: u64,
    /// The folder that the compiler ran in.
    pub folder: Option<String>,
    /// The file that it wrote the entries to, from that folder if not from the root.
    pub file: String,
}

impl SplitUnit {
    /// All of an image, or of its debug file. What has none is not read beyond the names of its sections.
    pub fn all(bytes: &[u8]) -> Vec<Self> {
        let room = Room::new();
        let Some(sections) = Sections::of(bytes, &room) else { return Vec::new() };
        if !sections.has(ADDRESSES) {
            return Vec::new();
        }
        let Ok::<_, std::convert::Infallible>(sections) = DwarfSections::load(|id| Ok(sections.named(id.name())));
        let dwarf = sections.borrow(|section| EndianSlice::new(section, LittleEndian));
        let mut found = Vec::new();
        let mut units = dwarf.units();
        for _ in 0..MOST_UNITS {
            let Ok(Some(header)) = units.next() else { break };
            found.extend(Self::of(&dwarf, header).filter(|_| found.len() < MOST));
        }
        found
    }

    /// Whether an image may have any, by the names of its sections.
    pub fn may_be_in(bytes: &[u8]) -> bool {
        Sections::of(bytes, &Room::new()).is_some_and(|sections| sections.has(ADDRESSES))
    }

    /// Whether there is debug information of any unit, split or not, by the names of the sections.
    pub fn is_described(bytes: &[u8]) -> bool {
        Sections::of(bytes, &Room::new()).is_some_and(|sections| sections.has(SectionId::DebugInfo.name()))
    }

    fn of(dwarf: &Dwarf<Bytes<'_>>, header: UnitHeader<Bytes<'_>>) -> Option<Self> {
        let id = unit_id(dwarf, &header)?;
        let unit = dwarf.unit(header).ok()?;
        let file = dwarf.attr_string(&unit, unit.dwo_name().ok()??).ok()?;
        let text =
            |path: Bytes<'_>| (path.len() <= LONGEST).then(|| String::from_utf8_lossy(path.slice()).into_owned());
        Some(Self { id, folder: unit.comp_dir.and_then(text), file: text(file)? })
    }
}

/// The number of a unit that is split; `None` for one that is not.
pub(super) fn unit_id(dwarf: &Dwarf<Bytes<'_>>, header: &UnitHeader<Bytes<'_>>) -> Option<u64> {
    if let UnitType::Skeleton(id) | UnitType::SplitCompilation(id) = header.type_() {
        return Some(id.0);
    }
    if header.version() >= 5 {
        return None;
    }
    // Before that it is an attribute of the unit's own entry.
    let abbreviations = dwarf.abbreviations(header).ok()?;
    let mut entries = header.entries_raw(&abbreviations, None).ok()?;
    let own = entries.read_abbreviation().ok()??;
    let mut attributes = own.attributes().iter().map_while(|specification| entries.read_attribute(*specification).ok());
    attributes.find_map(|attribute: Attribute<Bytes<'_>>| match attribute.value() {
        gimli::AttributeValue::DwoId(id) => Some(id.0),
        _ => None,
    })
}

/// Why a file is not used for the entries of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSplit {
    /// No ELF file, or one that is cut short.
    #[error("it cannot be read: it is no ELF file, or not a whole one")]
    Unreadable,
    /// Neither a unit's nor a program's.
    #[error("it has no split debug information, or none that can be read")]
    Empty,
}

/// A file with entries of units.
pub struct SplitFile<'d>(Kind<'d>);

enum Kind<'d> {
    /// `.dwp`.
    Package(DwarfPackageSections<Cow<'d, [u8]>>),
    /// `.dwo`, with where in it each unit is, by the unit's id.
    Units(DwarfSections<Cow<'d, [u8]>>, Vec<(u64, Range<usize>)>),
}

impl<'d> SplitFile<'d> {
    /// Reads the names of a file's units.
    pub fn parse(bytes: &'d [u8]) -> Result<Self, NotSplit> {
        Self::within(bytes, &Room::new())
    }

    fn within(bytes: &'d [u8], room: &Room) -> Result<Self, NotSplit> {
        let sections = Sections::of(bytes, room).ok_or(NotSplit::Unreadable)?;
        let load = |id: SectionId| -> Result<Cow<'d, [u8]>, gimli::Error> {
            Ok(id.dwo_name().map_or_else(Cow::default, |name| sections.named(name)))
        };
        if !sections.named(".debug_cu_index").is_empty() {
            let package = DwarfPackageSections::load(load).map_err(|_| NotSplit::Empty)?;
            return match open(&package) {
                Ok(_) => Ok(Self(Kind::Package(package))),
                Err(_) => Err(NotSplit::Empty),
            };
        }
        let sections = DwarfSections::load(load).map_err(|_| NotSplit::Empty)?;
        let units = units(&sections.borrow(|section| reader(section)), MOST);
        if units.is_empty() { Err(NotSplit::Empty) } else { Ok(Self(Kind::Units(sections, units))) }
    }

    /// Whether it has the entries of this unit.
    pub fn has(&self, id: u64) -> bool {
        match &self.0 {
            Kind::Package(package) => packed(package, id, &Dwarf::default()).is_some(),
            Kind::Units(_, units) => units.iter().any(|(known, _)| *known == id),
        }
    }
}

/// All files of an image with entries of units.
pub(super) struct Split<'d> {
    files: Vec<SplitFile<'d>>,
    /// Of each unit that has a file of its own: which it is, and where in it.
    of_units: HashMap<u64, (usize, Range<usize>)>,
}

impl<'d> Split<'d> {
    pub(super) fn read(files: &[&'d [u8]], room: &Room) -> Self {
        let files: Vec<_> = files.iter().filter_map(|bytes| SplitFile::within(bytes, room).ok()).collect();
        let mut of_units = HashMap::new();
        for (n, file) in files.iter().enumerate() {
            if let Kind::Units(_, units) = &file.0 {
                units.iter().for_each(|(id, range)| _ = of_units.entry(*id).or_insert((n, range.clone())));
            }
        }
        Self { files, of_units }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The sections with the entries of one unit, and no other's; `None` where no file has them. Addresses are in the sections of the
    /// image.
    pub(super) fn unit<'s>(&'s self, id: u64, main: &Dwarf<Bytes<'s>>) -> Option<Dwarf<Bytes<'s>>> {
        if let Some((n, range)) = self.of_units.get(&id)
            && let Kind::Units(sections, _) = &self.files.get(*n)?.0
        {
            let mut dwarf = sections.borrow(|section| reader(section));
            dwarf.make_dwo(main);
            return cut(dwarf, range.clone());
        }
        self.files.iter().find_map(|file| match &file.0 {
            Kind::Package(package) => packed(package, id, main),
            Kind::Units(..) => None,
        })
    }
}

/// The sections with one unit's entries, of a package.
fn packed<'s>(
    package: &'s DwarfPackageSections<Cow<'_, [u8]>>,
    id: u64,
    main: &Dwarf<Bytes<'s>>,
) -> Option<Dwarf<Bytes<'s>>> {
    let dwarf = open(package).ok()?.find_cu(DwoId(id), main).ok()??;
    // The table may say of a unit what is not there.
    let (_, range) = units(&dwarf, MOST_PACKED).into_iter().find(|(known, _)| *known == id)?;
    cut(dwarf, range)
}

fn open<'s>(package: &'s DwarfPackageSections<Cow<'_, [u8]>>) -> gimli::Result<DwarfPackage<Bytes<'s>>> {
    package.borrow(|section| reader(section), reader(&[]))
}

fn reader(section: &[u8]) -> Bytes<'_> {
    EndianSlice::new(section, LittleEndian)
}

/// The split units in these sections, each with where its entries are; so many are looked at.
fn units(dwarf: &Dwarf<Bytes<'_>>, most: usize) -> Vec<(u64, Range<usize>)> {
    let mut found = Vec::new();
    let mut headers = dwarf.units();
    for _ in 0..most {
        let Ok(Some(header)) = headers.next() else { break };
        let start = header.debug_info_offset().map(|offset| offset.0);
        let range = start.and_then(|start| Some(start..start.checked_add(header.length_including_self())?));
        found.extend(unit_id(dwarf, &header).zip(range));
    }
    found
}

/// The same sections with this part of the entries only.
fn cut<'s>(mut dwarf: Dwarf<Bytes<'s>>, range: Range<usize>) -> Option<Dwarf<Bytes<'s>>> {
    dwarf.debug_info = DebugInfo::from(EndianSlice::new(dwarf.debug_info.reader().slice().get(range)?, LittleEndian));
    Some(dwarf)
}

#[cfg(test)]
mod tests;
