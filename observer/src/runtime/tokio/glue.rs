//! The future type from the drop glue of a task's cell, whose legacy symbols carry it where poll's does not.
//!
//! Does not know: v0 symbols and DWARF, which tell more. Equal glue of different types is merged. What becomes of the names then depends on
//! what LLVM makes of the function before. One that other units refer to stays, as another name of what is left: `.llvm.` at its end tells
//! it. One that is its unit's own goes, and the name that is left may be that of a type which nobody uses. So a name counts as one type's
//! own only if it is of the former kind, no other type's vtable reaches the glue, and no other type's name stands on it. That of two equal
//! pieces in one unit, called by the same functions of the runtime, others refer to both or to neither is taken for granted.
//!
//! Where types share their glue, the function that poll leads to can tell them apart, if the body was not inlined into the runtime's. Its
//! symbol is the body's path; the glue's says the path with arguments, and that it is a body at all and not something that runs one.

use std::collections::{HashMap, HashSet};

use super::body_function::{OwnBody, called_bodies};
use super::carrier::{Carrier, carried};
use super::future_type::{BLOCKING_TASK, FutureType};
use super::places::Places;
use crate::model::{Resource, TaskType, VirtAddr};
use crate::symbols::{Calls, SymbolIndex, TypeText};

/// Calls between a vtable's function and the glue that names it.
const DEPTH: usize = 2;
/// Calls that are followed to learn whether other vtables reach the same glue: further, to be sure.
const SHARING_DEPTH: usize = 4;
/// Most functions visited for one type.
const MOST_FUNCTIONS: usize = 400;

/// The glue of all types of an image.
pub(super) struct Glue<'t> {
    types: &'t [TaskType],
    places: &'t Places,
    /// By type: glue functions in reach, the nearest first.
    reached: Vec<Vec<VirtAddr>>,
    /// Types that may reach more glue than is known: not all code in reach was read.
    blurred: HashSet<usize>,
    /// By glue function: the types that its names carry, and how many vtables reach it.
    carriers: HashMap<VirtAddr, Carrier>,
    /// By type: the body that poll leads to.
    bodies: Vec<Option<OwnBody>>,
}

impl<'t> Glue<'t> {
    /// Walks from every vtable's functions. Poll is no root: it runs the future, which may spawn and drop other tasks.
    pub(super) fn read(
        symbols: &SymbolIndex<'_>,
        calls: &mut Calls<'_, '_>,
        places: &'t Places,
        types: &'t [TaskType],
    ) -> Self {
        let mut carriers: HashMap<VirtAddr, Carrier> = HashMap::new();
        let mut names: HashMap<VirtAddr, bool> = HashMap::new();
        let (mut reached, mut blurred) = (Vec::with_capacity(types.len()), HashSet::new());
        for (at, task) in types.iter().enumerate() {
            let mut near = Vec::new();
            for (level, found) in
                calls.levels(&task.functions.dropping(), SHARING_DEPTH, MOST_FUNCTIONS).iter().enumerate()
            {
                let is_read = |function: &VirtAddr| level == SHARING_DEPTH || calls.of(*function).is_read;
                if found.is_cut || !found.functions.iter().all(is_read) {
                    blurred.insert(at);
                }
                for &function in &found.functions {
                    let carries = *names.entry(function).or_insert_with(|| {
                        let carrier = carried(symbols, function);
                        let any = !carrier.types.is_empty();
                        if any {
                            carriers.insert(function, carrier);
                        }
                        any
                    });
                    if carries && let Some(carrier) = carriers.get_mut(&function) {
                        carrier.vtables.insert(at);
                        if level <= DEPTH {
                            near.push(function);
                        }
                    }
                }
            }
            reached.push(near);
        }
        let bodies = (0..types.len()).map(|at| places.function(at).and_then(|f| OwnBody::at(symbols, f))).collect();
        Self { types, places, reached, blurred, carriers, bodies }
    }

    /// Whether a vtable that is not known to reach the glue may reach it all the same: its cell is laid out alike.
    fn may_be_reached(&self, carrier: &Carrier) -> bool {
        let trailer = |at: &usize| self.types.get(*at).map(|task| task.layout.trailer);
        let trailers: HashSet<_> = carrier.vtables.iter().filter_map(trailer).collect();
        let mut others = self.blurred.iter().filter(|at| !carrier.vtables.contains(at));
        others.any(|at| trailer(at).is_some_and(|trailer| trailers.contains(&trailer)))
    }

