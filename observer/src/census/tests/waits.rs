//! What idle tasks wait for, against the truth of a runtime in another process.

use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{Mutex, Notify, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::stage::{Player, tell, wait};
use super::*;

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
    let mut boxed: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(tokio::time::sleep(HOUR));
    scene.task("boxed-sleep", async move { (&mut boxed).await });
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
    // Polls have all come to rest once a task spawned after them on an otherwise idle runtime has been polled often.
    wait();
    drop(scene);
}

#[test]
fn dump() {
    let scene = std::env::var("SCENE").ok();
    let Some(mut player) = (match &scene {
        Some(path) => Some(Player::start(&mut std::process::Command::new(path))),
        None => Player::of("waits::dump"),
    }) else {
        return play_every_kind();
    };
    let told = player.act();
    let process = player.process();
    let mut types = types_of(&process, &told);
    if scene.is_some_and(|s| s.contains("1.2")) {
        types.values_mut().for_each(|t| t.layout.align = 16);
    }
    wait_until("all futures idle", || census(&process, &types).tasks.iter().all(|task| task.state.0 & 7 == 0));
    let census = census(&process, &types);
    let types = CellTypes::new(types);
    let images: Vec<_> = process.modules().unwrap().iter().map(ImageSpan::of).collect();
    let begin = Instant::now();
    let waits = Waits::find(&process, &types, &census.tasks, &images).unwrap();
    println!("took {:?}", begin.elapsed());
    for told in &told {
        let task = census.tasks.iter().find(|task| task.header == told.header).unwrap();
        let texts: Vec<String> = waits.of(task).iter().map(|w| format!("{} {w}", w.as_str())).collect();
        println!("{:4} {:14} {:4x} {}", task.id, told.label, task.state.0, texts.join("; "));
    }
}
