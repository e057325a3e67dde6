//! What debug information says of functions: their names with types, and where closure-like bodies are declared.
//!
//! Does not know: what a name means, nor where debug information lies that is not in the image. A unit that cannot be read tells
//! nothing; the others still do.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;

use gimli::{Dwarf, DwarfSections, EndianSlice, LittleEndian, SectionId};

use super::Image;
use super::sections::{Bytes, Room, Sections};
use super::split::Split;
use super::subprograms::Search;
use super::units::Heads;
use crate::model::VirtAddr;

/// Most bodies of one path that are told apart.
const MOST_OF_ONE_PATH: usize = 64;

/// The debug information of an image.
pub struct Debug<'d> {
    sections: DwarfSections<Cow<'d, [u8]>>,
    /// Of the file that it shares with others.
    shared: Option<DwarfSections<Cow<'d, [u8]>>>,
    pub(super) split: Split<'d>,
}

/// Where a body is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// Path as the compiler was given it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// The body's symbol, mangled, where there is one.
    pub symbol: Option<String>,
}

impl<'d> Debug<'d> {
    /// Finds the sections; `None` where the image has none that name functions.
    pub fn of(image: &Image<'d>) -> Option<Self> {
        Self::read(image.debug_bytes(), image.shared_bytes(), image.split_bytes())
    }

    /// The same of a file, of one that it shares with others, and of files that have entries of its units.
    pub(super) fn read(bytes: &'d [u8], shared: Option<&'d [u8]>, split: &[&'d [u8]]) -> Option<Self> {
        let room = Room::new();
        let load = |bytes: &'d [u8]| {
            let sections = Sections::of(bytes, &room)?;
            let Ok::<_, Infallible>(sections) = DwarfSections::load(|id| Ok(sections.named(id.name())));
            Some(sections)
        };
        let sections = load(bytes)?;
        let shared = shared.and_then(load);
        let debug = Self { sections, shared, split: Split::read(split, &room) };
        let any = debug.dwarf().units().next().is_ok_and(|unit| unit.is_some());
        any.then_some(debug)
    }

    /// Whether sections of it are compressed, and become longer than is read.
    pub fn is_cut_short(image: &Image<'d>) -> bool {
        let (room, mut cut) = (Room::new(), false);
        let mut look = |bytes: &'d [u8], name: fn(SectionId) -> Option<&'static str>| {
            let Some(sections) = Sections::of(bytes, &room) else { return };
            let Ok::<DwarfSections<()>, Infallible>(_) = DwarfSections::load(|id| {
                cut |= name(id).is_some_and(|name| sections.is_too_long(name));
                Ok(())
            });
        };
        [Some(image.debug_bytes()), image.shared_bytes()]
            .into_iter()
            .flatten()
            .for_each(|b| look(b, |id| Some(id.name())));
        image.split_bytes().iter().for_each(|bytes| look(bytes, |id| id.dwo_name()));
        cut
    }

    /// The full names, with their types, of the functions that start at these addresses.
    pub fn functions(&self, wanted: &HashSet<VirtAddr>) -> HashMap<VirtAddr, String> {
        let search = self.search();
        let mut sorted: Vec<u64> = wanted.iter().map(|at| at.0).collect();
        sorted.sort_unstable();
        let mut found = HashMap::new();
        let mut origins: HashMap<usize, Vec<VirtAddr>> = HashMap::new();
        search.each_unit(|unit| {
            if !search.covers(unit, &sorted) {
                return true;
            }
            search.walk(unit, |scopes, function| {
                let at = function.low_pc.and_then(|low| unit.address(low));
                if let Some(at) = at.filter(|at| wanted.contains(at)) {
                    match (function.name, function.origin(unit)) {
                        (Some(name), _) => found.extend(search.path(unit, scopes, name).map(|path| (at, path))),
                        (None, Some(origin)) => origins.entry(origin).or_default().push(at),
                        (None, None) => {}
                    }
                }
            });
            true
        });
        if !origins.is_empty() {
            search.each_unit(|unit| {
                search.walk(unit, |scopes, function| {
                    if let (Some(waiting), Some(name)) = (origins.get(&function.offset), function.name)
                        && let Some(path) = search.path(unit, scopes, name)
                    {
                        found.extend(waiting.iter().map(|at| (*at, path.clone())));
                    }
                });
                true
            });
        }
        found
    }

