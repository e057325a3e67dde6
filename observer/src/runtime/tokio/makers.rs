//! The future type of each task vtable from the code that makes the task: it takes the vtable's address, and it is of generic functions
//! of the runtime that have the type as an argument.
//!
//! Does not know: what else tells types. Compilers merge equal functions, and what is left may bear the name of one that nobody uses. The code
//! that makes tasks is never equal for two types: each has a vtable of its own, whose address is in the code. So what this code is of
//! is true where that of the vtable's functions need not be. Where a linker made one vtable of several types', so it did of the makers: there
//! several names stand at one place, and nothing is told. What a maker drops may make another task: then two types are told to be one, and
//! at most one is.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::future_type::FutureType;
use crate::model::{TaskType, VirtAddr};
use crate::runtime::BirthSite;
use crate::symbols::{Debug, Image, SymbolIndex, TypeText, demangle};

/// What a function's generic arguments tell of the task that it makes.
#[derive(Clone, Copy)]
enum Tells {
    /// The first is the future.
    First,
    /// The last is.
    Last,
    /// The first is the future, or what is boxed before, where that is large.
    Perhaps,
}

/// The modules of functions that make a task of a future that they were given, their last names, and where they have its type. Verified on
/// tokio 1.23, 1.36 and 1.54, with v0 symbols and with debug information.
const MAKERS: [(&[&str], &[&str], Tells); 12] = [
    (&["tokio", "runtime", "task"], &["new_task", "joinable", "unowned"], Tells::First),
    (&["tokio", "runtime", "task", "raw"], &["vtable", "new"], Tells::First),
    (&["tokio", "runtime", "task", "core"], &["new"], Tells::First),
    (&["tokio", "runtime", "task", "list"], &["bind", "bind_local"], Tells::Last),
    (&["tokio", "runtime", "scheduler", "multi_thread", "handle"], &["bind_new_task"], Tells::Last),
    (&["tokio", "runtime", "scheduler", "current_thread"], &["spawn", "spawn_local"], Tells::Last),
    (&["tokio", "runtime", "blocking", "pool"], &["spawn_blocking_inner"], Tells::First),
    (&["tokio", "runtime", "blocking", "pool"], &["spawn_blocking"], Tells::Perhaps),
    (&["tokio", "runtime", "handle"], &["spawn", "spawn_named", "spawn_blocking"], Tells::Perhaps),
    (&["tokio", "runtime", "runtime"], &["spawn", "spawn_named", "spawn_blocking"], Tells::Perhaps),
    (&["tokio", "task", "spawn"], &["spawn", "spawn_inner"], Tells::Perhaps),
    (&["tokio", "task", "blocking"], &["spawn_blocking"], Tells::Perhaps),
];

/// How symbols begin that have arguments. The old mangling writes the parameters of a method's type instead: `Cell<T,S>::new`.
const WITH_TYPES: &str = "_R";

/// The types of all vtables that are taken in code that tells them.
#[derive(Debug, Default)]
pub(super) struct Makers {
    told: HashMap<VirtAddr, Told>,
}

impl Makers {
    /// Reads what is at the places where these types are born.
    pub(super) fn read(
        image: &Image<'_>,
        symbols: &SymbolIndex<'_>,
        debug: Option<&Debug<'_>>,
        births: &[BirthSite],
    ) -> Self {
        let places: HashSet<VirtAddr> = births.iter().map(|birth| birth.at).collect();
        let around = debug.map(|debug| debug.around(&places)).unwrap_or_default();
        // Where a part is not known, what is known of the rest only seems to agree.
        let partial = births.iter().filter(|birth| around.at(birth.at).is_none()).map(|birth| birth.vtable);
        let partial: HashSet<VirtAddr> = partial.collect();
        // Equal names are one text: each is read once.
        let mut made_by: HashMap<*const str, Option<(TypeText, Tells)>> = HashMap::new();
        let mut told: HashMap<VirtAddr, Told> = HashMap::new();
        for birth in births {
            let told = told.entry(birth.vtable).or_default();
            if let Some(start) = image.functions().containing(birth.at).map(|function| function.start) {
                let carrying = symbols.mangled_at(start).filter(|name| name.starts_with(WITH_TYPES));
                let names: Vec<String> = carrying.filter_map(demangle).collect();
                told.add_symbols(&names);
                told.is_shared |= symbols.mangled_at(start).count() > 1;
            }
            for name in around.at(birth.at).filter(|_| !partial.contains(&birth.vtable)).into_iter().flatten() {
                told.add_described(made_by.entry(Rc::as_ptr(name)).or_insert_with(|| made(name)).as_ref());
            }
        }
        Self { told }
    }

