//! Futures: live, freed, reused, and beside others that come and go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::JoinHandle;

use super::stage::{Player, Told, tell, wait};
use super::*;
use crate::census::Census;

#[test]
fn every_live_future_is_found_once_under_its_type() {
    let Some(mut player) = Player::of("futures::every_live_future_is_found_once_under_its_type") else {
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
    let Some(mut player) = Player::of("futures::freed_futures_are_gone_and_kept_outputs_are_complete") else {
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
    let Some(mut player) = Player::of("futures::memory_of_freed_futures_that_others_use_now_is_no_task") else {
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
    let Some(mut player) = Player::of("futures::stable_futures_are_found_exactly_while_others_come_and_go") else {
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
