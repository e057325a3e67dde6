//! The future type and the source place of each task vtable, from whatever the image still holds.
//!
//! Does not know: how to find the vtables. It never guesses: a name that may be another type's is `Uncertain`, and a type
//! that nothing names stays `Unknown`. How a type reads is `symbols::TypeText`'s; tokio's wrapper around a blocking
//! closure is left out.
//!
//! | evidence | where it is found | certain when |
//! |---|---|---|
//! | code that makes the task (`makers`) | v0 mangling, or `debug = 1` and up | all of it tells the same |
//! | v0 symbol at `vtable.poll` | unstripped, v0 mangling | poll is this vtable's alone, and what was merged would have left its name |
//! | DWARF name of `vtable.poll` | `debug = 1` and up | the same, by its symbol |
//! | drop glue of the cell (`glue`) | unstripped, legacy mangling | the same, and the glue bears one type's name only, which others would stand beside |
//! | function of the body that poll leads to | unstripped, body not inlined | shared glue names the type, and only bodies beside it |
//! | body that poll calls | unstripped, fully inlined glue | never |
//! | `Location` of the async body (`places`) | everywhere, place only | see there |

use std::collections::{HashMap, HashSet};

use super::births;
use super::declared::Declared;
use super::future_type::FutureType;
use super::glue::Glue;
use super::makers::Makers;
use super::merging::unmerged_name;
use super::places::Places;
use crate::model::{Naming, TaskType, Unnamed, VirtAddr};
use crate::runtime::BirthSite;
use crate::symbols::{Calls, Debug, Image, SymbolIndex, TypeText};

/// Most instructions that are read for one image, all types together.
const MOST_INSTRUCTIONS: usize = 40_000_000;

/// Fills `future` and `place` of every type with what the image tells.
pub fn name_types(image: &Image<'_>, births: &[BirthSite], types: &mut [TaskType]) {
    let symbols = SymbolIndex::of(image);
    let debug = Debug::of(image);
    let mut calls = Calls::new(image, MOST_INSTRUCTIONS);
    let places = Places::read(image, &symbols, &mut calls, types);
    let makers = Makers::read(image, &symbols, debug.as_ref(), births);
    let mut futures = makers.futures(types, polled(&symbols, debug.as_ref(), types));
    if !symbols.is_empty() && futures.iter().any(Option::is_none) {
        let glue = Glue::read(&symbols, &mut calls, &places, types);
        for (at, future) in futures.iter_mut().enumerate().filter(|(_, future)| future.is_none()) {
            *future = glue.future(at, &symbols, &mut calls);
        }
    }
    let declared = Declared::read(debug.as_ref(), &futures);
    let unnamed = match (symbols.is_empty() && debug.is_none(), calls.is_exhausted()) {
        (true, _) => Unnamed::Stripped,
        (false, true) => Unnamed::NotSearched,
        (false, false) => Unnamed::NoSymbolCarriesIt,
    };
    for (at, (task, future)) in types.iter_mut().zip(&futures).enumerate() {
        task.place = declared.place(future.as_ref(), places.place(at), places.candidates(at));
        task.future = future.as_ref().map_or(Naming::Unknown(unnamed), |f| f.naming(task.resource, &declared));
    }
}

/// The poll functions of which debug information says the type that the code which makes the tasks says.
pub(super) fn polls_named_for_their_own(image: &Image<'_>, debug: &Debug<'_>, types: &[TaskType]) -> HashSet<VirtAddr> {
    let polls: HashSet<VirtAddr> = types.iter().map(|task| task.functions.poll).collect();
    let described = debug.functions(&polls);
    let makers = Makers::read(image, &SymbolIndex::default(), Some(debug), &births::find(image, types));
    let polled = |task: &TaskType| {
        let text = described.get(&task.functions.poll).and_then(|name| polled_type(name))?;
        // By itself it is not to be believed: a twin's poll may stand there.
        Some(FutureType::of(&text, false))
    };
    let polled: Vec<Option<FutureType>> = types.iter().map(polled).collect();
    let made = makers.futures(types, polled.clone());
    let is_own = |(made, polled): (Option<FutureType>, Option<FutureType>)| {
        made.filter(|made| made.alone).zip(polled).is_some_and(|(made, polled)| made.text == polled.text)
    };
    let agreed = made.into_iter().zip(polled).map(is_own);
    types.iter().zip(agreed).filter(|(_, agreed)| *agreed).map(|(task, _)| task.functions.poll).collect()
}

