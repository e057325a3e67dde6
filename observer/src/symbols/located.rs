//! A unit of debug information that is read, and what the values of its attributes tell: other entries, addresses, code, text.
//!
//! Does not know: which entries are wanted, nor how the unit was found.

use std::collections::HashMap;
use std::ops::{Deref, Range};
use std::sync::Arc;

use gimli::{AttributeValue, Dwarf, Operation, RangeIter, Section, Unit, UnitOffset};

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
        self.dwarf.attr_address(&self.unit, value).ok()?.map(VirtAddr)
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

    /// The addresses of its code, as far as it tells them.
    pub(super) fn ranges(&self) -> Option<RangeIter<Bytes<'a>>> {
        match &self.skeleton {
            Some(skeleton) => self.main.unit_ranges(skeleton).ok(),
            None => self.dwarf.unit_ranges(&self.unit).ok(),
        }
    }

    /// Calls `each` with each piece of the code of one of its functions, by the three attributes that may tell it, until it gives
    /// nothing; `None` then, and where a piece cannot be read.
    pub(super) fn code(
        &self,
        low: Option<AttributeValue<Bytes<'a>>>,
        high: Option<AttributeValue<Bytes<'a>>>,
        ranges: Option<AttributeValue<Bytes<'a>>>,
        mut each: impl FnMut(Range<VirtAddr>) -> Option<()>,
    ) -> Option<()> {
        let listed = match ranges {
            Some(ranges) => self.dwarf.attr_ranges(&self.unit, ranges).ok()?,
            None => None,
        };
        if let Some(mut listed) = listed {
            while let Some(range) = listed.next().ok()? {
                each(VirtAddr(range.begin)..VirtAddr(range.end))?;
            }
            return Some(());
        }
        let Some((low, high)) = low.zip(high) else { return Some(()) };
        let start = self.address(low)?;
        let end = match high {
            AttributeValue::Udata(length) => VirtAddr(start.0.checked_add(length)?),
            high => self.address(high)?,
        };
        each(start..end)
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
