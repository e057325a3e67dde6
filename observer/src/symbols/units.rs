//! The units of debug information, each with its entries, wherever those are: in the image itself, or in a file of its own of
//! which the image has the skeleton only.
//!
//! Does not know: what is in them. Entries have numbers: those of the image are their offsets, those of other sections and files follow.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gimli::{Abbreviations, Dwarf, EndianSlice, LittleEndian, Section, Unit, UnitHeader, UnitType};

use super::located::{Elsewhere, Located};
use super::sections::Bytes;
use super::split::Split;
use super::unit_header::{LONGEST_OWN_TABLE, abbreviations_within, unit, unit_id};

/// Most units that are read.
pub(super) const MOST_UNITS: usize = 1 << 17;
/// A unit that is not read yet.
pub(super) struct Head<'a> {
    header: UnitHeader<Bytes<'a>>,
    /// The number of the first entry of the sections that it is in.
    start: usize,
    kind: Kind<'a>,
}

/// Where a unit's entries are.
enum Kind<'a> {
    /// In the image.
    Own,
    /// In the file that the image shares with others.
    Shared,
    /// In other sections than the image's, which has this of the unit.
    Split(Arc<Dwarf<Bytes<'a>>>, UnitHeader<Bytes<'a>>),
}

impl Head<'_> {
    /// The number of the unit itself.
    pub(super) fn base(&self) -> usize {
        self.start.saturating_add(self.header.offset().0)
    }

    /// Whether it may be of code: not of a type, nor of what units have in common.
    pub(super) fn has_code(&self) -> bool {
        let is_common =
            matches!(self.header.type_(), UnitType::Type { .. } | UnitType::SplitType { .. } | UnitType::Partial);
        !is_common && !matches!(self.kind, Kind::Shared)
    }

    /// In bytes.
    pub(super) fn length(&self) -> usize {
        self.header.length_including_self()
    }
}

/// All units, by their numbers.
pub(super) struct Heads<'a> {
    main: Arc<Dwarf<Bytes<'a>>>,
    /// The sections of the file that the image shares with others, if it has one.
    shared: Option<Arc<Dwarf<Bytes<'a>>>>,
    elsewhere: Arc<Elsewhere>,
    all: Vec<Head<'a>>,
    /// There are no more than these.
    whole: bool,
    /// The split ones of which there is one skeleton each.
    single: HashSet<u64>,
    /// The table of the unit that was read last, and where it is: those that have one in common follow each other.
    last_table: RefCell<Option<(usize, bool, Arc<Abbreviations>)>>,
}

impl<'a> Heads<'a> {
    /// Of the image's sections, of the file that it shares with others, and of files with the entries of split units.
    pub(super) fn of(mut main: Dwarf<Bytes<'a>>, shared: Option<Dwarf<Bytes<'a>>>, split: &'a Split<'_>) -> Self {
        let (mut all, mut apart) = (Vec::new(), Vec::new());
        let mut end = main.debug_info.reader().slice().len();
        // Units of equal content have one number, as optimization of a whole program makes them: which of them an entry with this
        // number is for is known of the first alone.
        let (mut met, mut single) = (HashSet::new(), HashSet::new());
        let mut units = main.units();
        for _ in 0..MOST_UNITS {
            let Ok(Some(header)) = units.next() else { break };
            let id = if split.is_empty() { None } else { unit_id(&main, &header) };
            let found = id.and_then(|id| {
                if !met.insert(id) {
                    single.remove(&id);
                    return None;
                }
                let dwarf = split.unit(id, &main)?;
                let own = dwarf.units().next().ok()??;
                single.insert(id);
                Some((own, dwarf))
            });
            let Some((own, dwarf)) = found else {
                all.push(Head { header, start: 0, kind: Kind::Own });
                continue;
            };
            let start = end;
            end = end.saturating_add(dwarf.debug_info.reader().slice().len());
            apart.push(Head { header: own, start, kind: Kind::Split(Arc::new(dwarf), header) });
        }
        all.append(&mut apart);
        // What cannot be read on from is nobody's.
        let mut whole = !matches!(units.next(), Ok(Some(_)));
        // Before DWARF 5 units of one type each have a section of their own.
        let mut units = main.type_units();
        for _ in 0..MOST_UNITS {
            let Ok(Some(header)) = units.next() else { break };
            all.push(Head { header, start: end, kind: Kind::Own });
        }
        whole &= !matches!(units.next(), Ok(Some(_)));
        end = end.saturating_add(main.debug_types.reader().slice().len());
        let mut elsewhere = Elsewhere { shared: shared.as_ref().map(|_| end), types: HashMap::new() };
        if let Some(shared) = &shared {
            let mut units = shared.units();
            for _ in 0..MOST_UNITS {
                let Ok(Some(header)) = units.next() else { break };
                all.push(Head { header, start: end, kind: Kind::Shared });
            }
            whole &= !matches!(units.next(), Ok(Some(_)));
        }
        for head in &all {
            if let UnitType::Type { type_signature, type_offset } = head.header.type_() {
                // Of one that several files had the linker keeps one.
                elsewhere.types.entry(type_signature.0).or_insert(head.base().saturating_add(type_offset.0));
            }
        }
        let shared = shared.map(Arc::new);
        // For who reads names by the main sections alone. Where code is the units say themselves: a table beside them may tell other places.
        main.sup = shared.clone();
        main.debug_aranges = gimli::DebugAranges::from(EndianSlice::new(&[], LittleEndian));
        Self {
            main: Arc::new(main),
            shared,
            elsewhere: Arc::new(elsewhere),
            all,
            whole,
            single,
            last_table: RefCell::default(),
        }
    }