    /// The types of these tasks by all that makes them, in the same order, each with what its poll's own name tells.
    pub(super) fn futures(&self, types: &[TaskType], polled: Vec<Option<FutureType>>) -> Vec<Option<FutureType>> {
        let made: Vec<Made> =
            types.iter().zip(&polled).map(|(task, polled)| self.made(task, polled.as_ref())).collect();
        let confirmed = |at: usize, text: &TypeText| {
            polled.get(at).and_then(Option::as_ref).is_some_and(|polled| polled.text == *text)
        };
        let mut alone: Vec<bool> = vec![true; types.len()];
        for (at, (task, of)) in types.iter().zip(&made).enumerate() {
            let Made::Is(text) = of else { continue };
            // A maker drops its future, too, and who is dropped may spawn: then that one's vtable is taken in this one's maker.
            let is_another = |(other, of): (&TaskType, &Made)| {
                let functions = (&task.functions, &other.functions);
                functions.0.schedule == functions.1.schedule
                    && functions.0.poll != functions.1.poll
                    && matches!(of, Made::Is(same) if same == text)
            };
            alone[at] = confirmed(at, text) || !types.iter().zip(&made).any(is_another);
        }
        let with_made = |((made, alone), polled)| match made {
            Made::Is(text) => Some(FutureType { text, alone }),
            Made::Untold => polled,
            Made::Disputed => polled.map(|polled: FutureType| FutureType { alone: false, ..polled }),
        };
        made.into_iter().zip(alone).zip(polled).map(with_made).collect()
    }

    /// The type of the tasks with this vtable, if all code that makes them tells the same; where that may be boxed before, if their poll
    /// tells it, too: that of a box is never equal to that of what is in it.
    fn made(&self, task: &TaskType, polled: Option<&FutureType>) -> Made {
        self.told.get(&task.vtable).map_or(Made::Untold, |told| told.only(polled.map(|polled| &polled.text)))
    }
}

/// What the makers of one vtable's tasks tell together.
#[derive(Clone, Debug, PartialEq)]
enum Made {
    /// Nothing.
    Untold,
    /// One this, one that: nor is poll's own name believed then.
    Disputed,
    Is(TypeText),
}

/// What the code that takes one vtable's address tells.
#[derive(Debug, Default)]
struct Told {
    by_symbols: Vec<TypeText>,
    described: Vec<TypeText>,
    /// What may be boxed before.
    perhaps: Vec<TypeText>,
    /// One piece of code has several names.
    is_shared: bool,
}

impl Told {
    fn add_symbols(&mut self, names: &[String]) {
        for (made, tells) in names.iter().filter_map(|name| made(name)) {
            add(&mut self.by_symbols, &mut self.perhaps, (&made, tells));
        }
    }

    fn add_described(&mut self, made: Option<&(TypeText, Tells)>) {
        if let Some((made, tells)) = made {
            add(&mut self.described, &mut self.perhaps, (made, *tells));
        }
    }

    /// Symbols name methods' types, debug information knows kinds of bodies.
    fn only(&self, polled: Option<&TypeText>) -> Made {
        match (&self.by_symbols[..], &self.described[..]) {
            _ if self.is_shared => Made::Disputed,
            ([symbol], [described]) if symbol.ends_as(described) => Made::Is(symbol.with_bodies_of(described)),
            ([only], []) | ([], [only]) => Made::Is(only.clone()),
            ([], []) => match polled.filter(|polled| self.perhaps == [(*polled).clone()]) {
                Some(polled) => Made::Is(polled.clone()),
                None => Made::Untold,
            },
            _ => Made::Disputed,
        }
    }
}

fn add(sure: &mut Vec<TypeText>, perhaps: &mut Vec<TypeText>, (made, tells): (&TypeText, Tells)) {
    let known = if matches!(tells, Tells::Perhaps) { perhaps } else { sure };
    if !known.contains(made) {
        known.push(made.clone());
    }
}

