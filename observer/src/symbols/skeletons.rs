//! What an image has of units whose entries lie elsewhere: what they are known by, and whether entries that are found are of the
//! image's own build.
//!
//! Does not know: where such files lie. The compiler numbers a unit by its content without lines and addresses: a later build
//! has the same number for the same code at other lines. So a file is believed only where the image agrees with it.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;

use gimli::{
    AttributeValue, ColumnType, DebugInfoOffset, Dwarf, DwarfSections, EndianSlice, LittleEndian, SectionId, UnitHeader,
};

use super::located::Located;
use super::sections::{Bytes, Room, Sections};
use super::split::{MOST, NotSplit, SplitFile};
use super::subprograms::Search;
use super::unit_header::{unit, unit_id};
use super::units::{Heads, MOST_UNITS};
use super::{Functions, Image};
use crate::model::VirtAddr;

/// The section that has all addresses of such units.
const ADDRESSES: &str = ".debug_addr";
/// What else tells them.
const TOLD_BY: [SectionId; 7] = [
    SectionId::DebugInfo,
    SectionId::DebugAbbrev,
    SectionId::DebugStr,
    SectionId::DebugLineStr,
    SectionId::DebugStrOffsets,
    SectionId::DebugAddr,
    SectionId::DebugLine,
];
/// Longest path of a file that is looked for.
const LONGEST: usize = 4096;
/// Most bytes of entries, and most lines, that are compared.
const MOST_COMPARED: usize = 1 << 30;
/// Most lines of one unit that are kept meanwhile.
const MOST_LINES: usize = 1 << 22;

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
    /// Whether there is debug information of any unit, split or not, by the names of the sections.
    pub fn is_described(bytes: &[u8]) -> bool {
        Sections::of(bytes, &Room::new()).is_some_and(|sections| sections.has(SectionId::DebugInfo.name()))
    }

    fn of(dwarf: &Dwarf<Bytes<'_>>, header: UnitHeader<Bytes<'_>>) -> Option<Self> {
        let id = unit_id(dwarf, &header)?;
        let unit = unit(dwarf, header)?;
        let file = dwarf.attr_string(&unit, unit.dwo_name().ok()??).ok()?;
        let text =
            |path: Bytes<'_>| (path.len() <= LONGEST).then(|| String::from_utf8_lossy(path.slice()).into_owned());
        Some(Self { id, folder: unit.comp_dir.and_then(text), file: text(file)? })
    }
}

/// All skeletons of an image.
pub struct Skeletons<'d> {
    sections: DwarfSections<Cow<'d, [u8]>>,
    /// Where functions are by the image's own table.
    functions: &'d Functions,
    /// Each with where it is among the entries.
    all: Vec<(SplitUnit, DebugInfoOffset)>,
    /// What may still be compared.
    left: Cell<usize>,
}

impl<'d> Skeletons<'d> {
    /// Whether an image has any. What has none is not read beyond the heads of its units, what has some not beyond the first.
    pub fn are_in(bytes: &[u8]) -> bool {
        !found(bytes, 1).is_empty()
    }

    /// Of an image, described by itself or by its debug file.
    pub fn of(image: &'d Image<'_>, described: &'d [u8]) -> Self {
        Self::read(described, image.functions())
    }

    pub(super) fn read(described: &'d [u8], functions: &'d Functions) -> Self {
        let (all, room) = (found(described, MOST), Room::new());
        let sections = Sections::of(described, &room).filter(|_| !all.is_empty());
        let section = |id: SectionId| sections.as_ref().map_or_else(Cow::default, |sections| sections.named(id.name()));
        let Ok::<_, Infallible>(sections) = DwarfSections::load(|id| Ok(section(id)));
        Self { sections, functions, all, left: Cell::new(MOST_COMPARED) }
    }

    /// What is known of the units, in the order of the image.
    pub fn units(&self) -> impl DoubleEndedIterator<Item = &SplitUnit> {
        self.all.iter().map(|(unit, _)| unit)
    }

    /// More than are looked for.
    pub fn are_too_many(&self) -> bool {
        self.all.len() >= MOST
    }

    /// Which of these units a file has, all of them of the image's own build; else why it is not used.
    pub fn had_by(&self, bytes: &[u8], wanted: &HashSet<u64>) -> Result<HashSet<u64>, NotSplit> {
        let file = SplitFile::parse(bytes)?;
        let main = Arc::new(self.sections.borrow(|section| EndianSlice::new(section, LittleEndian)));
        let mut had = HashSet::new();
        for (unit, at) in self.all.iter().filter(|(unit, _)| wanted.contains(&unit.id)) {
            // Entries are read with the first skeleton of their number.
            let Some(dwarf) = file.unit(unit.id, &main).filter(|_| !had.contains(&unit.id)) else { continue };
            let header = main.debug_info.header_from_offset(*at).map_err(|_| NotSplit::Empty)?;
            let search = Search::new(Heads::joined(Arc::clone(&main), header, dwarf));
            let joined = search.heads().first().and_then(|head| search.open(head)).ok_or(NotSplit::Empty)?;
            if !self.agrees(&search, &joined)? {
                return Err(NotSplit::Changed(unit.id));
            }
            had.insert(unit.id);
        }
        match wanted.iter().min() {
            Some(first) if had.is_empty() => Err(NotSplit::OfAnother(*first)),
            _ => Ok(had),
        }
    }