    /// The declarations of the bodies (`{async_fn#0}`, `{closure#1}`...) with these paths, which are without generic
    /// arguments: all instances of a generic body stand at one place. Bodies of several places may have one path: it tells neither
    /// crates of one name apart (a package's library and program, two versions), nor items of one name in two blocks of a function.
    pub fn bodies(&self, wanted: &HashSet<String>) -> HashMap<String, Vec<Declaration>> {
        let mut found: HashMap<String, Vec<Declaration>> = HashMap::new();
        if wanted.is_empty() {
            return found;
        }
        let search = self.search();
        search.each_unit(|unit| {
            search.walk(unit, |scopes, function| {
                let Some(name) = function.name.and_then(|name| search.text(unit, name)) else { return };
                let Some((file, line)) = function.declared.filter(|_| name.starts_with('{')) else { return };
                let Some(key) = search.key(unit, scopes, name).filter(|key| wanted.contains(key)) else { return };
                let Some(file) = search.file_name(unit, file) else { return };
                let known = found.entry(key).or_default();
                if known.len() >= MOST_OF_ONE_PATH || known.iter().any(|known| known.line == line && known.file == file)
                {
                    return;
                }
                let symbol = function.linkage.and_then(|linkage| search.text(unit, linkage)).map(str::to_owned);
                known.push(Declaration { file, line, symbol });
            });
            true
        });
        found
    }

