//! What idle tasks wait for, against the truth of a runtime in another process.

use std::collections::BTreeSet;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{Mutex, Notify, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::stage::{Player, tell, wait};
use super::*;
use crate::model::{Peers, TaskId, UnknownWaiting, Waiting};
use crate::target::monotonic_now;

const HOUR: Duration = Duration::from_secs(3600);

/// Spawns, tells of it, and keeps the handle.
struct Scene {
    kept: Vec<JoinHandle<()>>,
}

impl Scene {
    fn task(&mut self, label: &str, future: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(future);
        tell(label, &handle);
        self.kept.push(handle);
    }
}

fn play_every_kind() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let mut scene = Scene { kept: vec![] };
    let forever = Box::leak(Box::new(Vec::<Box<dyn std::any::Any>>::new()));
    scene.task("pending", pending());
    scene.task("sleep", tokio::time::sleep(HOUR));
    let boxed: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(tokio::time::sleep(HOUR));
    scene.task("boxed-sleep", boxed);
    scene.task("interval", async {
        let mut interval = tokio::time::interval(HOUR);
        loop {
            interval.tick().await;
        }
    });
    scene.task("timeout", async {
        let _ = tokio::time::timeout(HOUR, pending::<()>()).await;
    });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    listener.set_nonblocking(true).unwrap();
    server.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let mut server = TcpStream::from_std(server).unwrap();
    forever.push(Box::new(client));
    scene.task("accept", async move {
        let _ = listener.accept().await;
    });
    scene.task("read", async move {
        let mut bytes = [0; 8];
        let _ = server.read(&mut bytes).await;
    });
    let (sender, receiver) = oneshot::channel::<u64>();
    scene.task("oneshot", async move {
        let _ = receiver.await;
    });
    scene.task("oneshot-peer", async move {
        pending::<()>().await;
        let _ = sender.send(1);
    });
    let (sender, mut receiver) = mpsc::channel::<u64>(1);
    scene.task("mpsc-recv", async move {
        let _ = receiver.recv().await;
    });
    scene.task("mpsc-peer", async move {
        pending::<()>().await;
        let _ = sender.send(1).await;
    });
    let (sender, receiver) = mpsc::channel::<u64>(1);
    scene.task("mpsc-full", async move { while sender.send(1).await.is_ok() {} });
    forever.push(Box::new(receiver));
    let mutex = Arc::new(Mutex::new(0u64));
    let held = mutex.clone().try_lock_owned().unwrap();
    scene.task("mutex-peer", async move {
        pending::<()>().await;
        drop(held);
    });
    let one = mutex.clone();
    scene.task("mutex", async move {
        *one.lock().await += 1;
    });
    let semaphore = Arc::new(Semaphore::new(1));
    for _ in 0..5 {
        let semaphore = semaphore.clone();
        scene.task("semaphore", async move {
            let _ = semaphore.acquire_many(3).await;
        });
    }
    let rwlock = Arc::new(RwLock::new(0u64));
    forever.push(Box::new(rwlock.clone().try_read_owned().unwrap()));
    scene.task("rwlock", async move {
        *rwlock.write().await += 1;
    });
    let notify = Arc::new(Notify::new());
    for _ in 0..5 {
        let notify = notify.clone();
        scene.task("notify", async move { notify.notified().await });
    }
    let (sender, mut receiver) = watch::channel(0u64);
    scene.task("watch", async move {
        let _ = receiver.changed().await;
    });
    forever.push(Box::new(sender));
    let (sender, mut receiver) = broadcast::channel::<u64>(4);
    scene.task("broadcast", async move {
        let _ = receiver.recv().await;
    });
    forever.push(Box::new(sender));
    let awaited = tokio::spawn(pending::<()>());
    tell("awaited", &awaited);
    scene.task("join", async move {
        let _ = awaited.await;
    });
    scene.task("joinset", async {
        let mut set = tokio::task::JoinSet::new();
        set.spawn(pending::<()>());
        let _ = set.join_next().await;
    });
    let (sender, receiver) = oneshot::channel::<u64>();
    forever.push(Box::new(sender));
    scene.task("select", async move {
        let mut sleep = pin!(tokio::time::sleep(HOUR));
        tokio::select! {
            () = &mut sleep => {}
            _ = receiver => {}
        }
    });
    let aborting = tokio::spawn(pending::<()>());
    tell("abort-handle", &aborting);
    forever.push(Box::new(aborting.abort_handle()));
    scene.task("own-waker", async {
        let mut own = None;
        poll_fn(|cx| {
            own = Some(cx.waker().clone());
            Poll::<()>::Pending
        })
        .await;
    });
    let (give, given) = std::sync::mpsc::channel();
    scene.task("given-away", async move {
        poll_fn(|cx| {
            let _ = give.send(cx.waker().clone());
            Poll::<()>::Pending
        })
        .await;
    });
    let waker = given.recv().unwrap();
    scene.task("keeper", async move {
        pending::<()>().await;
        waker.wake();
    });
    wait();
    drop((scene, aborting));
}

