//! A unit of debug information that is read, and what the values of its attributes tell: other entries, addresses, code, text.
//!
//! Does not know: which entries are wanted, nor how the unit was found.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::{Deref, Range};
use std::sync::Arc;

use gimli::{Attribute, AttributeValue, Dwarf, Operation, Section, Unit, UnitOffset};

use super::sections::Bytes;
use crate::model::VirtAddr;

/// A unit that is read.
pub(super) struct Located<'a> {
    pub(super) unit: Unit<Bytes<'a>>,
    pub(super) dwarf: Arc<Dwarf<Bytes<'a>>>,
    pub(super) start: usize,
    /// The number of the first entry of the section that others are counted from: a type's own unit may have a section of its own.
    pub(super) section: usize,
    pub(super) main: Arc<Dwarf<Bytes<'a>>>,
    pub(super) skeleton: Option<Unit<Bytes<'a>>>,
    pub(super) elsewhere: Arc<Elsewhere>,
}

impl<'a> Deref for Located<'a> {
    type Target = Unit<Bytes<'a>>;

    fn deref(&self) -> &Self::Target {
        &self.unit
    }
}

impl<'a> Located<'a> {
    /// The number of the unit itself, from which its entries are counted.
    pub(super) fn base(&self) -> usize {
        self.start.saturating_add(self.unit.header.offset().0)
    }

    /// The number of the entry that an attribute refers to.
    pub(super) fn referred(&self, value: AttributeValue<Bytes<'_>>) -> Option<usize> {
        match value {
            // Numbers behind the unit are another's.
            AttributeValue::UnitRef(UnitOffset(offset)) => {
                let is_own = offset < self.unit.header.length_including_self();
                is_own.then(|| self.base().checked_add(offset))?
            }
            // A split unit is read alone: what is counted from the beginning of all is not there.
            AttributeValue::DebugInfoRef(offset) if self.skeleton.is_none() => self.section.checked_add(offset.0),
            AttributeValue::DebugInfoRefSup(offset) => self.elsewhere.shared?.checked_add(offset.0),
            AttributeValue::DebugTypesRef(signature) => self.elsewhere.types.get(&signature.0).copied(),
            _ => None,
        }
    }

    /// The address that an attribute tells.
    pub(super) fn address(&self, value: AttributeValue<Bytes<'a>>) -> Option<VirtAddr> {
        address(&self.dwarf, &self.unit, value)
    }

    /// The one address that an expression tells of a variable.
    pub(super) fn place(&self, location: AttributeValue<Bytes<'a>>) -> Option<VirtAddr> {
        let expression = location.exprloc_value()?;
        let mut operations = expression.operations(self.unit.encoding());
        match (operations.next().ok()?, operations.next().ok()?) {
            (Some(Operation::Address { address }), None) => Some(VirtAddr(address)),
            (Some(Operation::AddressIndex { index }), None) => self.dwarf.address(&self.unit, index).ok().map(VirtAddr),
            _ => None,
        }
    }

    /// Calls `each` with each piece of its code, as far as it tells them, until it gives nothing; `None` then, and where they cannot be
    /// read, or are more than are `left`.
    pub(super) fn ranges(&self, left: &Cell<usize>, each: impl FnMut(Range<VirtAddr>) -> Option<()>) -> Option<()> {
        let (dwarf, unit) = match &self.skeleton {
            Some(skeleton) => (&self.main, skeleton),
            None => (&self.dwarf, &self.unit),
        };
        let mut entries = unit.entries_raw(None).ok()?;
        let own = entries.read_abbreviation().ok()??;
        let mut extent = Extent::default();
        for specification in own.attributes() {
            extent.take(&entries.read_attribute(*specification).ok()?);
        }
        extent.pieces(dwarf, unit, left, each)
    }

    /// The same of the code of one of its functions.
    pub(super) fn code(
        &self,
        extent: &Extent<'a>,
        left: &Cell<usize>,
        each: impl FnMut(Range<VirtAddr>) -> Option<()>,
    ) -> Option<()> {
        extent.pieces(&self.dwarf, &self.unit, left, each)
    }

