//! The census against the truth of runtimes in another process.
//!
//! Every test has two sides: `Player::of` gives the watcher one, and the player, which is the same test in another
//! process, `None`.

mod awaits;
mod closures;
mod futures;
mod lists;
mod scene;
mod stage;
mod waits;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use self::stage::Told;
use super::*;
use crate::model::{CellLayout, LiveTask, Pid, ProcAddr, Resource};
use crate::target::sleeper::Sleeper;
use crate::target::{Process, TargetError};

/// Offsets as in a release build of tokio 1.54.
pub fn layout(align: u32) -> CellLayout {
    CellLayout { trailer: 96, align, ..CellLayout::sample() }
}

/// The one type of futures there is, with its vtable at this address.
pub fn only_type(vtable: u64, align: u32) -> CellTypes {
    let known = CellType { layout: layout(align), resource: Resource::Task, image: ImageIndex(0) };
    CellTypes::new([(ProcAddr(vtable), known)])
}

/// Types that the player told of; its labels of closures begin with `closure`.
fn types_of(process: &Process, told: &[Told]) -> HashMap<ProcAddr, CellType> {
    let resource = |told: &Told| match told.label.starts_with("closure") {
        true => Resource::Blocking,
        false => Resource::Task,
    };
    told.iter().map(|told| (told.vtable, type_at(process, told.vtable, resource(told)))).collect()
}

/// A type as its vtable states it: seven functions, then the offsets of trailer, scheduler and id.
fn type_at(process: &Process, vtable: ProcAddr, resource: Resource) -> CellType {
    let word = |index: u64| process.memory().read_word(ProcAddr(vtable.0 + 8 * index)).unwrap() as u32;
    let layout = CellLayout { trailer: word(7), scheduler: word(8), id: word(9), ..layout(128) };
    CellType { layout, resource, image: ImageIndex(0) }
}

fn census(process: &Process, types: &HashMap<ProcAddr, CellType>) -> Census {
    let census = Census::take(process, &CellTypes::new(types.clone()), Allowance::MOST).unwrap();
    assert!(census.started < census.ended && census.bytes_read > 0 && !census.truncated);
    assert_eq!(census.unread, []);
    census
}

/// Headers, types and ids, in order, each as often as it occurs.
fn found(census: &Census) -> Vec<(ProcAddr, ProcAddr, u64)> {
    census.tasks.iter().map(|task| (task.header, task.vtable, task.id.0)).collect()
}

fn expected(told: &[Told]) -> Vec<(ProcAddr, ProcAddr, u64)> {
    let mut all: Vec<_> = told.iter().map(|told| (told.header, told.vtable, told.id)).collect();
    all.sort_unstable();
    all
}

/// Exactly these tasks are in the census.
fn assert_found(census: &Census, told: &[Told]) {
    assert_same(found(census), expected(told), census);
}

fn assert_same(found: Vec<(ProcAddr, ProcAddr, u64)>, expected: Vec<(ProcAddr, ProcAddr, u64)>, census: &Census) {
    let extra: Vec<_> = found.iter().filter(|one| !expected.contains(one)).collect();
    let missing: Vec<_> = expected.iter().filter(|one| !found.contains(one)).collect();
    let rejected: Vec<_> = census.rejected.iter().collect();
    assert!(found == expected, "extra {extra:x?}, missing {missing:x?}, rejected {rejected:?}");
}

fn labelled<'t>(told: &'t [Told], label: &str) -> Vec<&'t Told> {
    told.iter().filter(|told| told.label == label).collect()
}

fn task(census: &Census, id: u64) -> &LiveTask {
    census.tasks.iter().find(|task| task.id.0 == id).unwrap()
}

fn two_workers(name: &str) -> Runtime {
    Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_time().build().unwrap()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what} did not come about");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Every type of the executable that has the same `schedule` function as this one, that is, the runtime's own, too.
fn closures_like(process: &Process, vtable: ProcAddr) -> HashMap<ProcAddr, CellType> {
    let schedule = process.memory().read_word(ProcAddr(vtable.0 + 8)).unwrap();
    let exe = process.modules().unwrap().into_iter().find(|module| module.is_exe).unwrap();
    let mut types = HashMap::new();
    for mapping in exe.mappings.iter().filter(|mapping| mapping.permissions.read) {
        let mut bytes = vec![0; mapping.range.len() as usize];
        process.memory().read_exact(mapping.range.start, &mut bytes).unwrap();
        for place in (8..bytes.len()).step_by(8).filter(|place| crate::model::word_at(&bytes, *place) == Some(schedule))
        {
            let at = ProcAddr(mapping.range.start.0 + place as u64 - 8);
            types.insert(at, type_at(process, at, Resource::Blocking));
        }
    }
    types
}

#[test]
fn without_types_nothing_is_read() {
    let us = Process::open(Pid(std::process::id())).unwrap();
    let census = Census::take(&us, &CellTypes::new([]), Allowance::MOST).unwrap();
    assert_eq!((census.tasks.len(), census.bytes_read), (0, 0));
}

#[test]
fn of_a_process_that_ended_there_is_no_census() {
    let mut child = Sleeper::start();
    let process = child.process();
    let cell = CellType { layout: layout(128), resource: Resource::Task, image: ImageIndex(0) };
    let types = CellTypes::new([(ProcAddr(0x1000), cell)]);
    let census = Census::take(&process, &types, Allowance::MOST).unwrap();
    assert!(census.tasks.is_empty() && census.bytes_read > 0 && census.unread.is_empty(), "{census:?}");
    child.end();
    let error = Census::take(&process, &types, Allowance::MOST).unwrap_err();
    assert!(matches!(error, CensusError::Target(TargetError::Vanished { .. })), "{error:?}");
}
