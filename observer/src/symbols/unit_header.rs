//! What is read of a unit before its entries: its number, if it is split, and its table of abbreviations.
//!
//! Does not know: other units, nor what the entries tell.

use std::sync::Arc;

use gimli::{
    Abbreviations, Attribute, AttributeValue, DebugAbbrev, DebugAbbrevOffset, Dwarf, EndianSlice, LittleEndian,
    Section, Unit, UnitHeader, UnitType,
};

use super::sections::Bytes;

/// A split unit's table of abbreviations is no longer; compilers write one or two thousand bytes.
const LONGEST_TABLE: usize = 64 << 10;
/// Nor is another's: whole programs may have one, of some ten thousand bytes.
pub(super) const LONGEST_OWN_TABLE: usize = 1 << 20;

/// Reads a split unit, with no longer a table of abbreviations than compilers write: thousands of units may share one of any length.
pub(super) fn unit<'a>(dwarf: &Dwarf<Bytes<'a>>, header: UnitHeader<Bytes<'a>>) -> Option<Unit<Bytes<'a>>> {
    let abbreviations = Arc::new(abbreviations(dwarf, &header)?);
    Unit::new_with_abbreviations(dwarf, header, abbreviations).ok()
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
    let abbreviations = abbreviations(dwarf, header)?;
    let mut entries = header.entries_raw(&abbreviations, None).ok()?;
    let own = entries.read_abbreviation().ok()??;
    let mut attributes = own.attributes().iter().map_while(|specification| entries.read_attribute(*specification).ok());
    attributes.find_map(|attribute: Attribute<Bytes<'_>>| match attribute.value() {
        AttributeValue::DwoId(id) => Some(id.0),
        _ => None,
    })
}

/// The abbreviations of a unit alone.
pub(super) fn abbreviations(dwarf: &Dwarf<Bytes<'_>>, header: &UnitHeader<Bytes<'_>>) -> Option<Abbreviations> {
    abbreviations_within(dwarf, header, LONGEST_TABLE)
}

pub(super) fn abbreviations_within(
    dwarf: &Dwarf<Bytes<'_>>,
    header: &UnitHeader<Bytes<'_>>,
    longest: usize,
) -> Option<Abbreviations> {
    let table = dwarf.debug_abbrev.reader().slice().get(header.debug_abbrev_offset().0..)?;
    let table = EndianSlice::new(table.get(..longest).unwrap_or(table), LittleEndian);
    DebugAbbrev::from(table).abbreviations(DebugAbbrevOffset(0)).ok()
}
