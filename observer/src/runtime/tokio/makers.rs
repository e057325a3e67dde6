//! The future type of each task vtable from the code that makes the task: it takes the vtable's address, and it is of generic functions
//! of the runtime that have the type as an argument.
//!
//! Does not know: what else tells types. Compilers merge equal functions, and what is left may bear the name of one that nobody uses. The code
//! that makes tasks is never equal for two types: each has a vtable of its own, whose address is in the code. So what this code is of
//! is true where that of the vtable's functions need not be. Where a linker made one vtable of several types', so it did of the makers: there
//! several names stand at one place, and nothing is told.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::names::FutureType;
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

    /// The type of the tasks with this vtable, if all code that makes them tells the same; where that may be boxed before, if their poll
    /// tells it, too: that of a box is never equal to that of what is in it.
    pub(super) fn future(&self, task: &TaskType, polled: Option<&FutureType>) -> Option<FutureType> {
        let text = self.told.get(&task.vtable)?.only(polled.map(|polled| &polled.text))?;
        Some(FutureType { text, alone: true })
    }
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
    fn only(&self, polled: Option<&TypeText>) -> Option<TypeText> {
        match (&self.by_symbols[..], &self.described[..]) {
            _ if self.is_shared => None,
            ([symbol], [described]) => Some(symbol.with_bodies_of(described)),
            ([only], []) | ([], [only]) => Some(only.clone()),
            ([], []) => polled.filter(|polled| self.perhaps == [(*polled).clone()]).cloned(),
            _ => None,
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
        assert_eq!(told(&["a::first"], false).only(None), Some(text("a::first")));
        assert_eq!(told(&["a::first", "a::second"], false).only(None), None);
        assert_eq!(told(&["a::first"], true).only(None), None);
    }

    #[test]
    fn what_may_be_boxed_before_is_the_task_s_type_if_its_poll_is_named_so() {
        let mut told = Told::default();
        told.add_symbols(&["tokio::task::spawn::spawn::<app::run>".to_owned()]);
        assert_eq!(told.only(Some(&text("app::run"))), Some(text("app::run")));
        assert_eq!(told.only(Some(&text("core::pin::Pin<alloc::boxed::Box<app::run>>"))), None);
        assert_eq!(told.only(None), None);
    }
}