/// The types that the poll functions' own names carry: v0 symbols, completed by DWARF, which knows kinds of bodies.
fn polled(symbols: &SymbolIndex<'_>, debug: Option<&Debug<'_>>, types: &[TaskType]) -> Vec<Option<FutureType>> {
    let mut vtables: HashMap<VirtAddr, usize> = HashMap::new();
    for task in types {
        *vtables.entry(task.functions.poll).or_default() += 1;
    }
    let wanted: HashSet<VirtAddr> = vtables.keys().copied().collect();
    let described = debug.map(|debug| debug.functions(&wanted)).unwrap_or_default();
    let mut known: HashMap<VirtAddr, Option<FutureType>> = HashMap::new();
    for (&poll, &sharing) in &vtables {
        let mut named: Vec<TypeText> = symbols.names_at(poll).filter_map(|name| polled_type(&name)).collect();
        named.dedup();
        let described = described.get(&poll).and_then(|name| polled_type(name));
        let text = match (named.first(), described) {
            (Some(symbol), Some(described)) => Some(symbol.with_bodies_of(&described)),
            (Some(symbol), None) => Some(symbol.clone()),
            (None, described) => described,
        };
        let alone = sharing == 1 && unmerged_name(symbols, poll).is_some();
        known.insert(poll, text.map(|text| FutureType::of(&text, alone)));
    }
    types.iter().map(|task| known.get(&task.functions.poll).cloned().flatten()).collect()
}

/// `T` of `tokio::runtime::task::raw::poll<T, S>`.
fn polled_type(name: &str) -> Option<TypeText> {
    let text = TypeText::parse(name)?;
    text.path().filter(|p| p.is(&["tokio", "runtime", "task", "raw", "poll"]))?.argument(0).cloned()
}

#[cfg(test)]
mod tests {
    use std::any::type_name_of_val;
    use std::future::Future;
    use std::os::unix::fs::FileExt;
    use std::pin::Pin;

    use proptest::prelude::*;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::runtime::{self, Found};

    const WAITS: u32 = line!() + 1;
    async fn waits(n: u64) -> u64 {
        tokio::task::yield_now().await;
        std::hint::black_box(n)
    }

    const SHOWS: u32 = line!() + 1;
    async fn shows<T: std::fmt::Debug>(of: T) -> String {
        tokio::task::yield_now().await;
        format!("{of:?}")
    }

    struct Server(u64);

    impl Server {
        const SERVES: u32 = line!() + 1;
        async fn serves(self) -> u64 {
            tokio::task::yield_now().await;
            waits(self.0).await
        }
    }

    const BLOCK: u32 = line!() + 3;
    #[expect(clippy::manual_async_fn, reason = "an async block is what is to be named")]
    fn starts(n: u64) -> impl Future<Output = u64> {
        async move {
            tokio::task::yield_now().await;
            n + 1
        }
    }

    const WORKS: u32 = line!() + 2;
    fn works() -> impl FnOnce() -> u32 + Send {
        || landmark()
    }

    /// One spawned task: its vtable, its type as the language names it, where its body stands.
    struct Truth {
        vtable: VirtAddr,
        language: &'static str,
        named: String,
        line: Option<u32>,
    }

    fn own() -> Vec<u8> {
        std::fs::read(std::env::current_exe().expect("tests run from a file")).expect("which can be read")
    }

    #[inline(never)]
    fn landmark() -> u32 {
        std::hint::black_box(0x0b5e)
    }

    /// Spawns without ever running: the handle's only word is the header's address, whose third word is the vtable's.
    fn spawned(image: &Image<'_>) -> Vec<Truth> {
        let memory = std::fs::File::open("/proc/self/mem").expect("own memory");
        let word = |at: u64| {
            let mut word = [0; 8];
            memory.read_exact_at(&mut word, at).expect("own memory can be read");
            u64::from_le_bytes(word)
        };
        let symbol = image.symbols().find(|s| s.name.contains("5names5tests8landmark")).expect("a symbol").at;
        let bias = (landmark as *const () as u64).wrapping_sub(symbol.0);
        assert_eq!(landmark(), 0x0b5e);
        let path = module_path!();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut found = Vec::new();
        let mut add = |header: u64, language, named: String, line| {
            found.push(Truth { vtable: VirtAddr(word(header + 16).wrapping_sub(bias)), language, named, line });
        };
        fn header<T>(handle: &JoinHandle<T>) -> u64 {
            std::ptr::from_ref(handle) as u64
        }
        macro_rules! spawn {
            ($future:expr, $named:expr, $line:expr) => {{
                let future = $future;
                let language = type_name_of_val(&future);
                let handle = runtime.spawn(future);
                add(word(header(&handle)), language, $named, $line);
            }};
        }
        spawn!(waits(1), format!("{path}::waits::{{async_fn}}"), Some(WAITS));
        spawn!(shows(1_u8), format!("{path}::shows<u8>::{{async_fn}}"), Some(SHOWS));
        spawn!(shows("x".to_owned()), format!("{path}::shows<String>::{{async_fn}}"), Some(SHOWS));
        spawn!(Server(1).serves(), format!("{path}::Server::serves::{{async_fn}}"), Some(Server::SERVES));
        spawn!(starts(1), format!("{path}::starts::{{async_block}}"), Some(BLOCK));
        let boxed: Pin<Box<dyn Future<Output = u64> + Send>> = Box::pin(waits(2));
        spawn!(boxed, "Pin<Box<dyn Future<Output = u64> + Send>>".to_owned(), None);
        let closure = works();
        let language = type_name_of_val(&closure);
        let handle = runtime.spawn_blocking(closure);
        add(word(header(&handle)), language, format!("{path}::works::{{closure}}"), Some(WORKS));
        found
    }