    /// One split unit alone: its skeleton, and the sections that its entries are in.
    pub(super) fn joined(
        main: Arc<Dwarf<Bytes<'a>>>,
        skeleton: UnitHeader<Bytes<'a>>,
        dwarf: Dwarf<Bytes<'a>>,
    ) -> Self {
        let own = dwarf.units().next().ok().flatten();
        let head = own.map(|header| Head { header, start: 0, kind: Kind::Split(Arc::new(dwarf), skeleton) });
        let all = head.into_iter().collect();
        Self {
            main,
            shared: None,
            elsewhere: Arc::default(),
            all,
            whole: true,
            single: HashSet::new(),
            last_table: RefCell::default(),
        }
    }

    pub(super) fn as_slice(&self) -> &[Head<'a>] {
        &self.all
    }

    /// Whether there are no more than these.
    pub(super) fn are_all(&self) -> bool {
        self.whole
    }

    /// Whether no entry of any unit lies deeper in others than this: whoever reads them by recursion may then do so.
    pub(super) fn is_shallow(&self, most: isize) -> bool {
        // What cannot be read on from is nobody's. A skeleton's own entries are read where those of its file are not.
        let mut units = self.all.iter().filter_map(|head| self.open(head));
        self.whole && units.all(|unit| unit.skeleton.iter().chain([&unit.unit]).all(|unit| is_shallow(unit, most)))
    }

    /// The sections of the image, and the split units that are among these and can be told by their numbers.
    pub(super) fn into_parts(self) -> (Arc<Dwarf<Bytes<'a>>>, HashSet<u64>) {
        (self.main, self.single)
    }

    /// Reads a unit; `None` if that cannot be done.
    pub(super) fn open(&self, head: &Head<'a>) -> Option<Located<'a>> {
        let start = head.start;
        let elsewhere = Arc::clone(&self.elsewhere);
        let (dwarf, skeleton) = match &head.kind {
            Kind::Split(dwarf, skeleton) => (dwarf, skeleton),
            Kind::Own | Kind::Shared => {
                let shared = if matches!(head.kind, Kind::Shared) { Some(self.shared.as_ref()?) } else { None };
                let main = Arc::clone(shared.unwrap_or(&self.main));
                let section = if shared.is_some() { start } else { 0 };
                let table = self.table(&main, shared.is_some(), &head.header)?;
                let unit = Unit::new_with_abbreviations(&main, head.header, table).ok()?;
                return Some(Located {
                    unit,
                    dwarf: Arc::clone(&main),
                    start,
                    section,
                    main,
                    skeleton: None,
                    elsewhere,
                });
            }
        };
        let main = Arc::clone(&self.main);
        let skeleton = unit(&main, *skeleton)?;
        let mut unit = unit(dwarf, head.header)?;
        unit.copy_relocated_attributes(&skeleton);
        // Files are numbered as in the image's lines.
        unit.line_program = skeleton.line_program.clone();
        unit.comp_dir = skeleton.comp_dir.or(unit.comp_dir);
        let dwarf = Arc::clone(dwarf);
        Some(Located { unit, dwarf, start, section: start, main, skeleton: Some(skeleton), elsewhere })
    }
}

impl Heads<'_> {
    /// The abbreviations of a unit that is not split.
    fn table(
        &self,
        dwarf: &Dwarf<Bytes<'_>>,
        shared: bool,
        header: &UnitHeader<Bytes<'_>>,
    ) -> Option<Arc<Abbreviations>> {
        let at = header.debug_abbrev_offset().0;
        let mut last = self.last_table.borrow_mut();
        if let Some((known, of_shared, table)) = &*last
            && (*known, *of_shared) == (at, shared)
        {
            return Some(Arc::clone(table));
        }
        let table = Arc::new(abbreviations_within(dwarf, header, LONGEST_OWN_TABLE)?);
        *last = Some((at, shared, Arc::clone(&table)));
        Some(table)
    }
}

