//! Closures, workers among them, and the threads that run tasks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::mpsc;

use tokio::runtime::Builder;
use tokio::task::JoinHandle;

use super::stage::{Player, Told, tell, tell_on, this_thread, wait};
use super::*;
use crate::model::Tid;

#[test]
fn a_running_closure_is_found_with_its_thread_whether_it_waits_or_computes() {
    let Some(mut player) =
        Player::of("closures::a_running_closure_is_found_with_its_thread_whether_it_waits_or_computes")
    else {
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
    let types = closures_like(&process, told[0].vtable);
    // A thread on its way to sleep has no stack pointer that can be read: nothing is said of it then.
    wait_until("both to be seen on their threads", || {
        let census = census(&process, &types);
        // With the two workers.
        assert_eq!(census.tasks.len(), 4);
        told.iter().all(|told| {
            let task = task(&census, told.id);
            assert_eq!((task.header, task.vtable, task.owner), (told.header, told.vtable, 0));
            assert!(task.state.is_running());
            assert!(task.running_on.is_none() || task.running_on == told.tid, "{}: {:?}", told.label, task.running_on);
            task.running_on.is_some()
        })
    });
}

#[test]
fn queued_and_finished_closures_are_told_from_the_copies_they_left() {
    let Some(mut player) = Player::of("closures::queued_and_finished_closures_are_told_from_the_copies_they_left")
    else {
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
        Player::of("closures::a_future_inside_its_poll_is_found_on_its_worker_though_another_thread_holds_its_handle")
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
    // A thread on its way to sleep has no stack pointer that can be read: nothing is said of it then.
    wait_until("both to be seen on their threads", || {
        let census = census(&process, &types);
        futures.iter().all(|told| {
            let task = task(&census, told.id);
            assert_eq!((task.header, task.vtable), (told.header, told.vtable));
            assert!(task.state.is_running() && task.owner != 0);
            assert!(task.running_on.is_none() || task.running_on == told.tid, "{}: {:?}", told.label, task.running_on);
            task.running_on.is_some()
        })
    });
}

#[test]
fn the_workers_of_a_runtime_are_closures_that_run_on_their_own_threads() {
    let Some(mut player) = Player::of("closures::the_workers_of_a_runtime_are_closures_that_run_on_their_own_threads")
    else {
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
