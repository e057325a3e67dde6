//! Tokio, as a compiled image shows it without any symbol.
//!
//! Does not know: how a panic begins (that is the standard library's, see `panics`), what a probe costs.

mod births;
mod body_function;
mod body_panics;
mod carrier;
mod declared;
mod dropping;
mod future_type;
mod glue;
mod ids;
mod makers;
mod merging;
mod mints;
mod names;
mod places;
mod reached;
mod shapes;
mod versions;
mod vtables;
mod worker;

pub use future_type::future_name;
pub use names::name_types;
pub use shapes::{Described, shapes};

use std::cell::LazyCell;

use super::{Found, IdCounter, RuntimeImage, panic_hooks, panics};
use crate::symbols::{Callers, Functions, Image};

/// Looks for tokio's task vtables, and for its version where there are none.
pub(super) fn analyse(image: &Image<'_>) -> Found {
    let versions = versions::named(image);
    if let Some(too_old) = versions::too_old(&versions) {
        return too_old;
    }
    let vtables = vtables::find(image);
    if vtables.is_empty() {
        return Found::Nothing;
    }
    let version = versions::supported(&versions);
    let unstable = vtables::all_record_spawn_locations(image, &vtables);
    let row = versions::layout(version.as_ref());
    let mut types: Vec<_> = vtables.iter().map(|v| v.task_type(row, unstable)).collect();
    let functions = Functions::or_presumed(image);
    // One pass over all code: for who needs it.
    let callers = LazyCell::new(|| Callers::read(image, &functions));
    worker::mark(image, &functions, &callers, &mut types);
    let births = births::find(image, &types);
    let mut mints = mints::find_inlined(image, &functions);
    let mut ids = ids::find(image, &functions, &callers, &births, &mints);
    if !matches!(ids, IdCounter::At(_)) {
        mints.extend(mints::find_called(image, &functions));
        mints.sort_by_key(|mint| mint.at);
        ids = ids::find(image, &functions, &callers, &births, &mints);
    }
    let raises = panics::raises(image);
    let hooks = if raises.sites().is_empty() { Vec::new() } else { panic_hooks::hooks(image) };
    Found::Runtime(RuntimeImage { version, unstable, types, births, mints, ids, raises, hooks })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{ProcAddr, Resource, TaskState, TaskType, VirtAddr};
    use crate::runtime::own;
    use crate::symbols::own as program;
    use crate::symbols::tiny::Tiny;

    fn current_thread() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
    }

    /// The header that a join handle, which is one pointer, points to.
    fn header<T>(handle: &tokio::task::JoinHandle<T>) -> ProcAddr {
        ProcAddr(program::word(ProcAddr(std::ptr::from_ref(handle) as u64)))
    }

    /// The id as tokio itself prints it.
    fn id<T>(handle: &tokio::task::JoinHandle<T>) -> u64 {
        handle.id().to_string().parse().expect("a number")
    }

    async fn waiter(words: [u64; 5]) -> u64 {
        std::future::pending::<()>().await;
        words.iter().sum()
    }

    /// What the image says of the task behind a handle, after comparing with the task's memory.
    fn compared<T>(handle: &tokio::task::JoinHandle<T>) -> TaskType {
        let (runtime, bias) = (own(), program::bias());
        let header = header(handle);
        let vtable = bias.to_virtual(ProcAddr(program::word(ProcAddr(header.0 + 16))));
        let found = runtime.types.iter().find(|t| t.vtable == vtable).expect("the task's vtable is found");
        let layout = found.layout;
        assert_eq!(program::word(ProcAddr(header.0 + u64::from(layout.id))), id(handle), "the id is where it says");
        assert!(TaskState(program::word(ProcAddr(header.0 + u64::from(layout.state)))).is_plausible());
        assert_eq!(header.0 % u64::from(layout.align), 0);
        assert!(runtime.births.iter().any(|b| b.vtable == vtable), "and a place where it is born");
        found.clone()
    }

    #[test]
    fn running_tasks_are_of_the_types_found() {
        let rt = current_thread();
        let local = tokio::task::LocalSet::new();
        let task = rt.spawn(waiter([1; 5]));
        let unsend = local.spawn_local(async { std::future::pending::<std::rc::Rc<u8>>().await });
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let blocking = rt.spawn_blocking(move || wait.recv().is_ok());
        assert_eq!(compared(&task).resource, Resource::Task);
        assert_eq!(compared(&unsend).resource, Resource::Task);
        assert_eq!(compared(&blocking).resource, Resource::Blocking);
        release.send(()).expect("the blocking task waits");
    }

    #[test]
    fn the_counter_that_is_found_is_where_ids_come_from() {
        let counters: BTreeSet<_> = own().mints.iter().map(|m| program::bias().to_process(m.counter)).collect();
        let read = || counters.iter().map(|&at| program::word(at)).collect::<Vec<_>>();
        let rt = current_thread();
        let before = read();
        let id = id(&rt.spawn(waiter([2; 5])));
        let after = read();
        let minted_by = before.iter().zip(&after).filter(|(before, after)| (**before..**after).contains(&id));
        assert_eq!(minted_by.count(), 1, "id {id} of {before:?} to {after:?}");
    }

    #[test]
    fn the_counter_of_ids_is_told_from_the_others() {
        let IdCounter::At(counter) = own().ids else { panic!("{:?}", own().ids) };
        let read = || program::word(program::bias().to_process(counter));
        let rt = current_thread();
        let before = read();
        let id = id(&rt.spawn(waiter([3; 5])));
        assert!((before..read()).contains(&id));
    }

    #[test]
    fn every_type_is_born_somewhere() {
        let born: BTreeSet<_> = own().births.iter().map(|b| b.vtable).collect();
        assert_eq!(born, own().types.iter().map(|t| t.vtable).collect());
    }

    fn blocking_polls(of: impl Fn(&TaskType) -> bool) -> BTreeSet<VirtAddr> {
        let blocking = own().types.iter().filter(|t| t.resource == Resource::Blocking && of(t));
        blocking.map(|t| t.functions.poll).collect()
    }

    /// The polls of blocking types that this thread is inside of, by the return addresses on its stack. A release build
    /// leaves none: its polls jump.
    #[cfg(debug_assertions)]
    #[inline(never)]
    fn blocking_polls_around() -> BTreeSet<VirtAddr> {
        let here = 0u64;
        let from = std::ptr::from_ref(&here) as u64;
        let maps = std::fs::read_to_string("/proc/self/maps").expect("own maps");
        let mut ranges = maps.lines().filter_map(|line| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
        });
        let stack = ranges.find(|range| range.contains(&from)).expect("the stack is mapped");
        let words = program::memory(ProcAddr(from), usize::try_from((stack.end - from).min(1 << 18)).expect("small"));
        let (functions, polls) = (program::image().functions(), blocking_polls(|_| true));
        let bias = program::bias();
        let returns = words.chunks_exact(8).filter_map(|word| {
            let at = bias.to_virtual(ProcAddr(u64::from_le_bytes(word.try_into().ok()?)));
            // A return address stands behind a call: not at a function's start.
            functions.containing(at).map(|f| f.start).filter(|&start| start != at)
        });
        returns.filter(|start| polls.contains(start)).collect()
    }

    #[test]
    #[cfg(debug_assertions)]
    fn the_worker_is_the_blocking_type_that_polls_other_tasks() {
        let workers = blocking_polls(|t| t.worker);
        assert_eq!(workers.len(), 1, "one worker type");
        let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        let (tell, told) = std::sync::mpsc::channel();
        let tell_too = tell.clone();
        rt.spawn(async move { tell.send(blocking_polls_around()).expect("the test waits") });
        assert_eq!(told.recv().expect("an answer"), workers, "a task is polled by the worker");
        rt.spawn_blocking(move || tell_too.send(blocking_polls_around()).expect("the test waits"));
        let blocking = told.recv().expect("an answer");
        assert_eq!(blocking.len(), 1, "a closure runs in its own type's poll");
        assert!(blocking.is_disjoint(&workers), "which is no worker");
    }

    #[test]
    fn this_program_holds_the_workers_words_and_its_own_closures_are_no_workers() {
        let rt = current_thread();
        // What the closure could do counts, not what it does.
        let looking =
            rt.spawn_blocking(|| std::hint::black_box(false) && matches!(analyse(program::image()), Found::Runtime(_)));
        assert!(!compared(&looking).worker, "it leads to the words, but not in the worker's file");
    }

    #[test]
    fn an_image_without_tasks_holds_nothing() {
        let bytes = Tiny::new(&[0xc3], &[0; 64]).build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        assert!(matches!(analyse(&image), Found::Nothing));
    }

    #[test]
    fn an_image_with_an_old_tokio_is_too_old() {
        let bytes = Tiny::new(&[0xc3], b"/index/tokio-1.20.6/src/runtime/task/core.rs").build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        assert!(matches!(analyse(&image), Found::TooOld { version, .. } if version == "1.20.6"));
    }
}