/// Types, tasks and images of a process in which all that was told of is idle.
fn idle(process: &Process, told: &[Told]) -> (CellTypes, Vec<LiveTask>, Vec<ImageSpan>) {
    let types = types_of(process, told);
    let is_idle = |task: &LiveTask| task.state.is_idle() && !task.state.is_notified();
    wait_until("all futures idle", || census(process, &types).tasks.iter().all(is_idle));
    let images = process.modules().unwrap().iter().map(ImageSpan::of).collect();
    (CellTypes::new(types.clone()), census(process, &types).tasks, images)
}

#[test]
fn what_each_idle_future_waits_for_is_told() {
    let Some(mut player) = Player::of("waits::what_each_idle_future_waits_for_is_told") else {
        return play_every_kind();
    };
    let before = monotonic_now();
    let told = player.act();
    let after = monotonic_now();
    let process = player.process();
    let (types, tasks, images) = idle(&process, &told);
    let waits = Waits::find(&process, &types, &tasks, &images).unwrap();
    let of = |label: &str| -> Vec<Vec<Waiting>> {
        let answers = |told: &&Told| waits.of(tasks.iter().find(|task| task.header == told.header).unwrap()).to_vec();
        labelled(&told, label).iter().map(answers).collect()
    };
    let one = |label: &str| {
        let mut all = of(label);
        assert!(all.len() == 1 && all[0].len() == 1, "{label}: {all:?}");
        all.remove(0).remove(0)
    };
    let id = |label: &str| TaskId(labelled(&told, label)[0].id);
    // A future may hold addresses from before, so that there may be more peers than there should be.
    let holds = |peers: &Peers, label: &str| peers.tasks.contains(&id(label));

    assert_eq!(one("pending"), Waiting::Nobody);
    assert_eq!(one("awaited"), Waiting::Nobody);
    assert_eq!(one("join"), Waiting::Join { task: id("awaited") });
    for label in ["sleep", "boxed-sleep", "interval", "timeout"] {
        let Waiting::Timer { deadline: Some(deadline) } = one(label) else { panic!("{label}: {:?}", of(label)) };
        let hour = HOUR.as_nanos() as u64;
        assert!((before.0 + hour..=after.0 + hour).contains(&deadline.0), "{label}: {before:?} {deadline:?} {after:?}");
    }
    let mut descriptors = vec![];
    for label in ["accept", "read"] {
        let Waiting::Io { fd: Some(fd), object: Some(object) } = one(label) else { panic!("{:?}", of(label)) };
        assert_eq!(process.descriptor(fd).unwrap(), *object);
        assert!(object.starts_with("socket:["));
        descriptors.push(fd);
    }
    assert_ne!(descriptors[0], descriptors[1]);
    for (label, other) in [("oneshot", "oneshot-peer"), ("mpsc-recv", "mpsc-peer")] {
        let Waiting::Object { begins: true, peers, .. } = one(label) else { panic!("{label}: {:?}", of(label)) };
        assert!(holds(&peers, other), "{label}: {peers:?}");
    }
    let Waiting::Object { begins: true, peers, .. } = one("joinset") else { panic!("{:?}", of("joinset")) };
    // The set's own task is the only one that the player cannot tell of.
    let untold = tasks.iter().find(|task| !told.iter().any(|told| told.header == task.header));
    assert!(peers.tasks.contains(&untold.unwrap().id), "{peers:?} {untold:?}");
    for label in ["mpsc-full", "mutex", "rwlock"] {
        let Waiting::Semaphore { lacking: 1, peers, .. } = one(label) else { panic!("{label}: {:?}", of(label)) };
        assert!(label != "mutex" || holds(&peers, "mutex-peer"), "{peers:?}");
    }
    let mut semaphores: Vec<Waiting> = of("semaphore").concat().into_iter().map(without_peers).collect();
    let [Waiting::Semaphore { address: semaphore, .. }, ..] = semaphores[..] else { panic!("{semaphores:?}") };
    // One permit was there and went to the first, who asked for three, as all did: whichever of them a worker polled first.
    semaphores.sort_by_key(|waiting| matches!(waiting, Waiting::Semaphore { lacking: 3, .. }));
    let lacks = |lacking| Waiting::Semaphore { address: semaphore, lacking, peers: Peers::default() };
    assert_eq!(semaphores, [2, 3, 3, 3, 3].map(lacks));
    let notified: Vec<Waiting> = of("notify").concat().into_iter().map(without_peers).collect();
    let [Waiting::Notify { address: notify, .. }, ..] = notified[..] else { panic!("{notified:?}") };
    assert_eq!(notified, vec![Waiting::Notify { address: notify, peers: Peers::default() }; 5]);
    assert_eq!(one("watch").as_str(), "notify");
    assert_eq!(one("broadcast").as_str(), "queue");
    let select = of("select").concat();
    assert!(matches!(select[..], [Waiting::Timer { .. }, Waiting::Object { begins: true, .. }]), "{select:?}");
    assert_eq!(one("abort-handle"), Waiting::Unknown(UnknownWaiting::NoWakerFound));
    assert_eq!(one("own-waker"), Waiting::OwnFuture);
    assert_eq!(one("given-away"), Waiting::HeldBy { task: id("keeper") });

    // Asked for one only, the answer is the same, but for the peers: who waits for the same was not asked.
    for told in told.iter() {
        let wanted = |task: &LiveTask| task.header == told.header;
        let some = Waits::find_for(&process, &types, &tasks, &images, wanted).unwrap();
        for task in &tasks {
            let expected = if wanted(task) { waits.of(task) } else { &[] };
            let bare = |waitings: &[Waiting]| waitings.iter().cloned().map(without_peers).collect::<Vec<_>>();
            assert_eq!(bare(some.of(task)), bare(expected), "{}", told.label);
        }
    }
}

