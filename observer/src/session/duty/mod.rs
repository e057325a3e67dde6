//! Who is busy, by full probes on polls for a part of the time: windows at moments that chance chooses, what they show scaled to all
//! the time, with its error.
//!
//! Where samples see a thread now and then, a window sees every poll: how many there were, how long each took, the longest. What it
//! costs the target is that part of what all polls would, and the coming and going of the probes.

mod phases;
mod planting;
mod saying;
mod tally;
mod watched;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Duty, EventSet, Missing, Ns};
use crate::plan::Slow;
use crate::sink::EndReason;
use crate::target::monotonic_now;

use super::error::SessionError;
use super::images::Images;
use super::pace::{Interrupted, Pace};
use super::privileges::{Stage, keep};
use super::sampled::SampledOutput;
use super::select::{Targets, select};
use super::setup::{Looking, Setup, set_up};
use super::{Caching, Selection, event_loop, progress};

use phases::Phases;
use planting::{Planting, Window};
use saying::Saying;
use watched::Watched;

/// Between two looks at the rings in a window, and at what has not ended after it.
const STEP: Duration = Duration::from_millis(10);
const SHORTLY: Duration = Duration::from_millis(1);
/// From when probes are in until a window opens. Who was kept from a CPU while they were put in begins then, all at once: a window
/// that opened there showed a tenth more polls than there are, on a busy machine.
const SETTLING: Duration = Duration::from_millis(8);

/// For which part of the time is looked, and how.
#[derive(Clone, Debug)]
pub struct DutyOptions {
    /// Which processes; not all of the machine, and none to be launched.
    pub selection: Selection,
    /// The part.
    pub duty: Duty,
    /// What becomes of polls whose first instruction the kernel must single-step.
    pub slow: Slow,
    /// From one report to the next.
    pub interval: Duration,
    /// Tasks are counted apart, not only types.
    pub by_task: bool,
    /// When to stop; `None` is at a signal or the targets' end.
    pub duration: Option<Duration>,
    /// Size of each CPU's ring, pages.
    pub ring_pages: usize,
    /// Whether future types are to be named.
    pub names: bool,
    /// Where what is known of images is kept.
    pub caching: Caching,
    /// Diagnostics on standard error: 0 none, 1 progress, 2 details.
    pub verbosity: u8,
}

/// Looks until something ends it: the wanted time, a signal, or the targets' end.
pub fn duty(options: &DutyOptions, output: SampledOutput) -> Result<(), SessionError> {
    let say = progress(options.verbosity);
    let runtime = event_loop()?;
    let Targets { processes, .. } = select(&options.selection)?;
    let mut images = Images::new(options.names, &options.caching, &say);
    let looking = Looking {
        events: EventSet { before: true, after: true, ..EventSet::NONE },
        slow: options.slow,
        spawners: false,
    };
    let Setup { catalog, attachments, targets, .. } = set_up(&processes, &mut images, looking)?;
    let watched = processes.iter().zip(targets).filter_map(|(process, target)| {
        Some(Watched::new(Arc::clone(process), target, Arc::clone(catalog.target(target)?)))
    });
    let watched: Vec<Watched> = watched.collect();
    let began = monotonic_now();
    let planting = Planting::load(options.ring_pages, catalog, attachments)?;
    let mechanism = planting.mechanism();
    keep(Stage::Attached(mechanism), &say);
    let loading = monotonic_now().since(began);
    let mut pace = {
        let _inside = runtime.enter();
        Pace::new(options.duration).map_err(|source| SessionError::System { what: "watch signals", source })?
    };
    let phases = Phases::new(options.duty, monotonic_now(), RandomState::new().build_hasher().finish());
    let saying = Saying::new(options, output);
    let mut looking = Turns { planting, watched, phases, saying, by_task: options.by_task };
    let (window, missing) = (looking.phases.window, missing());
    looking.saying.start(options, (window, loading, mechanism), &looking.watched, &missing)?;
    let ran = runtime.block_on(looking.run(&mut pace, options.interval));
    let ended = ran.and_then(|reason| looking.saying.end(reason, &mut looking.watched, &looking.planting.counts));
    ended.or_else(SessionError::unless_nobody_reads)
}

/// The windows, one after the other.
struct Turns {
    planting: Planting,
    watched: Vec<Watched>,
    phases: Phases,
    saying: Saying,
    by_task: bool,
}

