//! The symbol table, where one is left.
//!
//! Does not know: mangling. Finding anything must not depend on it: production binaries are stripped.

use object::LittleEndian;
use object::elf;
use object::read::elf::{FileHeader, SectionHeader, Sym, SymbolTable};

use super::header::Header;
use crate::model::VirtAddr;

/// Longest name that is read.
pub(super) const LONGEST: usize = 1 << 16;

/// A defined symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'d> {
    /// As the compiler mangled it.
    pub name: &'d str,
    /// Its link-time address.
    pub at: VirtAddr,
    /// Its size in bytes, 0 where the compiler gave none.
    pub size: u64,
    /// It names code.
    pub is_function: bool,
}

/// The `SHT_SYMTAB`, or `None` where there is none or its headers are unreadable.
pub(super) fn open(bytes: &[u8]) -> Option<SymbolTable<'_, Header>> {
    let header = Header::parse(bytes).ok()?;
    let sections = header.sections(LittleEndian, bytes).ok()?;
    let table = sections.symbols(LittleEndian, bytes, elf::SHT_SYMTAB).ok()?;
    (!table.is_empty()).then_some(table)
}

/// The strings that its names are among.
fn strings<'d>(bytes: &'d [u8], table: &SymbolTable<'d, Header>) -> Option<&'d [u8]> {
    let sections = Header::parse(bytes).ok()?.sections(LittleEndian, bytes).ok()?;
    sections.section(table.string_section()).ok()?.data(LittleEndian, bytes).ok()
}

/// The name at a place among the strings; `None` where it does not end soon: any number of symbols may have one that is as long as all.
fn name(strings: &[u8], at: u32) -> Option<&str> {
    let rest = strings.get(usize::try_from(at).ok()?..)?;
    let rest = rest.get(..=LONGEST).unwrap_or(rest);
    std::str::from_utf8(rest.get(..memchr::memchr(0, rest)?)?).ok()
}

/// Every defined symbol with a readable name.
pub(super) fn iter(bytes: &[u8]) -> impl Iterator<Item = Symbol<'_>> {
    open(bytes).into_iter().flat_map(|table| {
        let strings = strings(bytes, &table).unwrap_or_default();
        table.iter().filter_map(move |symbol| {
            if symbol.is_undefined(LittleEndian) || symbol.st_value(LittleEndian) == 0 {
                return None;
            }
            let kind = symbol.st_type();
            if kind == elf::STT_TLS || kind == elf::STT_FILE || kind == elf::STT_SECTION {
                return None;
            }
            Some(Symbol {
                name: name(strings, symbol.st_name(LittleEndian))?,
                at: VirtAddr(symbol.st_value(LittleEndian)),
                size: symbol.st_size(LittleEndian),
                is_function: kind == elf::STT_FUNC,
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_does_not_end_soon_is_not_read_to_its_end() {
        let text = |length: usize| [&vec![b'a'; length][..], b"\0b\0"].concat();
        assert_eq!(name(&text(LONGEST), 0).map(str::len), Some(LONGEST));
        assert_eq!(name(&text(LONGEST + 1), 0), None);
        assert_eq!(name(&text(LONGEST + 1), LONGEST as u32 + 2), Some("b"), "others are");
        assert_eq!(name(b"cut", 0), None, "what ends with the strings ends nowhere");
        assert_eq!(name(b"cut", 4), None);
    }
}