fn without_peers(waiting: Waiting) -> Waiting {
    match waiting {
        Waiting::Semaphore { address, lacking, .. } => Waiting::Semaphore { address, lacking, peers: Peers::default() },
        Waiting::Notify { address, .. } => Waiting::Notify { address, peers: Peers::default() },
        Waiting::Queue { address, .. } => Waiting::Queue { address, peers: Peers::default() },
        Waiting::Object { address, begins, .. } => Waiting::Object { address, begins, peers: Peers::default() },
        other => other,
    }
}

#[test]
fn the_answers_for_idle_futures_hold_while_others_come_and_go() {
    let Some(mut player) = Player::of("waits::the_answers_for_idle_futures_hold_while_others_come_and_go") else {
        async fn fleeting(tag: u64) -> u64 {
            tokio::task::yield_now().await;
            tag
        }
        let runtime = two_workers("waits-churn");
        let _inside = runtime.enter();
        let notify = Arc::new(Notify::new());
        let mut senders = vec![];
        for _ in 0..200 {
            let (sender, receiver) = oneshot::channel::<u64>();
            senders.push(sender);
            tell("oneshot", &tokio::spawn(receiver));
            tell("sleep", &tokio::spawn(tokio::time::sleep(HOUR)));
            let notify = notify.clone();
            tell("notify", &tokio::spawn(async move { notify.notified().await }));
        }
        let churn = tokio::spawn(async {
            loop {
                for handle in (0..16).map(|tag| tokio::spawn(fleeting(tag))).collect::<Vec<_>>() {
                    handle.await.unwrap();
                }
                let _ = tokio::time::timeout(Duration::from_micros(100), pending::<()>()).await;
            }
        });
        tell("fleeting", &tokio::spawn(fleeting(0)));
        tell("churn", &churn);
        wait();
        drop((runtime, senders));
        return;
    };
    let told = player.act();
    let process = player.process();
    let types = types_of(&process, &told);
    let is_idle = |task: &LiveTask| task.state.is_idle() && !task.state.is_notified();
    let stable: Vec<&Told> =
        told.iter().filter(|told| ["oneshot", "sleep", "notify"].contains(&told.label.as_str())).collect();
    let headers: BTreeSet<ProcAddr> = stable.iter().map(|told| told.header).collect();
    wait_until("the stable ones to be idle", || {
        let tasks = census(&process, &types).tasks;
        tasks.iter().filter(|task| headers.contains(&task.header)).all(is_idle)
    });
    let images: Vec<ImageSpan> = process.modules().unwrap().iter().map(ImageSpan::of).collect();
    for _ in 0..10 {
        let tasks = census(&process, &types).tasks;
        let waits = Waits::find(&process, &CellTypes::new(types.clone()), &tasks, &images).unwrap();
        for told in &stable {
            let task = tasks.iter().find(|task| task.header == told.header).unwrap();
            let right = match waits.of(task) {
                [Waiting::Object { .. }] => told.label == "oneshot",
                [Waiting::Timer { deadline: Some(_) }] => told.label == "sleep",
                [Waiting::Notify { .. }] => told.label == "notify",
                _ => false,
            };
            assert!(right, "{}: {:?}", told.label, waits.of(task));
        }
    }
}

#[test]
fn without_tasks_no_memory_is_searched() {
    let us = Process::open(Pid(std::process::id())).unwrap();
    let waits = Waits::find(&us, &CellTypes::new([]), &[], &[]).unwrap();
    assert!(waits.started <= waits.ended);
}
