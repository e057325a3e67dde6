//! The censuses of a stream's targets: one at a time a target, in the background, when something asks for one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::census::{self, Allowance, CellTypes, Census, CensusError};
use crate::lifecycle::{self, KnownCell};
use crate::model::{AsyncId, Ns, ProcAddr, TargetEntry, TargetId};
use crate::target::{MemoryError, Process, TargetError, own_memory};

use super::budget::Bound;
use super::stream::Stream;

/// At least this long between two censuses of a target.
const PAUSE: Ns = Ns(200_000_000);
/// And this many times as long as the last one took: while records go on being lost, reading a large heap again and again
/// must not cost the machine more than a fifth of one CPU.
const REST: u64 = 4;
/// Targets that are read at the same time: each takes a thread, and reading goes as fast as memory does.
const AT_ONCE: usize = 4;

/// All of them.
pub(super) struct Censuses {
    takings: HashMap<TargetId, Taking>,
    bound: Bound,
}

/// The censuses of one target.
#[derive(Default)]
struct Taking {
    process: Option<Arc<Process>>,
    wanted: bool,
    running: Option<JoinHandle<Result<Taken, CensusError>>>,
    not_before: Ns,
}

/// A census, and which of the cells known before are not theirs any more.
struct Taken {
    census: Census,
    gone: Vec<AsyncId>,
}

impl Censuses {
    /// Within this.
    pub(super) fn new(bound: Bound) -> Self {
        Self { takings: HashMap::new(), bound }
    }

    /// A target begins. `past` is whether it may have tasks already; `process` is it, if it is held.
    pub(super) fn begin(&mut self, target: TargetId, past: bool, process: Option<Arc<Process>>) {
        let taking = self.takings.entry(target).or_default();
        taking.wanted |= past;
        taking.process = process.or(taking.process.take());
    }

    /// A target has ended.
    pub(super) fn end(&mut self, target: TargetId) {
        self.takings.remove(&target);
    }

    /// Records were lost: what is known of every target is in doubt.
    pub(super) fn want_all(&mut self) {
        self.takings.values_mut().for_each(|taking| taking.wanted = true);
    }

    /// Whether one is being taken whose result is not in yet.
    pub(super) fn are_under_way(&self) -> bool {
        self.takings.values().any(|taking| taking.running.is_some())
    }

    /// Takes in those that are finished, begins those that are wanted.
    pub(super) async fn tend(&mut self, stream: &mut Stream, now: Ns, say: &dyn Fn(u8, &str)) {
        let mut running = self.takings.values().filter(|taking| taking.running.is_some()).count();
        let at_once = self.takings.len().min(AT_ONCE) as u64;
        for (target, taking) in &mut self.takings {
            let Some(entry) = stream.population.catalog().target(*target).cloned() else { continue };
            if let Some(finished) = taking.running.take_if(|running| running.is_finished()) {
                running -= 1;
                match finished.await {
                    Ok(Ok(taken)) => {
                        let (began, ended) = (taken.census.started, taken.census.ended);
                        let rest = ended.since(began).0.saturating_mul(REST);
                        taking.not_before = taking.not_before.max(Ns(ended.0.saturating_add(rest)));
                        say(2, &described(&taken.census));
                        stream.census(taken.into_census(*target));
                    }
                    Ok(Err(error)) => {
                        let pid = entry.pid;
                        // Of a process that has ended meanwhile nothing is missing.
                        let ended = matches!(
                            error,
                            CensusError::Target(
                                TargetError::NoSuchProcess { .. }
                                    | TargetError::Vanished { .. }
                                    | TargetError::Zombie { .. }
                            ) | CensusError::Memory(MemoryError::Vanished { .. })
                        );
                        say(
                            if ended { 2 } else { 1 },
                            &format!("no census of process {pid}: {error}; existing tasks appear at their first poll"),
                        );
                    }
                    Err(panic) => say(1, &format!("a census failed: {panic}")),
                }
            }
            if taking.running.is_some() || now < taking.not_before {
                continue;
            }
            if !taking.wanted {
                // Looks through all resources: not at every tick.
                taking.wanted = stream.lifecycle().is_in_doubt(*target);
                if !taking.wanted {
                    taking.not_before = Ns(now.0 + PAUSE.0);
                }
            }
            if taking.wanted && running < AT_ONCE {
                running += 1;
                taking.wanted = false;
                taking.not_before = Ns(now.0 + PAUSE.0);
                let lifecycle = stream.lifecycle();
                lifecycle.census_begins(*target);
                let known = lifecycle.known_cells(*target);
                let process = taking.process.clone();
                let allowance = self.bound.allowance(own_memory().unwrap_or_default(), at_once);
                taking.running = Some(tokio::task::spawn_blocking(move || take(process, &entry, &known, allowance)));
            }
        }
    }
}

impl Taken {
    fn into_census(self, target: TargetId) -> lifecycle::Census {
        let Self { census, gone } = self;
        lifecycle::Census {
            target,
            began: census.started,
            ended: census.ended,
            complete: census.unread.is_empty() && !census.truncated,
            found: census.tasks,
            gone,
        }
    }
}

fn described(census: &Census) -> String {
    format!(
        "census: {} tasks in {} MiB, {:.1} ms{}",
        census.tasks.len(),
        census.bytes_read >> 20,
        census.ended.since(census.started).0 as f64 / 1e6,
        if census.unread.is_empty() { "" } else { "; some memory could not be read" }
    )
}

/// Reads the target's memory. Thousands of targets are not held open: who is not is opened for as long as it takes.
/// A number that means another process by then was given up by the target, whose end is taken in before this is.
fn take(
    process: Option<Arc<Process>>,
    entry: &TargetEntry,
    known: &[KnownCell],
    allowance: Allowance,
) -> Result<Taken, CensusError> {
    let process = match process {
        Some(process) => process,
        None => Arc::new(Process::open(entry.pid)?),
    };
    let types = CellTypes::of_target(entry);
    let census = Census::take(&process, &types, allowance)?;
    let there: HashSet<ProcAddr> = census.tasks.iter().map(|task| task.header).collect();
    let unseen: Vec<&KnownCell> = known.iter().filter(|cell| !there.contains(&cell.header)).collect();
    let cells: Vec<census::Known> =
        unseen.iter().map(|cell| census::Known { header: cell.header, vtable: cell.vtable, task: cell.task }).collect();
    let stand = census::standing(&process.memory(), &types, &cells)?;
    let gone = unseen.iter().zip(stand).filter(|(_, stands)| !stands).map(|(cell, _)| cell.id).collect();
    Ok(Taken { census, gone })
}
