//! Which of the counters that numbers are taken from is the task ids': tokio has another for its lists of tasks, and a program
//! may have its own.
//!
//! Does not know: how a mint looks. A wrong answer would lead tasks back to calls that did not make them: what is not clear is
//! not answered.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::VirtAddr;
use crate::runtime::{BirthSite, IdCounter, MintSite};
use crate::symbols::{Callers, Functions, Image, demangle};

/// What it is called.
const NAMES: [&str; 2] = ["tokio::runtime::task::id::Id::next::NEXT_ID", "tokio::runtime::task::Id::next::NEXT_ID"];
/// Calls between a birth and the function that both it and its mint are under. A debug build has ten.
const LEVELS: usize = 16;
/// Functions above one birth that are looked at.
const MOST_ABOVE: usize = 256;

/// By its name; where the image has none, by how near it is taken from to where tasks are born.
pub(super) fn find<F: FnOnce() -> Callers>(
    image: &Image<'_>,
    functions: &Functions,
    callers: &LazyCell<Callers, F>,
    births: &[BirthSite],
    mints: &[MintSite],
) -> IdCounter {
    match only(&named(image, mints)) {
        IdCounter::NotFound if mints.is_empty() => IdCounter::NotFound,
        IdCounter::NotFound => elected(functions, callers, births, mints),
        named => named,
    }
}

fn only(counters: &BTreeSet<VirtAddr>) -> IdCounter {
    match (counters.first(), counters.len()) {
        (None, _) => IdCounter::NotFound,
        (Some(counter), 1) => IdCounter::At(*counter),
        (Some(_), count) => IdCounter::Several(count),
    }
}

/// The counters that the symbol table calls `NEXT_ID` of `Id::next`, as tokio has called it since 1.23.
fn named(image: &Image<'_>, mints: &[MintSite]) -> BTreeSet<VirtAddr> {
    let counters: BTreeSet<VirtAddr> = mints.iter().map(|mint| mint.counter).collect();
    let symbols = image.symbols().filter(|s| !s.is_function && s.name.contains("NEXT_ID") && counters.contains(&s.at));
    // The newer mangling puts the type into angle brackets.
    let is_it = |name: String| NAMES.contains(&name.replace(['<', '>'], "").as_str());
    symbols.filter(|symbol| demangle(symbol.name).is_some_and(is_it)).map(|symbol| symbol.at).collect()
}

/// Each birth votes for the counter that is nearest to it. Whatever a compiler made of it, the id is taken below the call that
/// spawns and the birth is below that call, too: nothing else can be nearer. So the vote must be unanimous, and half must vote.
fn elected(functions: &Functions, callers: &Callers, births: &[BirthSite], mints: &[MintSite]) -> IdCounter {
    let taken = Taken::read(functions, callers, mints);
    let born: BTreeSet<VirtAddr> =
        births.iter().filter_map(|birth| Some(functions.containing(birth.at)?.start)).collect();
    let votes: Vec<VirtAddr> =
        born.iter().filter_map(|birth| taken.nearest(*birth, |f| above(functions, callers, f))).collect();
    let voted: BTreeSet<VirtAddr> = votes.iter().copied().collect();
    match only(&voted) {
        IdCounter::At(_) if votes.len() * 2 < born.len() => IdCounter::NotFound,
        elected => elected,
    }
}

/// The functions that call or name this one.
fn above<'a>(
    functions: &'a Functions,
    callers: &'a Callers,
    function: VirtAddr,
) -> impl Iterator<Item = VirtAddr> + use<'a> {
    callers.of(function).filter_map(|at| Some(functions.containing(at)?.start))
}

/// Which counters functions take from.
#[derive(Default)]
struct Taken {
    /// Themselves.
    own: BTreeMap<VirtAddr, BTreeSet<VirtAddr>>,
    /// In a function that they call.
    called: BTreeMap<VirtAddr, BTreeSet<VirtAddr>>,
}

impl Taken {
    fn read(functions: &Functions, callers: &Callers, mints: &[MintSite]) -> Self {
        let mut taken = Self::default();
        for mint in mints {
            let Some(function) = functions.containing(mint.add) else { continue };
            taken.own.entry(function.start).or_default().insert(mint.counter);
            for caller in above(functions, callers, function.start) {
                taken.called.entry(caller).or_default().insert(mint.counter);
            }
        }
        taken
    }