    pub(super) fn search(&self) -> Search<'_> {
        Search::new(self.heads())
    }

    pub(super) fn heads(&self) -> Heads<'_> {
        let shared = self.shared.as_ref();
        let shared = shared.map(|sections| sections.borrow(|section| EndianSlice::new(section, LittleEndian)));
        Heads::of(self.dwarf(), shared, &self.split)
    }

    fn dwarf(&self) -> Dwarf<Bytes<'_>> {
        self.sections.borrow(|section| EndianSlice::new(section, LittleEndian))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::frame_names;
    use gimli::Section as _;
    use proptest::prelude::*;

    fn own() -> Vec<u8> {
        std::fs::read(std::env::current_exe().expect("tests run from a file")).expect("which can be read")
    }

    /// A generic function, so that its name must carry a type.
    #[inline(never)]
    fn landmark<T: std::fmt::Debug>(of: T) -> usize {
        std::hint::black_box(format!("{of:?}").len())
    }

    #[test]
    fn a_function_is_named_with_its_types_at_its_first_instruction() {
        assert_eq!(landmark(7_u16) + landmark('x'), 4);
        let bytes = own();
        let image = Image::parse(&bytes).expect("an image");
        let symbols = image.symbols().filter(|s| s.name.contains("5dwarf5tests8landmark")).map(|s| s.at);
        let wanted: HashSet<VirtAddr> = symbols.collect();
        let found = Debug::of(&image).expect("test binaries have debug information").functions(&wanted);
        let mut names: Vec<&str> = found.values().map(String::as_str).collect();
        names.sort_unstable();
        let path = "observer::symbols::dwarf::tests::landmark";
        assert_eq!(names, [format!("{path}<char>"), format!("{path}<u16>")]);
    }

    /// No test itself: the harness makes a closure of one, of the same path.
    #[inline(never)]
    fn has_a_closure() -> (u32, u32) {
        let (closure, line) = (|x: u32| std::hint::black_box(x) + 1, line!());
        (closure(1), line)
    }

    #[test]
    fn a_body_is_declared_where_the_source_has_it() {
        let (two, line) = has_a_closure();
        assert_eq!(two, 2);
        let bytes = own();
        let image = Image::parse(&bytes).expect("an image");
        let key = "observer::symbols::dwarf::tests::has_a_closure::{closure#0}".to_owned();
        let found = Debug::of(&image).expect("debug information").bodies(&HashSet::from([key.clone()]));
        let [declared] = &found[&key][..] else { panic!("one closure: {found:?}") };
        assert_eq!((declared.file.as_str(), declared.line), (file!(), line));
        let symbol = declared.symbol.as_deref().and_then(crate::symbols::demangle).expect("a Rust symbol");
        assert!(symbol.ends_with("has_a_closure::{{closure}}"), "{symbol}");
    }

    /// No test itself: two functions of one path in it, each with a closure; the lines of those.
    #[inline(never)]
    fn has_two_of_one_path() -> [u32; 2] {
        let first = {
            fn twin(n: u32) -> u32 {
                let (closure, line) = (|x: u32| std::hint::black_box(x) + 1, line!());
                assert_eq!(closure(n), n + 1);
                line
            }
            twin(1)
        };
        fn twin(n: u32) -> u32 {
            let (closure, line) = (|x: u32| std::hint::black_box(x) + 2, line!());
            assert_eq!(closure(n), n + 2);
            line
        }
        [first, twin(1)]
    }

    #[test]
    fn bodies_of_one_path_are_each_declared_where_they_stand() {
        let closures = has_two_of_one_path();
        let bytes = own();
        let image = Image::parse(&bytes).expect("an image");
        let key = "observer::symbols::dwarf::tests::has_two_of_one_path::twin::{closure#0}".to_owned();
        let found = Debug::of(&image).expect("debug information").bodies(&HashSet::from([key.clone()]));
        let mut lines: Vec<u32> = found[&key].iter().map(|declared| declared.line).collect();
        lines.sort_unstable();
        assert_eq!(lines, closures);
    }

    #[test]
    fn an_image_without_debug_information_has_none() {
        let mut bytes = own();
        bytes[40..48].fill(0);
        let image = Image::parse(&bytes).expect("section headers are not needed");
        assert!(Debug::of(&image).is_none());
    }

    #[test]
    fn mutated_debug_information_tells_what_it_can_without_panic() {
        let bytes = own();
        let image = Image::parse(&bytes).expect("an image");
        let whole = Debug::of(&image).expect("debug information");
        // The unit that holds this module, alone, so that thousands of mutations are quick.
        let dwarf = whole.dwarf();
        let first = dwarf.debug_info.reader().slice();
        let length = 4 + usize::try_from(u32::from_le_bytes(first[..4].try_into().expect("4"))).expect("fits");
        let unit: Vec<u8> = first[..length.min(1 << 16)].to_vec();
        let sections_of = |id: SectionId, info: &[u8]| -> Result<Cow<'_, [u8]>, std::convert::Infallible> {
            Ok(match id {
                SectionId::DebugInfo => Cow::Owned(info.to_vec()),
                SectionId::DebugAbbrev => Cow::Borrowed(dwarf.debug_abbrev.reader().slice()),
                SectionId::DebugStr => Cow::Borrowed(dwarf.debug_str.reader().slice()),
                SectionId::DebugLine => Cow::Borrowed(dwarf.debug_line.reader().slice()),
                SectionId::DebugRanges => Cow::Borrowed(dwarf.ranges.debug_ranges().reader().slice()),
                SectionId::DebugRngLists => Cow::Borrowed(dwarf.ranges.debug_rnglists().reader().slice()),
                _ => Cow::Borrowed(&[]),
            })
        };
        let wanted: HashSet<VirtAddr> = image.functions().starts().take(50_000).collect();
        let places: Vec<VirtAddr> = wanted.iter().take(50).copied().collect();
        let keys = HashSet::from(["a::{closure#0}".to_owned()]);
        proptest!(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() },
            |(flips in proptest::collection::vec((0..unit.len(), any::<u8>()), 0..40), cut in 12..=unit.len(), is_shared: bool)| {
            let mut info = unit.clone();
            for (at, value) in flips {
                info[at] = value;
            }
            info.truncate(cut);
            if let Ok(length) = u32::try_from(cut - 4) {
                info[..4].copy_from_slice(&length.to_le_bytes());
            }
            let Ok(sections) = DwarfSections::load(|id| sections_of(id, &info));
            let Ok(shared) = DwarfSections::load(|id| sections_of(id, if is_shared { &info } else { &[] }));
            let shared = is_shared.then_some(shared);
            let debug = Debug { sections, shared, split: Split::read(&[], &Room::new()) };
            _ = debug.functions(&wanted);
            _ = debug.around(&wanted);
            _ = debug.bodies(&keys);
            _ = debug.shapes(&wanted, "core::option::Option");
            _ = frame_names::by_debug_information(&debug, &places);
        });
    }
}
