//! What the functions of a stack are called: by debug information, with those that the compiler put into others, else by the
//! symbol table.
//!
//! Does not know: stacks, what a name means.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use addr2line::{LookupContinuation, LookupResult};

use super::frame_cost;
use super::sections::Bytes;
use super::{Debug, Image, SymbolIndex, demangle};
use crate::model::{Place, VirtAddr};

/// More functions inside one another than these are not told.
const MOST_INLINED: usize = 32;

/// A longer name is not told.
const LONGEST: usize = 1 << 16;

/// A function at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its path, without a hash; a symbol that no Rust compiler mangled as it is.
    pub name: String,
    /// No other function shares the code.
    pub certain: bool,
    /// The line that the place belongs to.
    pub place: Option<Place>,
}

/// The functions at each of these places, innermost first; none where nothing names them.
pub fn name_frames(image: &Image<'_>, places: &[VirtAddr]) -> Vec<Vec<Named>> {
    let symbols = SymbolIndex::of(image);
    // The readers calculate with the address, and expect one that something can be at.
    let is_code = |at: VirtAddr| image.is_executable(at) && at.0 < i64::MAX as u64;
    let asked: Vec<VirtAddr> = places.iter().copied().filter(|at| is_code(*at)).collect();
    let told: HashMap<VirtAddr, Vec<Named>> = match Debug::of(image) {
        Some(debug) => asked.iter().copied().zip(by_debug_information(&debug, &asked)).collect(),
        None => HashMap::new(),
    };
    let name = |at: &VirtAddr| {
        let mut found = told.get(at).cloned().unwrap_or_default();
        // Lines without names: the unit has a line table only.
        if found.iter().all(|named| named.name.is_empty()) && is_code(*at) {
            let place = found.first().and_then(|innermost| innermost.place.clone());
            found = by_symbol(image, &symbols, *at).map(|named| Named { place, ..named }).into_iter().collect();
        }
        found.retain(|named| !named.name.is_empty());
        found
    };
    places.iter().map(name).collect()
}

/// One for each function at each place, with an empty name where there is a line only. Debug information that cannot be
/// read, or not within bounds, names nothing.
pub(super) fn by_debug_information<'d>(debug: &'d Debug<'_>, places: &[VirtAddr]) -> Vec<Vec<Named>> {
    let heads = debug.heads();
    let is_cheap = frame_cost::check(&heads, places).is_ok();
    let (main, mut split) = heads.into_parts();
    let lines = is_cheap.then(|| addr2line::Context::from_arc_dwarf(main).ok()).flatten();
    // Only units whose depth is known, and each once: a second time it would be for what is no skeleton of it.
    let mut load = |load: addr2line::SplitDwarfLoad<Bytes<'d>>| {
        let is_known = split.remove(&load.dwo_id.0);
        is_known.then(|| debug.split.unit(load.dwo_id.0, &load.parent).map(Arc::new)).flatten()
    };
    places.iter().map(|at| lines.as_ref().map_or_else(Vec::new, |lines| functions_at(lines, *at, &mut load))).collect()
}

/// Gives the sections that the entries of a unit are in.
type Load<'l, 'a> = &'l mut dyn FnMut(addr2line::SplitDwarfLoad<Bytes<'a>>) -> Option<Arc<gimli::Dwarf<Bytes<'a>>>>;

fn functions_at<'a>(lines: &addr2line::Context<Bytes<'a>>, at: VirtAddr, load: Load<'_, 'a>) -> Vec<Named> {
    let mut found = Vec::new();
    let mut looked = lines.find_frames(at.0);
    let frames = loop {
        match looked {
            LookupResult::Output(frames) => break frames,
            LookupResult::Load { load: wanted, continuation } => looked = continuation.resume(load(wanted)),
        }
    };
    let Ok(mut frames) = frames else { return found };
    while let Ok(Some(frame)) = frames.next() {
        if found.len() >= MOST_INLINED {
            break;
        }
        let name = frame.function.as_ref().and_then(|function| function.raw_name().ok());
        let name = name.filter(|raw| raw.len() <= LONGEST);
        let name = name.map(|raw| demangle(&raw).unwrap_or_else(|| raw.into_owned()));
        let place = frame.location.as_ref().and_then(|location| {
            let (file, line) = (location.file?.to_owned(), location.line.filter(|line| *line > 0)?);
            Some(Place { file, line, column: location.column.filter(|column| *column > 0), certain: true })
        });
        found.push(Named { name: name.unwrap_or_default(), certain: true, place });
    }
    found
}

/// By the symbol at the beginning of the function that the unwind table has there.
fn by_symbol(image: &Image<'_>, symbols: &SymbolIndex<'_>, at: VirtAddr) -> Option<Named> {
    let start = image.functions().containing(at)?.start;
    let names = symbols.mangled_at(start).map(|symbol| demangle(symbol).unwrap_or_else(|| symbol.to_owned()));
    let mut names: BTreeSet<String> = names.collect();
    let certain = names.len() == 1;
    Some(Named { name: names.pop_first()?, certain, place: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::own;

    #[inline(always)]
    fn put_into_its_caller() -> u64 {
        std::hint::black_box(line!().into())
    }

    #[inline(never)]
    fn caller() -> u64 {
        put_into_its_caller() + 1
    }

    #[test]
    fn functions_put_into_others_are_told_with_their_lines() {
        assert!(caller() > 1);
        let image = own::image();
        let symbol = image.symbols().find(|s| s.name.contains("frame_names5tests6caller")).expect("it has a symbol");
        let places: Vec<VirtAddr> = (symbol.at.0..symbol.at.0 + symbol.size).map(VirtAddr).collect();
        let named = name_frames(image, &places);
        let path = "observer::symbols::frame_names::tests::";
        assert!(named.iter().all(|functions| functions.last().is_some_and(|f| f.name == format!("{path}caller"))));
        let inner = named.iter().find(|functions| functions.len() > 1).expect("some of it is the other's");
        let inner = inner.iter().find(|function| function.name == format!("{path}put_into_its_caller"));
        let place = inner.and_then(|inner| inner.place.as_ref()).expect("with its line");
        assert!(place.file.ends_with("src/symbols/frame_names.rs"), "{place}");
    }

    #[test]
    fn without_debug_information_the_symbol_of_the_function_names_it() {
        let (image, at) = (own::image(), own::landmark_in_file());
        let named = by_symbol(image, &SymbolIndex::of(image), VirtAddr(at.0 + 1)).expect("it has a symbol");
        assert_eq!((named.name.as_str(), named.place), ("observer::symbols::own::landmark", None));
    }

    #[test]
    fn where_no_function_is_there_is_no_name() {
        assert_eq!(name_frames(own::image(), &[VirtAddr(0), VirtAddr(u64::MAX)]), [vec![], vec![]]);
    }
}