    /// Where the text of an attribute begins.
    pub(super) fn text(&self, value: AttributeValue<Bytes<'a>>) -> Option<&'a [u8]> {
        text(&self.dwarf, &self.unit, value)
    }

    /// The same of a name among its lines.
    pub(super) fn text_of_lines(&self, value: AttributeValue<Bytes<'a>>) -> Option<&'a [u8]> {
        text(&self.main, self.skeleton.as_ref().unwrap_or(&self.unit), value)
    }
}

fn address<'a>(dwarf: &Dwarf<Bytes<'a>>, unit: &Unit<Bytes<'a>>, value: AttributeValue<Bytes<'a>>) -> Option<VirtAddr> {
    dwarf.attr_address(unit, value).ok()?.map(VirtAddr)
}

/// What attributes tell of where code is.
#[derive(Default)]
pub(super) struct Extent<'a> {
    low: Option<AttributeValue<Bytes<'a>>>,
    high: Option<AttributeValue<Bytes<'a>>>,
    ranges: Option<AttributeValue<Bytes<'a>>>,
}

impl<'a> Extent<'a> {
    /// Takes what an attribute tells of it.
    pub(super) fn take(&mut self, attribute: &Attribute<Bytes<'a>>) {
        match attribute.name() {
            gimli::DW_AT_low_pc => self.low = Some(attribute.value()),
            gimli::DW_AT_high_pc => self.high = Some(attribute.value()),
            gimli::DW_AT_ranges => self.ranges = Some(attribute.value()),
            _ => {}
        }
    }

    /// Calls `each` with each piece, until it gives nothing; `None` then, and where one cannot be read. Each entry of a list is taken
    /// from what is `left`, those of no code too: any number of units and functions may name the longest list that there is.
    pub(super) fn pieces(
        &self,
        dwarf: &Dwarf<Bytes<'a>>,
        unit: &Unit<Bytes<'a>>,
        left: &Cell<usize>,
        mut each: impl FnMut(Range<VirtAddr>) -> Option<()>,
    ) -> Option<()> {
        let listed = match self.ranges {
            Some(ranges) => dwarf.attr_ranges(unit, ranges).ok()?,
            None => None,
        };
        if let Some(mut listed) = listed {
            while let Some(raw) = listed.next_raw().ok()? {
                left.set(left.get().checked_sub(1)?);
                if let Some(range) = listed.convert_raw(raw).ok()? {
                    each(VirtAddr(range.begin)..VirtAddr(range.end))?;
                }
            }
            return Some(());
        }
        let Some((low, high)) = self.low.zip(self.high) else { return Some(()) };
        let start = address(dwarf, unit, low)?;
        let end = match high {
            AttributeValue::Udata(length) => VirtAddr(start.0.checked_add(length)?),
            high => address(dwarf, unit, high)?,
        };
        left.set(left.get().checked_sub(1)?);
        each(start..end)
    }
}

fn text<'a>(dwarf: &Dwarf<Bytes<'a>>, unit: &Unit<Bytes<'a>>, value: AttributeValue<Bytes<'a>>) -> Option<&'a [u8]> {
    let (section, offset) = match value {
        AttributeValue::String(text) => (text, 0),
        AttributeValue::DebugStrRef(offset) => (*dwarf.debug_str.reader(), offset.0),
        AttributeValue::DebugStrRefSup(offset) => (*dwarf.sup()?.debug_str.reader(), offset.0),
        AttributeValue::DebugLineStrRef(offset) => (*dwarf.debug_line_str.reader(), offset.0),
        AttributeValue::DebugStrOffsetsIndex(index) => {
            (*dwarf.debug_str.reader(), dwarf.string_offset(unit, index).ok()?.0)
        }
        _ => return None,
    };
    section.slice().get(offset..)
}

/// The numbers of entries that attributes tell otherwise than by where they are in their own section.
#[derive(Default)]
pub(super) struct Elsewhere {
    /// The first of the shared file's.
    pub(super) shared: Option<usize>,
    /// Of types that have units of their own, by what the compiler numbered them by their content.
    pub(super) types: HashMap<u64, usize>,
}