    /// The counter that is nearest to a function, on the way up its callers; `None` where none is, or two are equally near.
    fn nearest<I: Iterator<Item = VirtAddr>>(
        &self,
        function: VirtAddr,
        above: impl Fn(VirtAddr) -> I,
    ) -> Option<VirtAddr> {
        let mut seen = BTreeSet::from([function]);
        let mut level = vec![function];
        for _ in 0..LEVELS {
            for taken in [&self.own, &self.called] {
                let near: BTreeSet<VirtAddr> = level.iter().filter_map(|f| taken.get(f)).flatten().copied().collect();
                if let Some(first) = near.first() {
                    return (near.len() == 1).then_some(*first);
                }
            }
            level = level.iter().flat_map(|f| above(*f)).filter(|f| seen.insert(*f)).take(MOST_ABOVE).collect();
            if level.is_empty() || seen.len() > MOST_ABOVE {
                break;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MintRegister;
    use crate::symbols::Boundary;
    use crate::symbols::tiny::{CODE, DATA, Tiny};

    /// Bytes of each function of the image under test.
    const SIZE: u64 = 32;
    const IDS: u64 = DATA;
    const OTHER: u64 = DATA + 8;

    /// Functions that call these others, that bear tasks, and that take from these counters, by their numbers.
    fn told(calls: &[&[u64]], bearing: &[u64], taking: &[(u64, u64)]) -> IdCounter {
        let mut code = Vec::new();
        for (n, callees) in (0u64..).zip(calls) {
            for callee in *callees {
                code.push(0xe8);
                let from = CODE + code.len() as u64 + 4;
                let to = CODE + callee * SIZE;
                code.extend(i32::try_from(to.cast_signed() - from.cast_signed()).expect("near").to_le_bytes());
            }
            code.resize(usize::try_from((n + 1) * SIZE).expect("small"), 0xc3);
        }
        let mut tiny = Tiny::new(&code, &[1; 16]);
        tiny.functions = (0..calls.len() as u64).map(|n| CODE + n * SIZE..CODE + (n + 1) * SIZE).collect();
        let bytes = tiny.build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let boundary = Boundary::FromFunctionStart;
        let inside = |function: &u64| VirtAddr(CODE + function * SIZE + SIZE - 4);
        let births: Vec<BirthSite> =
            bearing.iter().map(|f| BirthSite { at: inside(f), vtable: VirtAddr(DATA), boundary }).collect();
        let mint = |(function, counter): &(u64, u64)| {
            let (add, register) = (inside(function), MintRegister(1));
            MintSite { add, at: VirtAddr(add.0 + 1), register, counter: VirtAddr(*counter), boundary }
        };
        let mints: Vec<MintSite> = taking.iter().map(mint).collect();
        let functions = image.functions();
        find(&image, functions, &LazyCell::new(|| Callers::read(&image, functions)), &births, &mints)
    }

    #[test]
    fn what_is_taken_below_the_call_that_spawns_is_nearer_than_what_its_caller_takes() {
        // 0 takes a number of its own and spawns by 1, which takes the id in 2 and bears in 3.
        let calls: [&[u64]; 4] = [&[1], &[2, 3], &[], &[]];
        assert_eq!(told(&calls, &[3], &[(0, OTHER), (2, IDS)]), IdCounter::At(VirtAddr(IDS)), "out of line");
        assert_eq!(told(&calls, &[3], &[(0, OTHER), (1, IDS)]), IdCounter::At(VirtAddr(IDS)), "inlined");
        assert_eq!(told(&calls, &[3], &[(3, IDS)]), IdCounter::At(VirtAddr(IDS)));
    }

    #[test]
    fn where_two_are_equally_near_others_decide_and_without_others_nobody_does() {
        let calls: [&[u64]; 2] = [&[], &[]];
        let both = [(0, OTHER), (0, IDS), (1, IDS)];
        assert_eq!(told(&calls, &[0, 1], &both), IdCounter::At(VirtAddr(IDS)));
        assert_eq!(told(&calls, &[0], &both), IdCounter::NotFound);
    }

    #[test]
    fn what_is_taken_from_at_some_births_only_is_not_the_ids() {
        let calls: [&[u64]; 4] = [&[]; 4];
        assert_eq!(told(&calls, &[0, 1], &[(0, OTHER), (1, IDS)]), IdCounter::Several(2), "they disagree");
        assert_eq!(told(&calls, &[0, 1, 2], &[(0, OTHER)]), IdCounter::NotFound, "most births know of none");
        assert_eq!(told(&calls, &[0, 1, 2], &[]), IdCounter::NotFound);
        assert_eq!(told(&calls, &[0], &[(3, OTHER)]), IdCounter::NotFound, "taken from elsewhere");
    }
}
