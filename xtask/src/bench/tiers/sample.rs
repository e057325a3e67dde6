//! One run of one load under one who looks at it, and what that gave.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::bpftrace;
use super::load::Load;
use super::points::FileOffset;
use super::presence::Presence;
use super::process::{Kib, Pid};
use super::rebuilt::{Client, Port};
use super::steered::{BARE_REQUESTS, REQUESTS, Steered, Work};
use super::strace;
use super::watcher::{Ended, Ours, Watcher};

/// The poll functions of each load's program.
pub(super) type PollFunctions = BTreeMap<Load, BTreeSet<FileOffset>>;

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// The target's own CPU time for each thing that it did, in nanoseconds.
    pub(super) cost_ns: f64,
    /// The same process's while nobody looked, before and after, where one process can work twice.
    pub(super) bare_ns: Option<f64>,
    /// What who looked says that it has added for each thing, in nanoseconds, if it says so.
    pub(super) estimated_ns: Option<f64>,
    /// How long the load lasted.
    pub(super) elapsed: Duration,
    /// Memory of the target when all was done and it still held what it had.
    pub(super) target: Kib,
    /// Who looked from outside, if anybody did.
    pub(super) watched: Option<Watched>,
}

/// What it took to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    /// From the command until it was attached.
    pub(super) ready: Duration,
    /// From ^C until it was gone.
    pub(super) gone: Duration,
    /// Its memory before the load began.
    pub(super) base: Kib,
    /// Its memory after the load, the target still holding what it had.
    pub(super) after: Kib,
    /// Its CPU time while the load lasted.
    pub(super) cpu: Duration,
    /// What it says itself.
    pub(super) ended: Ended,
}

/// Runs a load.
pub(super) fn take(root: &Path, who: &Presence, load: Load, functions: &PollFunctions) -> Result<Sample> {
    let port = Port::free()?;
    let mut target = match who {
        Presence::Rebuilt { peer, .. } => peer.start(root, load, port)?,
        _ => Steered::start(root, load)?,
    };
    let mut sample = take_of(root, load, &mut target, |target| {
        let pid = target.pid();
        Ok(match who {
            Presence::Bare | Presence::Missing(_) | Presence::Rebuilt { client: false, .. } => None,
            Presence::Ours(arguments) => Some(Box::new(Ours::attach(root, pid, arguments)?)),
            Presence::Bpftrace(job, _) => {
                let functions = functions.get(&load).context("its poll functions are known")?;
                Some(Box::new(bpftrace::attach(*job, pid, &load.program(root), functions)?))
            }
            Presence::Strace(_) => Some(Box::new(strace::attach(pid)?)),
            Presence::Rebuilt { client: true, .. } => Some(Box::new(Client::attach(root, port)?)),
        })
    })?;
    target.end()?;
    // A program that was rebuilt is looked at from inside all the time.
    if matches!(who, Presence::Rebuilt { .. }) {
        sample.bare_ns = None;
    }
    Ok(sample)
}

/// Runs a load that is ready.
pub(super) fn take_of(
    root: &Path,
    load: Load,
    target: &mut Steered,
    attach: impl FnOnce(&Steered) -> Result<Option<Box<dyn Watcher>>>,
) -> Result<Sample> {
    let before = bare(root, load, target)?;
    let began = Instant::now();
    let watcher = attach(target)?;
    let ready = began.elapsed();
    let warm = target.warm(root)?;
    let used_before = watcher.as_ref().map(|watcher| used(watcher.pid())).transpose()?;
    let work = target.work(root, REQUESTS)?;
    if load == Load::Idle {
        settle(watcher.as_ref().map(|watcher| watcher.pid()))?;
    }
    let resident = target.pid().resident()?;
    let watched = match (watcher, used_before) {
        (Some(watcher), Some((base, cpu))) => {
            let (after, cpu_after) = used(watcher.pid())?;
            let began = Instant::now();
            let ended = watcher.end()?;
            Some(Watched { ready, gone: began.elapsed(), base, after, cpu: cpu_after.saturating_sub(cpu), ended })
        }
        _ => None,
    };
    let after = bare(root, load, target)?;
    let bare_ns = before.zip(after).map(|(before, after)| (before + after) / 2.0);
    // What it says is of all that was done while it looked.
    let of_each = |estimated: Duration| estimated.as_nanos() as f64 / (work.count + warm) as f64;
    let estimated_ns = watched.and_then(|watched: Watched| watched.ended.estimated).map(of_each);
    let (cost_ns, elapsed) = (cost(&work), work.elapsed);
    Ok(Sample { cost_ns, bare_ns, estimated_ns, elapsed, target: resident, watched })
}

/// What the load costs now, nobody looking; `None` where it works once only.
fn bare(root: &Path, load: Load, target: &mut Steered) -> Result<Option<f64>> {
    if load != Load::Hello {
        return Ok(None);
    }
    target.warm(root)?;
    Ok(Some(cost(&target.work(root, BARE_REQUESTS)?)))
}

/// Of each thing, in nanoseconds.
fn cost(work: &Work) -> f64 {
    work.cpu.as_nanos() as f64 / work.count as f64
}

/// What is asked of many tasks is what remains in memory. Who looks may still be busy with them; waits until it is not.
fn settle(watcher: Option<Pid>) -> Result<()> {
    /// How long it is looked at, again and again, and how much CPU time in this it may use and still be idle.
    const WHILE: Duration = Duration::from_millis(300);
    const IDLE: Duration = Duration::from_millis(20);
    /// It may rest between two pieces of work: so often in a row it must be idle.
    const CALM: u32 = 3;
    const AT_MOST: u32 = 50;
    let mut calm = 0;
    for _ in 0..AT_MOST {
        let before = watcher.map(Pid::cpu).transpose()?;
        std::thread::sleep(WHILE);
        let used = watcher.map(Pid::cpu).transpose()?.zip(before).map(|(now, before)| now.saturating_sub(before));
        calm = match used {
            None => CALM,
            Some(used) if used <= IDLE => calm + 1,
            Some(_) => 0,
        };
        if calm >= CALM {
            break;
        }
    }
    Ok(())
}

fn used(pid: Pid) -> Result<(Kib, Duration)> {
    Ok((pid.resident()?, pid.cpu()?))
}
