//! Units written by hand, byte for byte, that cost much more than they have bytes.

use gimli::{DwarfSections, EndianSlice, LittleEndian, SectionId};

use super::*;
use crate::symbols::own;
use crate::symbols::sections::Room;
use crate::symbols::split::Split;

/// Where the code of a unit is.
const AT: VirtAddr = VirtAddr(0x1000);

/// What becomes of units with these entries, by these abbreviations.
fn checked(abbreviations: &[u8], unit: &[u8], units: usize, ranges: Vec<u8>, line: Vec<u8>) -> Result<(), TooCostly> {
    let header = [&(unit.len() as u32 + 7).to_le_bytes()[..], &[4, 0, 0, 0, 0, 0, 8]].concat();
    let info = [&header[..], unit].concat().repeat(units);
    let Ok::<_, std::convert::Infallible>(sections) = DwarfSections::load(|id| {
        Ok(match id {
            SectionId::DebugInfo => info.clone(),
            SectionId::DebugAbbrev => abbreviations.to_vec(),
            SectionId::DebugRanges => ranges.clone(),
            SectionId::DebugLine => line.clone(),
            _ => Vec::new(),
        })
    });
    let split = Split::read(&[], &Room::new());
    let main = sections.borrow(|section| EndianSlice::new(section, LittleEndian));
    check(&Heads::of(main, None, &split), &[AT])
}

/// A list of so many ranges, each this far behind the one before, and this long.
fn list(ranges: u64, length: u64) -> Vec<u8> {
    let pairs = (1..=ranges).flat_map(|n| [n * 0x10000, n * 0x10000 + length]).chain([0, 0]);
    pairs.flat_map(u64::to_le_bytes).collect()
}

/// A unit that has a list, and functions with the same.
const LISTED: &[u8] = &[1, 0x11, 1, 0x55, 0x17, 0, 0, 2, 0x2e, 0, 0x55, 0x17, 0, 0, 0];

#[test]
fn units_that_share_a_list_of_ranges_pay_for_it_each() {
    let unit = [1, 0, 0, 0, 0, 0];
    for length in [1, 0] {
        assert_eq!(checked(LISTED, &unit, 1, list(100_000, length), vec![]), Ok(()));
        assert_eq!(checked(LISTED, &unit, 42, list(100_000, length), vec![]), Err(TooCostly::Pieces));
    }
}

#[test]
fn functions_that_share_a_list_pay_for_it_each_where_a_frame_may_be_in_their_unit() {
    // The unit's own list begins with a range around the place, or with another.
    let around =
        |from: u64| [from.to_le_bytes().to_vec(), (from + 0x10).to_le_bytes().to_vec(), list(100_000, 1)].concat();
    let at_start = |n| [&[1][..], &0_u32.to_le_bytes(), &[2, 16, 0, 0, 0].repeat(n), &[0]].concat();
    assert_eq!(checked(LISTED, &at_start(1), 1, around(AT.0), vec![]), Ok(()));
    assert_eq!(checked(LISTED, &at_start(42), 1, around(AT.0), vec![]), Err(TooCostly::Pieces));
    assert_eq!(checked(LISTED, &at_start(42), 1, around(AT.0 + 1), vec![]), Ok(()), "they are not looked for");
}

#[test]
fn what_was_put_into_functions_pays_for_its_lists_too() {
    // A unit and a function of one extent, and in it what was put there.
    let abbreviations = [
        &[1, 0x11, 1, 0x11, 1, 0x12, 7, 0, 0][..],
        &[2, 0x2e, 1, 0x11, 1, 0x12, 7, 0, 0],
        &[3, 0x1d, 0, 0x55, 0x17, 0, 0, 0],
    ];
    let extent = |code: u8, at: u64| [&[code][..], &at.to_le_bytes(), &0x10_u64.to_le_bytes()].concat();
    let unit = |n: usize, at: u64| [extent(1, AT.0), extent(2, at), [3, 0, 0, 0, 0].repeat(n), vec![0, 0]].concat();
    let of = |unit: Vec<u8>| checked(&abbreviations.concat(), &unit, 1, list(100_000, 0), vec![]);
    assert_eq!(of(unit(1, AT.0)), Ok(()));
    assert_eq!(of(unit(42, AT.0)), Err(TooCostly::Pieces));
    assert_eq!(of(unit(42, AT.0 + 0x10)), Ok(()), "of another function it is not looked at");
}

/// Lines of version 4: so many files, and a program of so many bytes.
fn lines(files: usize, program: usize) -> Vec<u8> {
    let head = [&[1, 1, 1, 0xfb, 14, 13][..], &[0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1], &[0]].concat();
    let head = [head, b"a\0\0\0\0".repeat(files), vec![0]].concat();
    let rest = [&(head.len() as u32).to_le_bytes()[..], &head, &vec![33; program]].concat();
    [&(rest.len() as u32 + 2).to_le_bytes()[..], &[4, 0], &rest].concat()
}

/// A unit that has code, and lines.
fn with_lines(units: usize, at: VirtAddr, line: Vec<u8>) -> Result<(), TooCostly> {
    let unit = [&[1][..], &at.0.to_le_bytes(), &0x10_u64.to_le_bytes(), &[0; 4]].concat();
    checked(&[1, 0x11, 0, 0x11, 1, 0x12, 7, 0x10, 0x17, 0, 0, 0], &unit, units, vec![], line)
}

#[test]
fn a_program_of_lines_is_not_run_where_it_is_longer_than_any_or_shared_by_many() {
    let (other, program) = (VirtAddr(AT.0 + 1), 1 << 20);
    assert_eq!(with_lines(1, AT, lines(1, 16 << 20)), Ok(()));
    assert_eq!(with_lines(1, other, lines(1, (16 << 20) + 1)), Err(TooCostly::Lines));
    assert_eq!(with_lines(31, AT, lines(1, program)), Ok(()));
    assert_eq!(with_lines(33, AT, lines(1, program)), Err(TooCostly::Lines));
    assert_eq!(with_lines(33, other, lines(1, program)), Ok(()), "no frame is in their code");
}

#[test]
fn names_of_files_that_units_share_are_paid_for_by_each() {
    let other = VirtAddr(AT.0 + 1);
    assert_eq!(with_lines(41, other, lines(100_000, 0)), Ok(()));
    assert_eq!(with_lines(42, other, lines(100_000, 0)), Err(TooCostly::Pieces));
}

#[test]
fn what_a_compiler_wrote_is_a_small_part_of_what_is_read() {
    let debug = Debug::of(own::image()).expect("debug information");
    let heads = debug.heads();
    let places: Vec<VirtAddr> = own::image().functions().starts().collect();
    let left = Left { kept: Cell::new(usize::MAX), lines: Cell::new(usize::MAX), places };
    for head in heads.as_slice() {
        left.take(&heads.open(head).expect("it can be read"), head.has_code()).expect("it is cheap enough");
    }
    let (kept, lines) = (usize::MAX - left.kept.get(), usize::MAX - left.lines.get());
    assert!(kept > 1000 && kept < MOST_KEPT / 2 && lines > 1000 && lines < MOST_LINES, "{kept} kept, {lines} of lines");
}
