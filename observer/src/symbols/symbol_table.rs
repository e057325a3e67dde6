//! The symbol table, where one is left.
//!
//! Does not know: mangling. Finding anything must not depend on it: production binaries are stripped.

use object::LittleEndian;
use object::elf;
use object::read::elf::{FileHeader, Sym, SymbolTable};

use super::header::Header;
use crate::model::VirtAddr;

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

/// Every defined symbol with a readable name.
pub(super) fn iter(bytes: &[u8]) -> impl Iterator<Item = Symbol<'_>> {
    open(bytes).into_iter().flat_map(|table| {
        let strings = table.strings();
        table.iter().filter_map(move |symbol| {
            if symbol.is_undefined(LittleEndian) || symbol.st_value(LittleEndian) == 0 {
                return None;
            }
            let kind = symbol.st_type();
            if kind == elf::STT_TLS || kind == elf::STT_FILE || kind == elf::STT_SECTION {
                return None;
            }
            let name = std::str::from_utf8(symbol.name(LittleEndian, strings).ok()?).ok()?;
            Some(Symbol {
                name,
                at: VirtAddr(symbol.st_value(LittleEndian)),
                size: symbol.st_size(LittleEndian),
                is_function: kind == elf::STT_FUNC,
            })
        })
    })
}