    /// Whether all vtables that reach the glue are one type's: there is one, or they are for different schedulers and run
    /// the same body, which is certain for each.
    fn is_one_type(&self, carrier: &Carrier) -> bool {
        if self.may_be_reached(carrier) {
            return false;
        }
        let mut all = carrier.vtables.iter().filter_map(|at| Some((self.types.get(*at)?, self.places.sole(*at))));
        let Some((first, body)) = all.next() else { return false };
        let mut schedulers = HashSet::from([first.functions.schedule]);
        all.all(|(task, other)| {
            body.is_some()
                && body == other
                && task.layout.trailer == first.layout.trailer
                && schedulers.insert(task.functions.schedule)
        })
    }

    /// How many types reach the glue, at least: those of one scheduler are each another's.
    fn reaching(&self, carrier: &Carrier) -> usize {
        let mut by_scheduler: HashMap<VirtAddr, usize> = HashMap::new();
        for task in carrier.vtables.iter().filter_map(|at| self.types.get(*at)) {
            *by_scheduler.entry(task.functions.schedule).or_default() += 1;
        }
        by_scheduler.into_values().max().unwrap_or_default()
    }

    /// Whether this glue can be of a task with this name that other glue bears alone.
    fn agrees(&self, carrier: &Carrier, name: &str) -> bool {
        if carrier.bears(name) {
            // More names than types: one is of a type that nobody uses, which may be this one.
            return !carrier.is_complete || carrier.types.len() <= self.reaching(carrier);
        }
        // The name may be gone where several types were merged. Else it is inlined code of a field, or a contradiction.
        !carrier.is_complete && !self.is_one_type(carrier)
    }

    /// Whether poll leads to this type's body, or the type is none: then what it runs tells nothing of its name.
    fn leads_to(&self, at: usize, text: &TypeText) -> bool {
        let own = self.bodies.get(at).and_then(Option::as_ref);
        let body = text.path().filter(|path| path.body().is_some());
        own.zip(body).is_none_or(|(own, body)| body.bare() == own.path)
    }

    /// The type at this index from the body that poll leads to, and glue of types that are all bodies.
    ///
    /// One of them is the type's, so the type is a body, and what polls it is the runtime's. So the function that is met first and panics
    /// as a body does is the type's own, and no place but its own is in it. Which instance of a generic body it is, the glue tells if it
    /// is named for one, and all that reach it and have such a body have the same function.
    fn by_body<'c>(&self, at: usize, near: &[&'c Carrier]) -> Option<&'c TypeText> {
        let own = self.bodies.get(at)?.as_ref()?;
        let mut complete = near.iter().copied().filter(|carrier| carrier.is_complete);
        let (name, text) = complete.next()?.instance_of(&own.path)?;
        let is_named = complete.all(|other| other.instance_of(&own.path).is_some_and(|(same, _)| same == name));
        let is_one = near.iter().filter(|carrier| carrier.is_complete).all(|carrier| self.is_one_body(carrier, own));
        (is_named && is_one).then_some(text)
    }

    /// Whether all vtables that reach the glue have a body that stayed a function, and those with one of this path have this one, each for
    /// another scheduler: two of one would be a body and what runs it.
    fn is_one_body(&self, carrier: &Carrier, own: &OwnBody) -> bool {
        let mut schedulers = HashSet::new();
        !self.may_be_reached(carrier)
            && carrier.vtables.iter().all(|at| match (self.types.get(*at), self.bodies.get(*at)) {
                (Some(task), Some(Some(body))) if body.path == own.path => {
                    body.function == own.function && schedulers.insert(task.functions.schedule)
                }
                (_, body) => body.is_some_and(Option::is_some),
            })
    }

    /// How likely the name is this task's, in percent: one task type of a scheduler can bear it, of all that share the
    /// glue that the fewest reach.
    fn odds(&self, near: &[&Carrier], text: &TypeText, task: &TaskType) -> u32 {
        let sharing = |c: &&Carrier| {
            let tasks = c.vtables.iter().filter_map(|at| self.types.get(*at));
            tasks.filter(|other| other.functions.schedule == task.functions.schedule).count()
        };
        let bearing = near.iter().filter(|c| c.types.iter().any(|(_, other)| other == text)).copied();
        bearing.map(|c| sharing(&c)).min().and_then(|n| u32::try_from(n).ok()).map_or(0, |n| 100 / n.max(1))
    }

    /// The type at this index, from its glue, else from the body that its poll calls.
    pub(super) fn future(&self, at: usize, symbols: &SymbolIndex<'_>, calls: &mut Calls<'_, '_>) -> Option<FutureType> {
        let task = self.types.get(at)?;
        let blocking = task.resource == Resource::Blocking;
        let near: Vec<&Carrier> =
            self.reached.get(at)?.iter().filter_map(|function| self.carriers.get(function)).collect();
        // What contradicts it may stand in what was not read.
        let is_read = !self.blurred.contains(&at);
        if let Some(text) = self.by_body(at, &near).filter(|_| is_read) {
            return Some(FutureType::of(text, true));
        }
        let own = |carrier: &&&Carrier| carrier.types.len() == 1 && self.is_one_type(carrier);
        let complete = near.iter().filter(|carrier| carrier.is_complete).find(own);
        if let Some(carrier) = complete.or_else(|| near.iter().find(own))
            && let Some((name, text)) = carrier.types.first()
        {
            let agreed = is_read
                && carrier.is_complete
                && near.iter().all(|other| self.agrees(other, name))
                && self.leads_to(at, text)
                && is_blocking(text) == blocking;
            return Some(FutureType::of(text, agreed));
        }
        let bodies = called_bodies(symbols, calls, task);
        let called = |text: &TypeText| text.path().is_some_and(|path| bodies.iter().any(|b| *b == path.bare()));
        // Merged glue bears several names: likeliest is the one whose body poll calls, then the one on most pieces.
        let holding = |text: &TypeText| near.iter().filter(|c| c.types.iter().any(|(_, other)| other == text)).count();
        let shared = near.iter().flat_map(|c| c.types.iter().map(|(_, text)| text));
        let likeliest = shared
            .filter(|text| is_blocking(text) == blocking)
            .max_by_key(|text| (called(text), holding(text), self.odds(&near, text, task)));
        // A name that is more likely another's is none at all.
        let chosen = likeliest.filter(|text| called(text) || self.odds(&near, text, task) >= EVEN);
        let chosen = chosen.map(|text| FutureType::of(text, false));
        match (chosen, bodies.as_slice()) {
            (Some(chosen), _) => Some(chosen),
            (None, [body]) => Some(FutureType { text: body.clone().into(), alone: false }),
            (None, _) => None,
        }
    }
}

