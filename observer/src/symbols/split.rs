//! Split debug information: units whose entries lie in files of their own, by the unit (`.dwo`) or for a whole program
//! (`.dwp`), as `-C split-debuginfo` of rustc and `-gsplit-dwarf` of other compilers write them. The image has a skeleton of each such
//! unit: its id, its name, its lines and addresses.
//!
//! Does not know: where such files lie. Entries are a unit's only where its id stands with them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use gimli::{
    DebugInfo, Dwarf, DwarfPackage, DwarfPackageSections, DwarfSections, DwoId, EndianSlice, LittleEndian,
    Section as _, SectionId,
};

use super::error::UNREADABLE;
use super::sections::{Bytes, Room, Sections};
use super::unit_header::unit_id;

/// Most units that are read of one file.
pub(super) const MOST: usize = 1 << 14;
/// Units that one entry of a package's table leads to: it is one.
const MOST_PACKED: usize = 16;
/// Longest table of a package, in entries: of many more units than are read.
const MOST_SLOTS: u32 = 4 * MOST as u32;

/// Why a file is not used for the entries of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSplit {
    /// No ELF file, or one that is cut short.
    #[error("{UNREADABLE}")]
    Unreadable,
    /// Neither a unit's nor a program's.
    #[error("it has no split debug information, or none that can be read")]
    Empty,
    /// Of more units than are read.
    #[error("it has more units than are read")]
    Large,
    /// The number of the first unit that was looked for: neither it nor any other is there.
    #[error("it is of another build: it does not have the unit {0:016x} nor any other that is looked for")]
    OfAnother(u64),
    /// The number of a unit whose functions are not where the image has them: numbers tell neither lines nor addresses.
    #[error(
        "it is of an earlier or later build: functions of its unit {0:016x} are at other lines or places than the program's"
    )]
    Changed(u64),
}

/// A file with entries of units.
pub struct SplitFile<'d>(Kind<'d>);

enum Kind<'d> {
    /// `.dwp`.
    Package(DwarfPackageSections<Cow<'d, [u8]>>),
    /// `.dwo`, with where in it each unit is, by the unit's id.
    Units(DwarfSections<Cow<'d, [u8]>>, HashMap<u64, Range<usize>>),
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
            return match open(&package).map(|package| package.cu_index.slot_count()) {
                Ok(slots) if slots > MOST_SLOTS => Err(NotSplit::Large),
                Ok(_) => Ok(Self(Kind::Package(package))),
                Err(_) => Err(NotSplit::Empty),
            };
        }
        let sections = DwarfSections::load(load).map_err(|_| NotSplit::Empty)?;
        let mut found = units(&sections.borrow(|section| reader(section)), MOST);
        // Of two with one number the first, as for an image.
        found.reverse();
        let units: HashMap<u64, Range<usize>> = found.into_iter().collect();
        if units.is_empty() { Err(NotSplit::Empty) } else { Ok(Self(Kind::Units(sections, units))) }
    }

    /// Whether it has the entries of this unit.
    pub fn has(&self, id: u64) -> bool {
        self.unit(id, &Dwarf::default()).is_some()
    }

    /// The sections with the entries of one unit, and no other's. Addresses are in the sections of the image.
    pub(super) fn unit<'s>(&'s self, id: u64, main: &Dwarf<Bytes<'s>>) -> Option<Dwarf<Bytes<'s>>> {
        match &self.0 {
            Kind::Package(package) => packed(package, id, main),
            Kind::Units(sections, units) => {
                let mut dwarf = sections.borrow(|section| reader(section));
                dwarf.make_dwo(main);
                cut(dwarf, units.get(&id)?.clone())
            }
        }
    }
}

/// All files of an image with entries of units.
pub(super) struct Split<'d> {
    files: Vec<SplitFile<'d>>,
    /// The file of each unit that is not in a package.
    of_units: HashMap<u64, usize>,
}

impl<'d> Split<'d> {
    pub(super) fn read(files: &[&'d [u8]], room: &Room) -> Self {
        let files: Vec<_> = files.iter().filter_map(|bytes| SplitFile::within(bytes, room).ok()).collect();
        let mut of_units = HashMap::new();
        for (n, file) in files.iter().enumerate() {
            if let Kind::Units(_, units) = &file.0 {
                units.keys().for_each(|id| _ = of_units.entry(*id).or_insert(n));
            }
        }
        Self { files, of_units }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The sections with the entries of one unit, and no other's, from the first file that has them: the one that they were wanted
    /// of; `None` where none has.
    pub(super) fn unit<'s>(&'s self, id: u64, main: &Dwarf<Bytes<'s>>) -> Option<Dwarf<Bytes<'s>>> {
        let single = self.of_units.get(&id).copied();
        let before = self.files.get(..single.unwrap_or(self.files.len()))?;
        let mut packages = before.iter().filter(|file| matches!(file.0, Kind::Package(_)));
        packages.find_map(|file| file.unit(id, main)).or_else(|| self.files.get(single?)?.unit(id, main))
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