impl Turns {
    async fn run(&mut self, pace: &mut Pace, interval: Duration) -> Result<EndReason, SessionError> {
        let mut due = Instant::now() + interval;
        loop {
            let begin = at(self.phases.next(monotonic_now()));
            while due <= begin {
                if let Err(why) = pace.rest(due).await {
                    return Ok(reason(why));
                }
                self.saying.report(&mut self.watched, &self.planting.counts)?;
                due = (due + interval).max(Instant::now());
                if self.end_gone()? {
                    return Ok(EndReason::Exited);
                }
            }
            if let Err(why) = pace.rest(begin).await {
                return Ok(reason(why));
            }
            if self.end_gone()? {
                return Ok(EndReason::Exited);
            }
            let interrupted = self.look(pace).await?;
            self.saying.lost(&self.planting.counts)?;
            if let Some(why) = interrupted {
                return Ok(reason(why));
            }
        }
    }

    /// One window. What ends the run ends it sooner, and it counts all the same.
    async fn look(&mut self, pace: &mut Pace) -> Result<Option<Interrupted>, SessionError> {
        let Self { planting, watched, phases, by_task, .. } = self;
        let (mut planted, mut window) = (planting.plant(watched)?, Window::default());
        let mut interrupted = pace.rest(Instant::now() + SETTLING).await.err();
        planting.open(&mut planted)?;
        let end = Instant::now() + Duration::from_nanos(phases.window.0);
        while interrupted.is_none() && Instant::now() < end {
            interrupted = pace.rest(end.min(Instant::now() + STEP)).await.err();
            planting.drain(watched, &mut window, *by_task);
        }
        planting.shut(&mut planted)?;
        // As long again for those that have begun. Most polls end at once.
        let patience = Instant::now() + Duration::from_nanos(phases.window.0);
        while !planting.is_over()? && interrupted.is_none() && Instant::now() < patience {
            interrupted = pace.rest(Instant::now() + SHORTLY).await.err();
            planting.drain(watched, &mut window, *by_task);
        }
        let window = planting.harvest(planted, watched, window, *by_task)?;
        for (pid, (shown, length)) in window {
            let of = watched.iter_mut().find(|of| of.pid() == pid);
            // Of one that ended in it nobody knows for how much of it there was anything to see.
            if let Some(of) = of.filter(|of| length > Ns(0) && !of.process.has_ended()) {
                of.add(&shown, length);
            }
        }
        Ok(interrupted)
    }

    /// Lets go of targets that ended or run another program now; whether none is left.
    fn end_gone(&mut self) -> Result<bool, SessionError> {
        for n in (0..self.watched.len()).rev() {
            let process = &self.watched[n].process;
            let why = match process.has_ended() {
                true => "exit",
                false if process.runs_same_program().is_ok_and(|same| !same) => "exec",
                false => continue,
            };
            let mut watched = self.watched.remove(n);
            self.planting.ended(watched.pid())?;
            self.saying.ended(&mut watched, why, &self.planting.counts)?;
        }
        Ok(self.watched.is_empty())
    }
}

/// The same moment on the event loop's clock.
fn at(moment: Ns) -> Instant {
    Instant::now() + Duration::from_nanos(moment.since(monotonic_now()).0)
}

fn reason(why: Interrupted) -> EndReason {
    match why {
        Interrupted::Signal => EndReason::Signal,
        Interrupted::Over => EndReason::Duration,
    }
}

/// What will not be seen, whoever is looked at.
fn missing() -> [Missing; 3] {
    let missing = |event, reason: &str| Missing { event, reason: reason.to_owned() };
    [
        missing(
            "busy",
            "a poll is timed by the clock from its entry to its return: what it waits in it, and what its thread waits for a CPU, is \
             in it, and about a microsecond of the probe's own; polls inside a poll are in both; one that goes on for longer \
             than a window after its window is counted as long as it was seen (`cut`)",
        ),
        missing("blocking", "which call a poll blocks in is not seen: `--tier sampled` without --duty names it"),
        missing(
            "init, before, after, resolve, destroy",
            "probes come and go, so no task is followed: `--tier full`, or `lifecycle`, `polls` or `spawns` for a part",
        ),
    ]
}