/// One of two.
const EVEN: u32 = 50;

fn is_blocking(text: &TypeText) -> bool {
    text.path().is_some_and(|p| p.is(&BLOCKING_TASK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TypeEntry;
    use crate::symbols::Path;

    /// Types of one scheduler.
    fn types(count: u64) -> Vec<TaskType> {
        (0..count).map(|n| TypeEntry::sample(VirtAddr(0x9000 + n), Resource::Task, false).task).collect()
    }

    fn carrier(names: &[&str], is_complete: bool, vtables: &[usize]) -> Carrier {
        let types = names.iter().map(|name| ((*name).to_owned(), TypeText::parse(name).expect("a type"))).collect();
        Carrier { types, is_complete, vtables: vtables.iter().copied().collect() }
    }

    fn glue<'t>(types: &'t [TaskType], places: &'t Places) -> Glue<'t> {
        Glue {
            types,
            places,
            reached: Vec::new(),
            blurred: HashSet::new(),
            carriers: HashMap::new(),
            bodies: Vec::new(),
        }
    }

    #[test]
    fn glue_of_more_names_than_types_may_be_of_one_that_nobody_uses_and_with_as_many_it_is_not() {
        let (types, places) = (types(2), Places::default());
        let glue = glue(&types, &places);
        assert!(!glue.agrees(&carrier(&["a::first", "a::second"], true, &[0]), "a::first"));
        assert!(glue.agrees(&carrier(&["a::first", "a::second"], true, &[0, 1]), "a::first"));
    }

    #[test]
    fn a_name_is_not_one_type_s_while_another_of_its_layout_may_reach_the_glue_by_code_that_was_not_read() {
        let (mut types, places) = (types(3), Places::default());
        types[2].layout.trailer += 8;
        let one = carrier(&["a::first"], true, &[0]);
        let is_one = |blurred: &[usize]| {
            Glue { blurred: blurred.iter().copied().collect(), ..glue(&types, &places) }.is_one_type(&one)
        };
        assert!(is_one(&[]) && is_one(&[0]) && is_one(&[2]), "its cell is another");
        assert!(!is_one(&[1]));
    }

    /// What the types' polls lead to, each by its function, one after the other.
    fn bodies(glue: &mut Glue<'_>, found: &[Option<(u64, &str)>]) {
        let body = |(function, name): (u64, &str)| OwnBody {
            function: VirtAddr(function),
            path: TypeText::parse(name).and_then(|text| text.path().map(Path::bare)).expect("a path"),
        };
        glue.bodies = found.iter().map(|of| of.map(body)).collect();
    }

    const FIRST: &str = "a::first::{{closure}}";
    const SECOND: &str = "a::second::{{closure}}";

    #[test]
    fn the_body_that_poll_leads_to_tells_which_of_the_names_on_shared_glue_is_the_type_s() {
        let (types, places) = (types(1), Places::default());
        let mut glue = glue(&types, &places);
        let shared = carrier(&[FIRST, SECOND], true, &[0]);
        bodies(&mut glue, &[Some((0x100, SECOND))]);
        assert_eq!(glue.by_body(0, &[&shared]), TypeText::parse(SECOND).as_ref());
        bodies(&mut glue, &[None]);
        assert_eq!(glue.by_body(0, &[&shared]), None, "it is inlined");
        bodies(&mut glue, &[Some((0x100, "a::third::{{closure}}"))]);
        assert_eq!(glue.by_body(0, &[&shared]), None, "it is another's");
    }

    #[test]
    fn a_body_tells_nothing_where_the_type_may_be_one_that_only_runs_it() {
        let (types, places) = (types(2), Places::default());
        let mut glue = glue(&types, &places);
        bodies(&mut glue, &[Some((0x100, FIRST)), Some((0x100, FIRST))]);
        let around = carrier(&[FIRST, "a::Around<a::first::{{closure}}>"], true, &[0]);
        assert_eq!(glue.by_body(0, &[&around]), None, "a name says so");
        assert_eq!(glue.by_body(0, &[&carrier(&[FIRST], false, &[0])]), None, "the name may be gone");
        assert_eq!(
            glue.by_body(0, &[&carrier(&[FIRST], true, &[0, 1])]),
            None,
            "two types of one scheduler lead to it"
        );
        assert_eq!(glue.by_body(0, &[]), None, "no glue says that it is none");
    }

    #[test]
    fn which_instance_of_a_generic_body_a_type_has_is_told_only_if_there_is_one() {
        let (mut types, places) = (types(2), Places::default());
        types[1].functions.schedule = VirtAddr(0xa000);
        let mut glue = glue(&types, &places);
        let of = |function| Some((function, "a::shows::{{closure}}"));
        let one = carrier(&["a::shows<u8>::{{closure}}"], true, &[0, 1]);
        bodies(&mut glue, &[of(0x100), of(0x100)]);
        assert_eq!(glue.by_body(0, &[&one]), TypeText::parse("a::shows<u8>::{{closure}}").as_ref());
        bodies(&mut glue, &[of(0x100), of(0x200)]);
        assert_eq!(glue.by_body(0, &[&one]), None, "the other function is another instance, whose name is gone");
        bodies(&mut glue, &[of(0x100), None]);
        assert_eq!(glue.by_body(0, &[&one]), None, "the other type may be another instance");
        let both = carrier(&["a::shows<u8>::{{closure}}", "a::shows<i8>::{{closure}}"], true, &[0]);
        bodies(&mut glue, &[of(0x100), of(0x100)]);
        assert_eq!(glue.by_body(0, &[&both]), None, "the symbol of the body has no arguments");
    }

    #[test]
    fn a_body_that_is_another_s_contradicts_the_name_that_glue_bears_alone_unless_the_type_is_no_body() {
        let (types, places) = (types(1), Places::default());
        let mut glue = glue(&types, &places);
        let said = |name| TypeText::parse(name).expect("a type");
        bodies(&mut glue, &[Some((0x100, SECOND))]);
        assert!(!glue.leads_to(0, &said(FIRST)));
        assert!(glue.leads_to(0, &said(SECOND)));
        assert!(glue.leads_to(0, &said("a::Around<a::first::{{closure}}>")));
        bodies(&mut glue, &[None]);
        assert!(glue.leads_to(0, &said(FIRST)));
    }

    #[test]
    fn another_s_name_alone_contradicts_unless_the_own_one_may_have_been_merged_away() {
        let (types, places) = (types(2), Places::default());
        let glue = glue(&types, &places);
        assert!(!glue.agrees(&carrier(&["a::first"], false, &[0]), "a::second"));
        assert!(glue.agrees(&carrier(&["a::first"], false, &[0, 1]), "a::second"));
        assert!(!glue.agrees(&carrier(&["a::first"], true, &[0, 1]), "a::second"));
    }
}