    /// Whether a unit's functions are those of the image, as far as that tells: each as long as its row of the unwind table says, and
    /// declared at the line that its code begins with.
    fn agrees<'a>(&self, search: &Search<'a>, unit: &Located<'a>) -> Result<bool, NotSplit> {
        self.count(unit.header.length_including_self())?;
        let (mut lines, mut origins, mut placed) = (HashMap::new(), HashMap::new(), Vec::new());
        // What cannot be read on from tells nothing later, either.
        _ = search.walk(unit, |_, function| {
            lines.extend(function.line.map(|line| (function.offset, line)));
            origins.extend(function.origin(unit).map(|origin| (function.offset, origin)));
            if let Some(low) = function.low_pc.and_then(|low| unit.address(low)) {
                placed.push((low, function.high_pc, function.offset));
            }
        });
        let begun = self.begun(unit)?;
        let declared = |offset: usize| {
            let origin = || origins.get(&offset).copied();
            let line = |offset: usize| lines.get(&offset).copied();
            let further = || origins.get(&origin()?).copied();
            line(offset).or_else(|| line(origin()?)).or_else(|| line(further()?))
        };
        Ok(placed.iter().all(|(low, high, offset)| {
            // Code that the linker left out is nowhere.
            let Some(known) = self.functions.containing(*low) else { return true };
            let end = match high {
                Some(AttributeValue::Udata(length)) => low.0.checked_add(*length).map(VirtAddr),
                Some(high) => unit.address(*high),
                None => Some(known.end),
            };
            let is_begun = |line: u32| begun.get(low).is_none_or(|lines| lines.contains(&u64::from(line)));
            known.start == *low && end == Some(known.end) && declared(*offset).is_none_or(is_begun)
        }))
    }

    /// The lines that code begins with which the compiler counts to a function as a whole: those without a column.
    fn begun(&self, unit: &Located<'_>) -> Result<HashMap<VirtAddr, Vec<u64>>, NotSplit> {
        let mut begun: HashMap<VirtAddr, Vec<u64>> = HashMap::new();
        let Some(program) = unit.line_program.clone().filter(|_| is_rust(unit)) else { return Ok(begun) };
        let (mut rows, mut kept) = (program.rows(), 0);
        while let Ok(Some((_, row))) = rows.next_row() {
            self.count(1)?;
            let Some(line) = row.line().filter(|_| row.column() == ColumnType::LeftEdge && !row.end_sequence()) else {
                continue;
            };
            begun.entry(VirtAddr(row.address())).or_default().push(line.get());
            kept += 1;
            if kept > MOST_LINES {
                return Err(NotSplit::Large);
            }
        }
        Ok(begun)
    }

    fn count(&self, read: usize) -> Result<(), NotSplit> {
        self.left.set(self.left.get().checked_sub(read).ok_or(NotSplit::Large)?);
        Ok(())
    }
}

/// Other languages' functions begin with the line of their bodies, which need not be that of the declaration.
fn is_rust(unit: &Located<'_>) -> bool {
    let root = unit.entry(unit.header.root_offset());
    let language = root.ok().and_then(|root| root.attr_value(gimli::DW_AT_language));
    matches!(language, Some(AttributeValue::Language(gimli::DW_LANG_Rust)))
}

/// The first split units of these bytes, so many, each with where its skeleton is.
fn found(bytes: &[u8], most: usize) -> Vec<(SplitUnit, DebugInfoOffset)> {
    let room = Room::new();
    let Some(sections) = Sections::of(bytes, &room).filter(|sections| sections.has(ADDRESSES)) else {
        return Vec::new();
    };
    let section = |id: SectionId| if TOLD_BY.contains(&id) { sections.named(id.name()) } else { Cow::default() };
    let Ok::<_, Infallible>(sections) = DwarfSections::load(|id| Ok(section(id)));
    let dwarf = sections.borrow(|section| EndianSlice::new(section, LittleEndian));
    let mut found = Vec::new();
    let mut units = dwarf.units();
    for _ in 0..MOST_UNITS {
        let Ok(Some(header)) = units.next() else { break };
        if found.len() >= most {
            break;
        }
        found.extend(SplitUnit::of(&dwarf, header).zip(header.debug_info_offset()));
    }
    found
}
