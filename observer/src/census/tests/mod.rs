//! The census against the truth of runtimes in another process.
//!
//! Every test has two sides: `Player::of` gives the watcher one, and the player, which is the same test in another
//! process, `None`.

mod stage;
mod waits;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use self::stage::{Player, Told, tell, tell_on, this_thread, wait};
use super::*;
use crate::model::{CellLayout, LiveTask, Pid, ProcAddr, Resource, Tid};
use crate::target::sleeper::Sleeper;
use crate::target::{Process, TargetError};

/// Offsets as in a release build of tokio 1.54.
pub fn layout(align: u32) -> CellLayout {
    CellLayout {
        state: 0,
        queue_next: 8,
        vtable: 16,
        owner: 24,
        scheduler: 32,
        id: 40,
        spawn_location: None,
        trailer: 96,
        align,
        stage_tagged: true,
    }
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
    let census = Census::take(process, &CellTypes::new(types.clone())).unwrap();
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

#[test]
fn every_live_future_is_found_once_under_its_type() {
    let Some(mut player) = Player::of("every_live_future_is_found_once_under_its_type") else {
        async fn pending(tag: u64) -> u64 {
            std::future::pending::<()>().await;
            tag
        }
        async fn sleeping() {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        async fn waiting(receiver: tokio::sync::oneshot::Receiver<[u64; 9]>) -> Option<[u64; 9]> {
            receiver.await.ok()
        }
        let runtime = two_workers("census-types");
        let _inside = runtime.enter();
        let (mut kept, mut senders) = (vec![], vec![]);
        for tag in 0..500 {
            let handle = tokio::spawn(pending(tag));
            tell("pending", &handle);
            kept.extend((tag % 2 == 0).then_some(handle));
        }
        for _ in 0..300 {
            tell("sleeping", &tokio::spawn(sleeping()));
            let (sender, receiver) = tokio::sync::oneshot::channel();
            tell("waiting", &tokio::spawn(waiting(receiver)));
            senders.push(sender);
        }
        return wait();
    };
    let told = player.act();
    let process = player.process();
    let types = types_of(&process, &told);
    assert_eq!((told.len(), types.len()), (1100, 3));
    wait_until("all futures idle", || census(&process, &types).tasks.iter().all(|task| task.state.0 & 7 == 0));
    let census = census(&process, &types);
    assert_found(&census, &told);
    assert_eq!(census.tasks.iter().filter(|task| task.state.has_join_interest()).count(), 250);
    let owners: BTreeSet<u64> = census.tasks.iter().map(|task| task.owner).collect();
    assert!(owners.len() == 1 && !owners.contains(&0), "{owners:?}");
    assert!(census.tasks.iter().all(|task| task.running_on.is_none()));
}

#[test]
fn freed_futures_are_gone_and_kept_outputs_are_complete() {
    let Some(mut player) = Player::of("freed_futures_are_gone_and_kept_outputs_are_complete") else {
        async fn freed(tag: u64) -> u64 {
            tokio::task::yield_now().await;
            tag
        }
        async fn kept(tag: u64) -> [u64; 4] {
            [tag; 4]
        }
        async fn aborted() {
            std::future::pending().await
        }
        let runtime = two_workers("census-freed");
        let _inside = runtime.enter();
        for tag in 0..2000 {
            let handle = tokio::spawn(freed(tag));
            if tag == 0 {
                tell("freed", &handle);
            }
            runtime.block_on(handle).unwrap();
        }
        let (done, stopped): (Vec<_>, Vec<_>) =
            (0..100).map(|tag| (tokio::spawn(kept(tag)), tokio::spawn(aborted()))).unzip();
        stopped.iter().for_each(JoinHandle::abort);
        let finished = || done.iter().all(JoinHandle::is_finished) && stopped.iter().all(JoinHandle::is_finished);
        wait_until("all outputs", finished);
        done.iter().for_each(|handle| tell("kept", handle));
        stopped.iter().for_each(|handle| tell("kept", handle));
        wait();
        drop((done, stopped));
        return wait();
    };
    let told = player.act();
    let process = player.process();
    let types = types_of(&process, &told);
    // A worker lets go of the last reference after the output is there.
    wait_until("the workers to let go", || {
        census(&process, &types).tasks.iter().all(|task| task.state.references() == 1)
    });
    let kept = census(&process, &types);
    let told: Vec<Told> = told.into_iter().filter(|told| told.label == "kept").collect();
    assert_eq!(told.len(), 200);
    assert_found(&kept, &told);
    assert!(kept.tasks.iter().all(|task| task.state.is_complete() && task.running_on.is_none()));
    player.go_on();
    player.act();
    assert_eq!(found(&census(&process, &types)), []);
}

#[test]
fn memory_of_freed_futures_that_others_use_now_is_no_task() {
    let Some(mut player) = Player::of("memory_of_freed_futures_that_others_use_now_is_no_task") else {
        async fn fleeting(text: [u64; 8]) -> u64 {
            tokio::task::yield_now().await;
            text[7]
        }
        async fn stays() {
            std::future::pending().await
        }
        let runtime = Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        (0..3).for_each(|_| tell("stays", &tokio::spawn(stays())));
        let all: Vec<_> = (0..300).map(|tag| tokio::spawn(fleeting([tag; 8]))).collect();
        tell("fleeting", &all[0]);
        runtime.block_on(async {
            for handle in all {
                handle.await.unwrap();
            }
        });
        // One word is written, and it would do for a state; the cell's other words stay as they were.
        let reused: Vec<Vec<u64>> = (1..5000usize)
            .map(|n| {
                let mut words = Vec::with_capacity(n % 100 + 8);
                words.push(0x84);
                words
            })
            .collect();
        wait();
        drop(reused);
        return;
    };
    let told = player.act();
    let process = player.process();
    let census = census(&process, &types_of(&process, &told));
    let stays: Vec<Told> = told.into_iter().filter(|told| told.label == "stays").collect();
    assert_found(&census, &stays);
}

#[test]
fn stable_futures_are_found_exactly_while_others_come_and_go() {
    let Some(mut player) = Player::of("stable_futures_are_found_exactly_while_others_come_and_go") else {
        async fn stable() {
            std::future::pending().await
        }
        async fn fleeting(tag: u64) -> u64 {
            tokio::task::yield_now().await;
            tag
        }
        async fn churn(stop: Arc<AtomicBool>) {
            while !stop.load(Ordering::Relaxed) {
                for handle in (0..16).map(|tag| tokio::spawn(fleeting(tag))).collect::<Vec<_>>() {
                    handle.await.unwrap();
                }
            }
        }
        let runtime = two_workers("census-churn");
        let _inside = runtime.enter();
        for _ in 0..1000 {
            tell("stable", &tokio::spawn(stable()));
        }
        tell("fleeting", &tokio::spawn(fleeting(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let churning = tokio::spawn(churn(stop.clone()));
        wait();
        stop.store(true, Ordering::Relaxed);
        runtime.block_on(churning).unwrap();
        tell("fleeting", &tokio::spawn(fleeting(0)));
        return wait();
    };
    let told = player.act();
    let process = player.process();
    let types = types_of(&process, &told);
    let censuses: Vec<Census> = (0..30).map(|_| census(&process, &types)).collect();
    player.go_on();
    let last_id = player.act()[0].id;
    let (fleeting, stable): (Vec<Told>, Vec<Told>) = told.into_iter().partition(|told| told.label == "fleeting");
    for census in censuses {
        let (others, ours): (Vec<_>, Vec<_>) =
            found(&census).into_iter().partition(|(_, vtable, _)| *vtable == fleeting[0].vtable);
        assert_same(ours, expected(&stable), &census);
        let ids: BTreeSet<u64> = others.iter().map(|(_, _, id)| *id).collect();
        assert_eq!(ids.len(), others.len(), "an id occurs twice");
        assert!(ids.iter().all(|id| (fleeting[0].id..last_id).contains(id)), "{ids:?}");
        // At most 16 live at any moment, and the census lasts many.
        assert!(ids.len() <= 1000, "{}", ids.len());
    }
}

#[test]
fn a_running_closure_is_found_with_its_thread_whether_it_waits_or_computes() {
    let Some(mut player) = Player::of("a_running_closure_is_found_with_its_thread_whether_it_waits_or_computes") else {
        let runtime = two_workers("census-closures");
        let _inside = runtime.enter();
        let (say, said) = mpsc::channel();
        let say_too = say.clone();
        let (_release, blocked) = mpsc::channel::<()>();
        let waits = tokio::task::spawn_blocking(move || {
            say.send(("waits", this_thread())).unwrap();
            let _ = blocked.recv();
        });
        let computes = tokio::task::spawn_blocking(move || {
            say_too.send(("computes", this_thread())).unwrap();
            loop {
                std::hint::spin_loop();
            }
        });
        let threads: HashMap<&str, Tid> = [said.recv().unwrap(), said.recv().unwrap()].into();
        tell_on("closure-waits", &waits, Some(threads["waits"]));
        tell_on("closure-computes", &computes, Some(threads["computes"]));
        wait();
        std::process::exit(0);
    };
    let told = player.act();
    let process = player.process();
    let census = census(&process, &closures_like(&process, told[0].vtable));
    for told in told {
        let task = task(&census, told.id);
        assert_eq!((task.header, task.vtable, task.owner), (told.header, told.vtable, 0));
        assert!(task.state.is_running());
        assert_eq!(task.running_on, told.tid, "{}", told.label);
    }
    // And the two workers.
    assert_eq!(census.tasks.len(), 4);
}

#[test]
fn queued_and_finished_closures_are_told_from_the_copies_they_left() {
    let Some(mut player) = Player::of("queued_and_finished_closures_are_told_from_the_copies_they_left") else {
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let _inside = runtime.enter();
        let (release, blocked) = mpsc::channel::<()>();
        let (say, said) = mpsc::channel();
        let running = tokio::task::spawn_blocking(move || {
            say.send(()).unwrap();
            let _ = blocked.recv();
        });
        let queued: Vec<_> = (0..20u64).map(|n| tokio::task::spawn_blocking(move || n)).collect();
        tell("closure-running", &running);
        queued.iter().for_each(|handle| tell("closure-queued", handle));
        said.recv().unwrap();
        wait();
        drop(release);
        wait_until("all closures to end", || queued.iter().all(JoinHandle::is_finished) && running.is_finished());
        wait();
        drop((running, queued));
        return wait();
    };
    let told = player.act();
    let process = player.process();
    let types = types_of(&process, &told);
    let queued = census(&process, &types);
    assert_found(&queued, &told);
    let is_queued = |id: u64| task(&queued, id).state.is_notified() && !task(&queued, id).state.is_running();
    assert!(labelled(&told, "closure-queued").iter().all(|told| is_queued(told.id)));
    assert!(task(&queued, labelled(&told, "closure-running")[0].id).state.is_running());
    player.go_on();
    player.act();
    wait_until("the thread to let go", || {
        census(&process, &types).tasks.iter().all(|task| task.state.references() == 1)
    });
    let done = census(&process, &types);
    assert_found(&done, &told);
    assert!(done.tasks.iter().all(|task| task.state.is_complete()));
    player.go_on();
    player.act();
    assert_eq!(found(&census(&process, &types)), []);
}

#[test]
fn a_future_inside_its_poll_is_found_on_its_worker_though_another_thread_holds_its_handle() {
    let Some(mut player) =
        Player::of("a_future_inside_its_poll_is_found_on_its_worker_though_another_thread_holds_its_handle")
    else {
        let runtime = two_workers("census-poll");
        let (say, said) = mpsc::channel();
        let say_too = say.clone();
        let (_release, blocked) = mpsc::channel::<()>();
        let waits = runtime.spawn(async move {
            say.send(("waits", this_thread())).unwrap();
            let _ = blocked.recv();
        });
        let computes = runtime.spawn(async move {
            say_too.send(("computes", this_thread())).unwrap();
            loop {
                std::hint::spin_loop();
            }
        });
        let threads: HashMap<&str, Tid> = [said.recv().unwrap(), said.recv().unwrap()].into();
        tell_on("waits", &waits, Some(threads["waits"]));
        tell_on("computes", &computes, Some(threads["computes"]));
        tell("closure", &runtime.spawn_blocking(|| ()));
        runtime.block_on(async {
            wait();
            let _ = (waits.await, computes.await);
        });
        unreachable!();
    };
    let told = player.act();
    let process = player.process();
    let (closures, futures): (Vec<Told>, Vec<Told>) = told.into_iter().partition(|told| told.label == "closure");
    let mut types = types_of(&process, &futures);
    types.extend(closures_like(&process, closures[0].vtable));
    let census = census(&process, &types);
    for told in futures {
        let task = task(&census, told.id);
        assert_eq!((task.header, task.vtable), (told.header, told.vtable));
        assert!(task.state.is_running() && task.owner != 0);
        assert_eq!(task.running_on, told.tid, "{}", told.label);
    }
}

#[test]
fn the_workers_of_a_runtime_are_closures_that_run_on_their_own_threads() {
    let Some(mut player) = Player::of("the_workers_of_a_runtime_are_closures_that_run_on_their_own_threads") else {
        let runtime = two_workers("census-worker");
        let handle = runtime.spawn_blocking(std::thread::yield_now);
        tell("closure", &handle);
        runtime.block_on(handle).unwrap();
        wait();
        drop(runtime);
        return wait();
    };
    let told = player.act();
    let process = player.process();
    let types = closures_like(&process, told[0].vtable);
    let threads: BTreeMap<Tid, String> =
        process.threads().unwrap().into_iter().map(|thread| (thread.tid, thread.name)).collect();
    let mut workers = BTreeSet::new();
    wait_until("both workers to be seen on their threads", || {
        let census = census(&process, &types);
        assert_eq!(census.tasks.len(), 2, "{:?}", census.tasks);
        assert!(census.tasks.iter().all(|task| task.state.is_running() && task.owner == 0));
        workers = census.tasks.iter().filter_map(|task| task.running_on).collect();
        workers.len() == 2
    });
    assert!(workers.iter().all(|tid| threads[tid] == "census-worker"), "{workers:?} of {threads:?}");
    player.go_on();
    player.act();
    assert_eq!(found(&census(&process, &types)), []);
}

/// Every type of the executable that has the same `schedule` function as this one, that is, the runtime's own, too.
fn closures_like(process: &Process, vtable: ProcAddr) -> HashMap<ProcAddr, CellType> {
    let schedule = process.memory().read_word(ProcAddr(vtable.0 + 8)).unwrap();
    let exe = process.modules().unwrap().into_iter().find(|module| module.is_exe).unwrap();
    let mut types = HashMap::new();
    for mapping in exe.mappings.iter().filter(|mapping| mapping.permissions.read) {
        let mut bytes = vec![0; mapping.range.len() as usize];
        process.memory().read_exact(mapping.range.start, &mut bytes).unwrap();
        for place in (8..bytes.len()).step_by(8).filter(|place| cell::word_at(&bytes, *place) == Some(schedule)) {
            let at = ProcAddr(mapping.range.start.0 + place as u64 - 8);
            types.insert(at, type_at(process, at, Resource::Blocking));
        }
    }
    types
}

#[test]
fn without_types_nothing_is_read() {
    let us = Process::open(Pid(std::process::id())).unwrap();
    let census = Census::take(&us, &CellTypes::new([])).unwrap();
    assert_eq!((census.tasks.len(), census.bytes_read), (0, 0));
}

#[test]
fn of_a_process_that_ended_there_is_no_census() {
    let mut child = Sleeper::start();
    let process = child.process();
    let cell = CellType { layout: layout(128), resource: Resource::Task, image: ImageIndex(0) };
    let types = CellTypes::new([(ProcAddr(0x1000), cell)]);
    let census = Census::take(&process, &types).unwrap();
    assert!(census.tasks.is_empty() && census.bytes_read > 0 && census.unread.is_empty(), "{census:?}");
    child.end();
    let error = Census::take(&process, &types).unwrap_err();
    assert!(matches!(error, CensusError::Target(TargetError::Vanished { .. })), "{error:?}");
}
