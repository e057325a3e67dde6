//! Split units written by hand, byte for byte: one function each, so that whatever is wrong in a file can be tried quickly.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::VirtAddr;
use crate::symbols::{Debug, Functions, Skeletons, SplitUnit, frame_names, own};

const ID: u64 = 0x1122_3344_5566_7788;
/// Where the function of the split unit stands.
const AT: u64 = 0x40_1000;

/// An ELF file with these sections.
fn elf(sections: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = own::bytes()[..64].to_vec();
    let mut names = vec![0];
    let mut headers = vec![[0_u8; 64]];
    let mut add = |name_at: usize, content: &[u8], bytes: &mut Vec<u8>| {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&(name_at as u32).to_le_bytes());
        header[4..8].copy_from_slice(&1_u32.to_le_bytes());
        header[0x18..0x20].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        header[0x20..0x28].copy_from_slice(&(content.len() as u64).to_le_bytes());
        bytes.extend_from_slice(content);
        headers.push(header);
    };
    for (name, content) in sections {
        add(names.len(), content, &mut bytes);
        names.extend([name.as_bytes(), b"\0"].concat());
    }
    let own_name = names.len();
    names.extend(b".shstrtab\0");
    add(own_name, &names, &mut bytes);
    let (table, count) = (bytes.len() as u64, headers.len() as u16);
    bytes.extend(headers.concat());
    bytes[0x20..0x28].fill(0);
    bytes[0x28..0x30].copy_from_slice(&table.to_le_bytes());
    bytes[0x38..0x3a].fill(0);
    bytes[0x3a..0x3c].copy_from_slice(&64_u16.to_le_bytes());
    bytes[0x3c..0x3e].copy_from_slice(&count.to_le_bytes());
    bytes[0x3e..0x40].copy_from_slice(&(count - 1).to_le_bytes());
    bytes
}

/// A unit of version 5.
fn unit(kind: u8, id: u64, entries: &[u8]) -> Vec<u8> {
    let rest = [&[5, 0, kind, 8][..], &[0; 4], &id.to_le_bytes(), entries].concat();
    [&(rest.len() as u32).to_le_bytes()[..], &rest].concat()
}

/// What the compiler leaves of a unit in an image: the file of its entries, the folder, where its addresses and its lines begin.
const SKELETON: &[u8] = b"\x01a.dwo\0/build\0\x08\0\0\0\0\0\0\0";

/// What an image has of a split unit.
fn image() -> Vec<u8> {
    image_of(unit(4, ID, SKELETON))
}

fn image_of(info: Vec<u8>) -> Vec<u8> {
    let abbreviations = [
        &[1, 0x4a, 0, 0x76, 8, 0x1b, 8, 0x73, 0x17, 0x10, 0x17, 0, 0][..],
        // The same with entries of its own; a function inside another; a unit that says itself which file has its entries.
        &[2, 0x4a, 1, 0x76, 8, 0x1b, 8, 0x73, 0x17, 0x10, 0x17, 0, 0],
        &[3, 0x1d, 1, 0, 0],
        &[4, 0x11, 0, 0x76, 8, 0x1b, 8, 0x73, 0x17, 0x10, 0x17, 0xb1, 0x42, 7, 0, 0],
        &[0],
    ];
    let addresses = [&12_u32.to_le_bytes()[..], &[5, 0, 8, 0], &AT.to_le_bytes()].concat();
    let sections = [
        (".debug_abbrev", abbreviations.concat()),
        (".debug_info", info),
        (".debug_addr", addresses),
        (".debug_line", lines()),
    ];
    elf(&sections)
}

/// Where the function begins, as the lines of the image have it.
const LINE: u8 = 7;

/// Lines of version 5: the function's first, without a column, and its end.
fn lines() -> Vec<u8> {
    let header =
        b"\x01\x01\x01\xfb\x0e\x0d\0\x01\x01\x01\x01\0\0\0\x01\0\0\x01\x01\x01\x08\x01/build\0\x01\x01\x08\x01a.rs\0";
    let rows = [&b"\0\x09\x02"[..], &AT.to_le_bytes(), &[3, LINE - 1, 1, 2, 0x10, 0, 1, 1]].concat();
    let rest = [&[5, 0, 8, 0][..], &(header.len() as u32).to_le_bytes(), header, &rows].concat();
    [&(rest.len() as u32).to_le_bytes()[..], &rest].concat()
}

