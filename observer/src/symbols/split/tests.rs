//! Split units written by hand, byte for byte: one function each, so that whatever is wrong in a file can be tried quickly.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::VirtAddr;
use crate::symbols::{Debug, frame_names, own};

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

/// What an image has of a split unit.
fn image() -> Vec<u8> {
    // The unit: the file of its entries, the folder, where its addresses begin.
    let abbreviations = vec![1, 0x4a, 0, 0x76, 8, 0x1b, 8, 0x73, 0x17, 0, 0, 0];
    let info = unit(4, ID, &[&b"\x01a.dwo\0/build\0"[..], &[8, 0, 0, 0]].concat());
    let addresses = [&12_u32.to_le_bytes()[..], &[5, 0, 8, 0], &AT.to_le_bytes()].concat();
    elf(&[(".debug_abbrev", abbreviations), (".debug_info", info), (".debug_addr", addresses)])
}

/// The unit's entries: a namespace, and in it a function, which stands at the first address.
fn entries(id: u64) -> [(&'static str, Vec<u8>); 2] {
    let abbreviations = [
        &[1, 0x11, 1, 3, 8, 0, 0][..],
        &[2, 0x39, 1, 3, 8, 0, 0],
        &[3, 0x2e, 0, 3, 8, 0x11, 0x1b, 0x12, 6, 0, 0],
        &[0],
    ];
    let entries = b"\x01unit\0\x02space\0\x03function<u8>\0\x00\x10\0\0\0\0\0";
    [(".debug_abbrev.dwo", abbreviations.concat()), (".debug_info.dwo", unit(5, id, entries))]
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
    let debug = Debug::read(image, files).expect("debug information");
    debug.functions(&HashSet::from([VirtAddr(AT)])).into_values().collect()
}

#[test]
fn an_image_tells_the_unit_whose_entries_lie_elsewhere() {
    let unit = SplitUnit { id: ID, folder: Some("/build".to_owned()), file: "a.dwo".to_owned() };
    assert_eq!(SplitUnit::all(&image()), [unit]);
    assert!(SplitUnit::may_be_in(&image()) && !SplitUnit::may_be_in(&file(ID)));
}

#[test]
fn entries_in_a_file_or_in_a_package_are_read_with_the_addresses_of_the_image() {
    let image = image();
    assert_eq!(named(&image, &[]), [""; 0]);
    for file in [file(ID), package(ID, ID)] {
        assert!(SplitFile::parse(&file).is_ok_and(|file| file.has(ID) && !file.has(ID + 1)));
        assert_eq!(named(&image, &[&file]), ["space::function<u8>"]);
        let debug = Debug::read(&image, &[&file]).expect("debug information");
        assert!(debug.is_shallow(3) && !debug.is_shallow(1), "its depth is known, too");
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
    for unit in SplitUnit::all(image) {
        _ = SplitFile::parse(file).map(|file| file.has(unit.id));
    }
    let Some(debug) = Debug::read(image, &[file]) else { return };
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