fn is_shallow(unit: &Unit<Bytes<'_>>, most: isize) -> bool {
    let Ok(mut entries) = unit.entries_raw(None) else { return true };
    while !entries.is_empty() {
        if entries.next_depth() > most {
            return false;
        }
        let Ok(entry) = entries.read_abbreviation() else { break };
        if entry.is_some_and(|entry| entries.skip_attributes(entry.attributes()).is_err()) {
            break;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use gimli::{AttributeValue, DebugInfoOffset, DwarfSections, SectionId};

    use super::*;
    use crate::symbols::sections::Room;

    type Owned = DwarfSections<Vec<u8>>;

    /// So many units of version 5, each of a type, without entries but its own, that have this table in common.
    fn of_types(units: usize, table: &[u8]) -> Owned {
        let rest = [&[5, 0, 2, 8][..], &[0; 4], &[7; 8], &24_u32.to_le_bytes(), &[1]].concat();
        let unit = [&(rest.len() as u32).to_le_bytes()[..], &rest].concat();
        let Ok::<_, Infallible>(sections) = DwarfSections::load(|id| {
            Ok(match id {
                SectionId::DebugInfo => unit.repeat(units),
                SectionId::DebugAbbrev => table.to_vec(),
                _ => Vec::new(),
            })
        });
        sections
    }

    /// One abbreviation.
    const TABLE: [u8; 6] = [1, 0x41, 0, 0, 0, 0];

    fn read(sections: &Owned) -> Dwarf<Bytes<'_>> {
        sections.borrow(|section| EndianSlice::new(section, LittleEndian))
    }

    #[test]
    fn a_type_s_unit_in_the_shared_file_refers_to_entries_of_that_file() {
        let [main, shared] = [of_types(1, &TABLE), of_types(1, &TABLE)];
        let split = Split::read(&[], &Room::new());
        let heads = Heads::of(read(&main), Some(read(&shared)), &split);
        let bases: Vec<usize> = heads.as_slice().iter().map(Head::base).collect();
        assert_eq!(bases, [0, 25]);
        let referred = heads.as_slice().iter().map(|head| {
            let unit = heads.open(head).expect("it can be read");
            unit.referred(AttributeValue::DebugInfoRef(DebugInfoOffset(24)))
        });
        assert_eq!(referred.collect::<Vec<_>>(), [Some(24), Some(25 + 24)]);
    }

    #[test]
    fn units_that_follow_each_other_have_their_common_table_read_once_and_each_file_has_its_own() {
        let [main, shared] = [of_types(2, &TABLE), of_types(1, &TABLE)];
        let split = Split::read(&[], &Room::new());
        let heads = Heads::of(read(&main), Some(read(&shared)), &split);
        let open = |head| heads.open(head).expect("it can be read").unit.abbreviations;
        let tables: Vec<_> = heads.as_slice().iter().map(open).collect();
        let [first, second, other] = &tables[..] else { panic!("{} units", tables.len()) };
        assert!(Arc::ptr_eq(first, second) && !Arc::ptr_eq(first, other));
    }

    #[test]
    fn a_table_of_any_length_is_not_read() {
        let endless: Vec<u8> = (1..1 << 17)
            .flat_map(|code: u32| {
                let code = [code as u8 | 0x80, (code >> 7) as u8 | 0x80, (code >> 14) as u8];
                [&code[..], &[0x41, 0, 3, 8, 0, 0]].concat()
            })
            .chain([0])
            .collect();
        assert!(endless.len() > LONGEST_OWN_TABLE);
        let main = of_types(1, &endless);
        let split = Split::read(&[], &Room::new());
        let heads = Heads::of(read(&main), None, &split);
        assert!(heads.open(&heads.as_slice()[0]).is_none());
    }
}