    fn named(bytes: &[u8]) -> HashMap<VirtAddr, TaskType> {
        let image = Image::parse(bytes).expect("an image");
        let Found::Runtime(mut runtime) = runtime::analyse(&image) else { panic!("the test binary runs tokio") };
        name_types(&image, &runtime.births, &mut runtime.types);
        runtime.types.into_iter().map(|task| (task.vtable, task)).collect()
    }

    /// The image with the sections of this name under another one.
    fn without(section: &str, mut bytes: Vec<u8>) -> Vec<u8> {
        let name = format!("\0{section}\0");
        let at = memchr::memmem::rfind(&bytes, name.as_bytes()).expect("the section's name");
        bytes[at + 1] = b'!';
        bytes
    }

    #[test]
    fn debug_information_names_every_spawned_future_and_its_place() {
        let bytes = own();
        let truth = spawned(&Image::parse(&bytes).expect("an image"));
        let types = named(&bytes);
        for Truth { vtable, language, named, line } in truth {
            let task = types.get(&vtable).unwrap_or_else(|| panic!("{language} has no vtable"));
            assert_eq!(task.future, Naming::Certain(named), "{language}");
            let place = task.place.as_ref().map(|p| (p.file.as_str(), p.line, p.certain));
            assert_eq!(place, line.map(|line| (file!(), line, true)), "{language}");
        }
    }

    /// Nothing is inlined in a test binary, so some bodies are more calls away than they are looked for: optimised programs are
    /// the live tests' part.
    #[test]
    fn what_is_certain_without_debug_information_is_true() {
        let whole = own();
        let truth = spawned(&Image::parse(&whole).expect("an image"));
        let mut stripped = whole.clone();
        // No section headers: no symbols, no debug information.
        stripped[40..48].fill(0);
        for bytes in [without(".debug_info", whole), stripped] {
            let unnamed = if bytes[40..48] == [0; 8] { Unnamed::Stripped } else { Unnamed::NoSymbolCarriesIt };
            let types = named(&bytes);
            for Truth { vtable, language, line, .. } in &truth {
                let task = types.get(vtable).unwrap_or_else(|| panic!("{language} has no vtable"));
                let said = TypeText::parse(language).expect("a type");
                match &task.future {
                    Naming::Certain(name) => assert!([said.short_future(), said.short()].contains(name), "{language}"),
                    Naming::Uncertain(_) => {}
                    Naming::Unknown(reason) => assert_eq!(*reason, unnamed, "{language}"),
                }
                if let Some(place) = task.place.as_ref().filter(|place| place.certain) {
                    assert_eq!((place.file.as_str(), Some(place.line)), (file!(), *line), "{language}");
                }
            }
        }
    }

    #[test]
    fn mutated_images_never_panic() {
        let whole = own();
        let image = Image::parse(&whole).expect("an image");
        let vtables: Vec<usize> =
            named(&whole).keys().filter_map(|at| usize::try_from(image.offset_of(*at)?.0).ok()).collect();
        let size = whole.len();
        let anywhere = proptest::collection::vec((0..size, any::<u8>()), 0..2000);
        let in_vtables = proptest::collection::vec((0..vtables.len(), 0..80_usize, any::<u8>()), 0..40);
        let config =
            ProptestConfig { cases: 4, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() };
        proptest!(config, |(flips in anywhere, pointers in in_vtables, strip in any::<bool>())| {
            let mut bytes = whole.clone();
            for (at, value) in flips.into_iter().filter(|(at, _)| *at >= 1024) {
                bytes[at] = value;
            }
            for (vtable, inside, value) in pointers {
                bytes[vtables[vtable] + inside] = value;
            }
            if strip {
                bytes[40..48].fill(0);
            }
            if let Ok(image) = Image::parse(&bytes)
                && let Found::Runtime(mut runtime) = runtime::analyse(&image)
            {
                name_types(&image, &runtime.births, &mut runtime.types);
            }
        });
    }
}
