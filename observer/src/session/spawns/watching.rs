//! A thread that takes what the probes bring as soon as it comes: a spawner's memory tells which task it is only for as long
//! as the task lives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Spawns;

/// Between two looks at the rings.
const STEP: Duration = Duration::from_millis(5);

/// Spawns under watch. Dropping it takes the probes out.
pub struct Watching {
    spawns: Arc<Mutex<Spawns>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watching {
    /// Begins.
    pub fn begin(spawns: Spawns) -> std::io::Result<Self> {
        let (spawns, over) = (Arc::new(Mutex::new(spawns)), Arc::new(AtomicBool::new(false)));
        let (theirs, until) = (Arc::clone(&spawns), Arc::clone(&over));
        let thread = std::thread::Builder::new().name("spawns".to_owned()).spawn(move || {
            while !until.load(Ordering::Relaxed) {
                lock(&theirs).drain();
                std::thread::sleep(STEP);
            }
        })?;
        Ok(Self { spawns, over, thread: Some(thread) })
    }

    /// What was seen up to now.
    pub fn seen(&self) -> MutexGuard<'_, Spawns> {
        let mut spawns = lock(&self.spawns);
        spawns.drain();
        spawns
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // It panicked or it ended: either way the probes go with the last holder.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn lock(spawns: &Mutex<Spawns>) -> MutexGuard<'_, Spawns> {
    spawns.lock().unwrap_or_else(PoisonError::into_inner)
}