/// The type of the future that a function of this name makes a task of; `None` if it makes none, or its name does not tell.
fn made(name: &str) -> Option<(TypeText, Tells)> {
    // Reading everything that stands around would cost far more.
    if !name.contains("tokio::") {
        return None;
    }
    let text = TypeText::parse(name)?;
    let path = text.path()?;
    let (_, _, tells) = MAKERS.iter().find(|(module, names, _)| path.is_in(module) && path.ends_in(names))?;
    let arguments = path.last_arguments();
    let task = match tells {
        Tells::First | Tells::Perhaps => arguments.first(),
        Tells::Last => arguments.last(),
    }?;
    Some((FutureType::of(task, true).text, *tells))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Resource, TypeEntry};

    #[test]
    fn a_maker_is_told_by_either_mangling_s_names_and_by_those_of_debug_information() {
        for name in [
            "<tokio::runtime::task::core::Cell<app::run::{closure#0}, alloc::sync::Arc<S>>>::new",
            "tokio::runtime::task::core::{impl#6}::new<app::run::{closure#0}, alloc::sync::Arc<S>>",
            "tokio::runtime::task::core::Cell<app::run::{closure#0}, S>::new<app::run::{closure#0}, S>",
            "<tokio::runtime::task::list::OwnedTasks<S>>::bind::<app::run::{closure#0}>",
            "tokio::runtime::task::list::{impl#2}::bind<S, app::run::{closure#0}>",
            "<tokio::runtime::scheduler::multi_thread::handle::Handle>::bind_new_task::<app::run::{closure#0}>",
            "<tokio::runtime::blocking::pool::Spawner>::spawn_blocking_inner::<app::run::{closure#0}, u8>",
            "tokio::runtime::task::unowned<tokio::runtime::blocking::task::BlockingTask<app::run::{closure#0}>, S>",
        ] {
            let (made, tells) = made(name).unwrap_or_else(|| panic!("{name} makes one"));
            assert_eq!(made.short_future(), "app::run::{async}", "{name}");
            assert!(!matches!(tells, Tells::Perhaps), "{name}");
        }
    }

    #[test]
    fn what_runs_a_future_makes_no_task_of_it() {
        for name in [
            "tokio::runtime::task::raw::poll::<app::run::{closure#0}, S>",
            "<tokio::runtime::task::core::Core<app::run::{closure#0}, S>>::poll",
            "<tokio::runtime::scheduler::current_thread::CoreGuard>::block_on::<app::run::{closure#0}>",
            "app::tokio::runtime::task::new_task::<app::run::{closure#0}, S>",
            "tokio::runtime::task::new_task",
        ] {
            assert!(made(name).is_none(), "{name}");
        }
    }

    fn text(name: &str) -> TypeText {
        TypeText::parse(name).expect("a type")
    }

    #[test]
    fn several_types_at_one_vtable_are_none() {
        let told = |by_symbols: &[&str], is_shared| Told {
            by_symbols: by_symbols.iter().map(|name| text(name)).collect(),
            described: vec![text("a::first")],
            perhaps: Vec::new(),
            is_shared,
        };
        assert_eq!(told(&["a::first"], false).only(None), Made::Is(text("a::first")));
        assert_eq!(told(&["a::first", "a::second"], false).only(None), Made::Disputed);
        assert_eq!(told(&["a::first"], true).only(None), Made::Disputed);
        assert_eq!(told(&["a::second"], false).only(None), Made::Disputed, "debug information says another");
    }

    /// Types that are made so, and what the names of their polls tell: for each, its name and whether it is certain.
    fn futures(made: &[(&[&str], &str, u64)]) -> Vec<Option<(String, bool)>> {
        let mut makers = Makers::default();
        let mut types = Vec::new();
        let mut polled = Vec::new();
        for (n, (names, poll, function)) in made.iter().enumerate() {
            let vtable = VirtAddr(0x1000 * (1 + n as u64));
            let by_symbols = names.iter().map(|name| text(name)).collect();
            makers.told.insert(vtable, Told { by_symbols, ..Told::default() });
            let mut task = TypeEntry::sample(vtable, Resource::Task, false).task;
            task.functions.poll = VirtAddr(*function);
            types.push(task);
            polled.push(Some(FutureType { text: text(poll), alone: true }));
        }
        let futures = makers.futures(&types, polled).into_iter();
        futures.map(|future| future.map(|future| (future.text.short(), future.alone))).collect()
    }

    #[test]
    fn makers_that_contradict_each_other_leave_the_name_of_poll_and_doubt_it() {
        let said = futures(&[(&["a::first", "a::second"], "a::first", 0x10), (&[], "a::third", 0x20)]);
        assert_eq!(said, [Some(("a::first".into(), false)), Some(("a::third".into(), true))]);
    }

    #[test]
    fn of_two_types_of_one_scheduler_that_are_told_to_be_the_same_only_that_is_believed_whose_poll_says_so() {
        let one = (&["a::first"][..], "a::first", 0x10);
        assert_eq!(
            futures(&[one, (&["a::first"], "a::second", 0x20)]),
            [Some(("a::first".into(), true)), Some(("a::first".into(), false))]
        );
        // Poll's own name may be a merged twin's: alone it is no objection.
        assert_eq!(futures(&[(&["a::first"], "a::second", 0x20)]), [Some(("a::first".into(), true))]);
        // One poll for two vtables: the same type, twice.
        assert_eq!(
            futures(&[one, (&["a::first"], "a::second", 0x10)]),
            [Some(("a::first".into(), true)), Some(("a::first".into(), true))]
        );
    }

    #[test]
    fn what_may_be_boxed_before_is_the_task_s_type_if_its_poll_is_named_so() {
        let mut told = Told::default();
        told.add_symbols(&["tokio::task::spawn::spawn::<app::run>".to_owned()]);
        assert_eq!(told.only(Some(&text("app::run"))), Made::Is(text("app::run")));
        assert_eq!(told.only(Some(&text("core::pin::Pin<alloc::boxed::Box<app::run>>"))), Made::Untold);
        assert_eq!(told.only(None), Made::Untold);
    }
}
