//! A thread that takes what the probes bring as soon as it comes: a spawner's memory tells which task it is only for as long
//! as the task lives.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::model::{Caller, StackId, TargetId};

use super::code::Code;
use super::{Spawns, Stack};

/// Between two looks at the rings.
const STEP: Duration = Duration::from_millis(5);

/// Spawns under watch. Dropping it takes the probes out.
pub struct Watching {
    spawns: Arc<Mutex<Spawns>>,
    /// What names are read from: apart from what the thread unwinds with, because to read them takes long.
    names: Mutex<HashMap<TargetId, Code>>,
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
        Ok(Self { spawns, names: Mutex::default(), over, thread: Some(thread) })
    }

    /// What was seen up to now. While it is held no spawn is taken.
    pub fn seen(&self) -> MutexGuard<'_, Spawns> {
        let mut spawns = lock(&self.spawns);
        spawns.drain();
        spawns
    }
}

impl Watching {
    /// As [`Spawns::callers`] of one stack, while spawns go on being taken: a ring is full long before a large image's names are read.
    pub fn callers(&self, id: StackId) -> Vec<Caller> {
        let of = |spawns: &Spawns| {
            let Stack { target, addresses, .. } = spawns.stack(id)?;
            Some((*target, spawns.process(*target)?, addresses.clone(), spawns.names().clone()))
        };
        let Some((target, process, addresses, wanted)) = of(&lock(&self.spawns)) else { return Vec::new() };
        let mut names = lock(&self.names);
        let code = names.entry(target).or_insert_with(|| Code::new(process, wanted));
        code.look_anew();
        code.callers(&addresses)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // It panicked or it ended: either way the probes go with the last holder.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