/// The unit's entries: a namespace, and in it a function, which stands at the first address.
fn entries(id: u64) -> [(&'static str, Vec<u8>); 2] {
    entries_with(id, 0x10, LINE)
}

/// The same with a function of this length, declared at this line.
fn entries_with(id: u64, length: u8, line: u8) -> [(&'static str, Vec<u8>); 2] {
    let abbreviations = [
        &[1, 0x11, 1, 3, 8, 0x13, 5, 0, 0][..],
        &[2, 0x39, 1, 3, 8, 0, 0],
        &[3, 0x2e, 0, 3, 8, 0x11, 0x1b, 0x12, 6, 0x3b, 0x0b, 0, 0],
        &[0],
    ];
    let entries = [&b"\x01unit\0\x1c\0\x02space\0\x03function<u8>\0\x00"[..], &[length, 0, 0, 0, line, 0, 0]].concat();
    [(".debug_abbrev.dwo", abbreviations.concat()), (".debug_info.dwo", unit(5, id, &entries))]
}

fn file(id: u64) -> Vec<u8> {
    elf(&entries(id))
}

/// A package whose table says that this unit is in it.
fn package(id: u64, of: u64) -> Vec<u8> {
    let [abbreviations, info] = entries(of);
    let mut slots = [[0_u8; 8]; 2];
    let mut rows = [[0_u8; 4]; 2];
    (slots[(id & 1) as usize], rows[(id & 1) as usize]) = (id.to_le_bytes(), 1_u32.to_le_bytes());
    let words = |words: &[usize]| words.iter().flat_map(|word| (*word as u32).to_le_bytes()).collect::<Vec<u8>>();
    let index = [
        words(&[5, 2, 1, 2]),
        slots.concat(),
        rows.concat(),
        words(&[1, 3]),
        words(&[0, 0]),
        words(&[info.1.len(), abbreviations.1.len()]),
    ];
    elf(&[abbreviations, info, (".debug_cu_index", index.concat())])
}

/// The names of the functions at the address.
fn named(image: &[u8], files: &[&[u8]]) -> Vec<String> {
    let debug = Debug::read(image, None, files).expect("debug information");
    debug.functions(&HashSet::from([VirtAddr(AT)])).into_values().collect()
}

#[test]
fn an_image_tells_the_unit_whose_entries_lie_elsewhere() {
    let unit = SplitUnit { id: ID, folder: Some("/build".to_owned()), file: "a.dwo".to_owned() };
    let known = Functions::known(&[]);
    for (bytes, told) in [(image(), vec![unit]), (file(ID), vec![])] {
        assert_eq!(Vec::from_iter(Skeletons::read(&bytes, &known).units().cloned()), told);
        assert_eq!(Skeletons::are_in(&bytes), !told.is_empty());
    }
}

#[test]
fn entries_in_a_file_or_in_a_package_are_read_with_the_addresses_of_the_image() {
    let image = image();
    assert_eq!(named(&image, &[]), [""; 0]);
    for file in [file(ID), package(ID, ID)] {
        assert!(SplitFile::parse(&file).is_ok_and(|file| file.has(ID) && !file.has(ID + 1)));
        assert_eq!(named(&image, &[&file]), ["space::function<u8>"]);
        let debug = Debug::read(&image, None, &[&file]).expect("debug information");
        assert!(debug.heads().is_shallow(3) && !debug.heads().is_shallow(1), "its depth is known, too");
    }
}

#[test]
fn entries_of_another_unit_are_not_believed_whatever_a_table_says() {
    let image = image();
    for file in [file(ID + 2), package(ID + 2, ID + 2), package(ID, ID + 2)] {
        assert!(SplitFile::parse(&file).is_ok_and(|file| !file.has(ID)));
        assert_eq!(named(&image, &[&file]), [""; 0]);
    }
    // Another unit's package before it is no harm.
    assert_eq!(named(&image, &[&package(ID, ID + 2), &file(ID)]), ["space::function<u8>"]);
}

#[test]
fn entries_of_another_build_are_refused_where_lines_or_lengths_tell_them_though_the_number_is_the_same() {
    let (image, wanted) = (image(), HashSet::from([ID]));
    let had = |known: &Functions, file: &[u8]| Skeletons::read(&image, known).had_by(file, &wanted);
    let changed = |length, line| elf(&entries_with(ID, length, line));
    let known = Functions::known(&[(AT, AT + 0x10)]);
    assert_eq!(had(&known, &file(ID)), Ok(wanted.clone()));
    assert_eq!(had(&known, &package(ID, ID)), Ok(wanted.clone()));
    assert_eq!(had(&known, &changed(0x10, LINE + 1)), Err(NotSplit::Changed(ID)), "a line came in above");
    assert_eq!(had(&known, &changed(0x11, LINE)), Err(NotSplit::Changed(ID)), "it is longer");
    let moved = Functions::known(&[(AT - 8, AT + 0x10)]);
    assert_eq!(had(&moved, &file(ID)), Err(NotSplit::Changed(ID)), "it begins elsewhere");
    assert_eq!(had(&known, &file(ID + 1)), Err(NotSplit::OfAnother(ID)));
    // What the linker left out is at no address.
    assert_eq!(had(&Functions::known(&[]), &file(ID)), Ok(wanted.clone()));
}

#[test]
fn a_file_has_all_units_that_are_wanted_of_it_at_once() {
    let image = image_of([unit(4, ID, SKELETON), unit(4, ID + 8, SKELETON)].concat());
    let ([abbreviations, (name, one)], [_, (_, other)]) = (entries(ID), entries(ID + 8));
    let file = elf(&[abbreviations, (name, [one, other].concat())]);
    let (known, wanted) = (Functions::known(&[(AT, AT + 0x10)]), HashSet::from([ID, ID + 8]));
    let skeletons = Skeletons::read(&image, &known);
    assert_eq!(skeletons.had_by(&file, &wanted), Ok(wanted.clone()));
    assert_eq!(skeletons.had_by(&file, &HashSet::from([ID + 8])), Ok(HashSet::from([ID + 8])));
}

#[test]
fn references_of_a_unit_end_with_it() {
    let (image, file) = (image(), file(ID));
    let debug = Debug::read(&image, None, &[&file]).expect("debug information");
    let heads = debug.heads();
    let head = heads.as_slice().last().expect("the unit");
    let unit = heads.open(head).expect("it can be read");
    let to = |offset| unit.referred(gimli::AttributeValue::UnitRef(gimli::UnitOffset(offset)));
    assert_eq!((to(head.length() - 1), to(head.length())), (Some(unit.base() + head.length() - 1), None));
    assert_eq!(unit.referred(gimli::AttributeValue::DebugInfoRef(gimli::DebugInfoOffset(4))), None);
}

#[test]
fn a_file_that_is_wanted_no_more_is_not_read_for_what_another_has() {
    let image = image();
    let later = elf(&entries_with(ID, 0x10, LINE + 1));
    for first in [package(ID, ID), file(ID)] {
        let debug = Debug::read(&image, None, &[&first, &later]).expect("debug information");
        let bodies = debug.split.unit(ID, &Dwarf::default()).expect("the unit");
        let first = debug.split.files[0].unit(ID, &Dwarf::default()).expect("the unit");
        assert_eq!(bodies.debug_info.reader().slice().as_ptr(), first.debug_info.reader().slice().as_ptr());
    }
}

#[test]
fn a_second_skeleton_of_a_unit_is_measured_and_gets_no_entries_of_it() {
    let nested = [&[2][..], &SKELETON[1..], &[3; 60_000], &[0; 60_001]].concat();
    let twin = unit(4, ID, &nested);
    // A unit that is no skeleton may say that it is one.
    let in_disguise = unit(1, 0, &[&[4][..], &SKELETON[1..], &ID.to_le_bytes()].concat()[..]);
    let disguised =
        [&((in_disguise.len() - 12) as u32).to_le_bytes()[..], &in_disguise[4..12], &in_disguise[20..]].concat();
    for other in [unit(4, ID, SKELETON), disguised] {
        for info in [[other.clone(), twin.clone()], [twin.clone(), other]] {
            let (image, file) = (image_of(info.concat()), file(ID));
            let debug = Debug::read(&image, None, &[&file]).expect("debug information");
            assert!(!debug.heads().is_shallow(256));
            assert_eq!(frame_names::by_debug_information(&debug, &[VirtAddr(AT)]), [vec![]]);
        }
    }
    // Two that are no deeper: whose the entries are is not known, where the number is all that tells it.
    let image = image_of([unit(4, ID, SKELETON), unit(4, ID, SKELETON)].concat());
    let file = file(ID);
    let debug = Debug::read(&image, None, &[&file]).expect("debug information");
    let named = frame_names::by_debug_information(&debug, &[VirtAddr(AT)]);
    assert!(named[0].iter().all(|named| named.name.is_empty()), "{named:?}");
}

#[test]
fn a_table_that_many_units_share_is_not_read_for_each_of_them() {
    // Of version 4: each unit's number is among its own entry's attributes.
    let head = |at: u32| [&8_u32.to_le_bytes()[..], &[4, 0], &at.to_le_bytes(), &[8, 1]].concat();
    let info: Vec<u8> = (0..256).flat_map(|n| head(n * 11)).collect();
    let row = |n: u32| [0, 7, 14, 21].map(|low| (n >> low) as u8 | 0x80).into_iter().chain([1, 0x11, 0, 3, 8, 0, 0]);
    let table: Vec<u8> = (0..1 << 21).flat_map(row).collect();
    let file = elf(&[(".debug_abbrev.dwo", table), (".debug_info.dwo", info)]);
    let begin = std::time::Instant::now();
    assert_eq!(SplitFile::parse(&file).map(|_| ()), Err(NotSplit::Empty));
    // Each of them has 22 MB of it before it.
    assert!(begin.elapsed() < std::time::Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[test]
fn a_package_of_many_more_units_than_are_read_is_refused() {
    let slots = 2 * MOST_SLOTS;
    let head = [5_u32, 0, 1, slots].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let index = [head, vec![1; slots as usize * 12]].concat();
    assert_eq!(SplitFile::parse(&elf(&[(".debug_cu_index", index)])).map(|_| ()), Err(NotSplit::Large));
}

#[test]
fn what_holds_no_unit_is_refused_with_the_reason() {
    for (bytes, why) in [
        (&b""[..], NotSplit::Unreadable),
        (&file(ID)[..100], NotSplit::Unreadable),
        (own::bytes(), NotSplit::Empty),
        (&image(), NotSplit::Empty),
        (&elf(&[(".debug_cu_index", vec![9; 64])]), NotSplit::Empty),
    ] {
        assert_eq!(SplitFile::parse(bytes).map(|_| ()), Err(why), "{} bytes", bytes.len());
    }
}

/// All that is ever asked of split debug information.
fn ask(image: &[u8], file: &[u8]) {
    let known = Functions::known(&[(AT, AT + 0x10)]);
    let skeletons = Skeletons::read(image, &known);
    assert_eq!(Skeletons::are_in(image), skeletons.units().next().is_some());
    for unit in skeletons.units() {
        _ = SplitFile::parse(file).map(|file| file.has(unit.id));
        _ = skeletons.had_by(file, &HashSet::from([unit.id]));
    }
    let Some(debug) = Debug::read(image, None, &[file]) else { return };
    let wanted = HashSet::from([VirtAddr(AT)]);
    _ = debug.functions(&wanted);
    _ = debug.bodies(&HashSet::from(["space::function".to_owned()]));
    _ = debug.shapes(&wanted, "space::Stage");
    _ = frame_names::by_debug_information(&debug, &[VirtAddr(AT), VirtAddr(AT + 1)]);
}

fn with(mut bytes: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for (at, value) in changes {
        let at = at % bytes.len();
        bytes[at] = *value;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_of_any_of_the_files_panic(
        of_image in vec((any::<usize>(), any::<u8>()), 0..6),
        of_file in vec((any::<usize>(), any::<u8>()), 0..12),
        packed in any::<bool>(),
    ) {
        let file = if packed { package(ID, ID) } else { file(ID) };
        ask(&with(image(), &of_image), &with(file, &of_file));
    }

    #[test]
    fn no_bytes_are_a_file(bytes in vec(any::<u8>(), 0..300)) {
        ask(&image(), &bytes);
        ask(&image(), &elf(&[(".debug_info.dwo", bytes.clone())]));
        ask(&image(), &elf(&[(".debug_cu_index", bytes)]));
    }
}
