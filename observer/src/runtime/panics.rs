//! Where a Rust panic begins to unwind: the standard library (`panic_unwind`, `gcc.rs`) stamps each exception that it
//! raises with its class, and compares that class where it catches one.
//!
//! Does not know: tokio. Other languages' exceptions have other classes.

use std::ops::Range;

use iced_x86::{Mnemonic, OpKind};
use memchr::memmem;

use super::{RaiseSite, Raises};
use crate::model::VirtAddr;
use crate::symbols::{Boundary, Image, Segment, Sweep};

/// As the word lies in memory: today's standard library takes the letters in that order, earlier ones (up to 1.6x) wrote
/// the word as a number, most significant byte first.
const CLASSES: [[u8; 8]; 2] = [*b"MOZ\0RUST", *b"TSUR\0ZOM"];
/// The class is loaded by `movabs reg, CLASS`: a prefix and an opcode byte before it.
const OPCODE_LEN: usize = 2;
/// Within so many instructions behind its load the class is stored or compared.
const USED_WITHIN: usize = 24;
/// So many loads are looked at; a program has two, one that raises and one that catches.
const MOST_LOADS: usize = 64;

/// The places where the image raises Rust panics, or why there is none.
pub(super) fn raises(image: &Image<'_>) -> Raises {
    let loads = loads(image);
    let sites: Vec<_> = loads.iter().take(MOST_LOADS).filter_map(|&at| stored(image, at)).collect();
    if !sites.is_empty() {
        return Raises::At(sites);
    }
    if !loads.is_empty() || elsewhere_in(image) {
        return Raises::NotFound;
    }
    match image.needed().iter().find(|library| library.starts_with("libstd-")) {
        Some(library) => Raises::Elsewhere((*library).to_owned()),
        None => Raises::Aborts,
    }
}

/// Where code looks like a load of the class into a register.
fn loads(image: &Image<'_>) -> Vec<VirtAddr> {
    let mut found = Vec::new();
    for (segment, class) in image.segments().iter().filter(|s| s.is_executable()).flat_map(|s| CLASSES.map(|c| (s, c)))
    {
        let code = image.bytes().get(segment.file()).unwrap_or_default();
        let places = memmem::find_iter(code, &class).filter_map(|at| {
            let start = at.checked_sub(OPCODE_LEN)?;
            matches!(code.get(start..at)?, [0x48 | 0x49, 0xb8..=0xbf]).then_some(start)
        });
        found.extend(places.map(|at| VirtAddr(segment.start().0 + at as u64)));
    }
    found.sort_unstable();
    found
}

/// Whether the class stands among the constants, from where code may load it, too.
fn elsewhere_in(image: &Image<'_>) -> bool {
    let bytes = |s: &Segment| image.bytes().get(s.file()).unwrap_or_default();
    image.segments().iter().any(|s| CLASSES.iter().any(|class| memmem::find(bytes(s), class).is_some()))
}

/// The load at `at`, if what it loads goes to memory before it is compared: that is a raise, not a catch.
fn stored(image: &Image<'_>, at: VirtAddr) -> Option<RaiseSite> {
    let (range, boundary) = match image.functions().containing(at) {
        Some(function) => (function, Boundary::FromFunctionStart),
        None => (until_segment_end(image, at)?, Boundary::FromPattern),
    };
    let mut from_load = Sweep::new(image, range).skip_while(|i| i.ip() < at.0);
    let load = from_load.next().filter(|i| i.ip() == at.0 && i.mnemonic() == Mnemonic::Mov)?;
    let register = load.op0_register();
    for instruction in from_load.take(USED_WITHIN) {
        let reads = (1..instruction.op_count()).any(|n| instruction.op_register(n) == register);
        match instruction.mnemonic() {
            Mnemonic::Mov if reads && instruction.op0_kind() == OpKind::Memory => {
                return Some(RaiseSite { at, boundary });
            }
            Mnemonic::Cmp | Mnemonic::Xor | Mnemonic::Sub if reads || instruction.op0_register() == register => {
                return None;
            }
            Mnemonic::Mov if instruction.op0_register() == register => return None,
            _ => {}
        }
    }
    None
}

fn until_segment_end(image: &Image<'_>, at: VirtAddr) -> Option<Range<VirtAddr>> {
    let length = image.slice_from(at)?.len().min(15 * USED_WITHIN);
    Some(at..VirtAddr(at.0.checked_add(length as u64)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::own;
    use crate::symbols::tiny::{CODE, Tiny};

    fn raises_in(code: &[u8]) -> Raises {
        let bytes = Tiny::new(code, &[0; 8]).build();
        raises(&Image::parse(&bytes).expect("tiny images are images"))
    }

    fn load(class: [u8; 8], then: &[u8]) -> Vec<u8> {
        [&[0x55, 0x48, 0xb9], &class[..], then, &[0xc3]].concat() // push rbp; movabs rcx, class
    }

    #[test]
    fn this_program_raises_where_the_standard_library_starts_panics() {
        let bytes = own::bytes();
        let image = Image::parse(&bytes).expect("the test binary is an image");
        let found = raises(&image);
        let start = image.symbols().find(|s| s.is_function && s.name.contains("___rust_start_panic"));
        let start = start.expect("the standard library is in the test binary");
        let within = start.at..VirtAddr(start.at.0 + start.size);
        assert_eq!(found.sites().len(), 1);
        assert!(found.sites().iter().all(|site| within.contains(&site.at)), "{found:?} in {within:?}");
    }

    #[test]
    fn a_class_that_is_stored_is_raised_and_one_that_is_compared_is_caught() {
        let site = RaiseSite { at: VirtAddr(CODE + 1), boundary: Boundary::FromFunctionStart };
        let store = [0x48, 0x89, 0x08]; // mov [rax], rcx
        assert_eq!(raises_in(&load(CLASSES[0], &store)), Raises::At(vec![site]));
        assert_eq!(raises_in(&load(CLASSES[1], &store)), Raises::At(vec![site]), "as earlier compilers wrote it");
        let compare = [0x48, 0x39, 0x0f, 0x48, 0x89, 0x08]; // cmp [rdi], rcx; mov [rax], rcx
        assert_eq!(raises_in(&load(CLASSES[0], &compare)), Raises::NotFound);
    }

    #[test]
    fn without_the_class_panics_abort() {
        assert_eq!(raises_in(&[0xc3]), Raises::Aborts);
    }
}
