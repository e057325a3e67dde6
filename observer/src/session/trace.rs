//! The live stream of one or several processes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::attach::{self, ImageRequest, Links, Probes};
use crate::census::{self, CellTypes, Census, CensusError};
use crate::lifecycle::{self, KnownCell, Lifecycle, Rules};
use crate::model::{AsyncId, Catalog, Missing, Ns, ProcAddr, Role};
use crate::sink::{End, EndReason, Start};
use crate::target::{Launched, Process, Running, monotonic_now};

use super::error::SessionError;
use super::select::{Targets, select};
use super::setup::{Looking, Setup, set_up};
use super::stream::{Stream, WINDOW};
use super::watch::{Watch, Woken};
use super::{Options, Output, event_loop, kernel_release, progress};

/// At least this long between two censuses of a target.
const CENSUS_PAUSE: Ns = Ns(200_000_000);
/// And this many times as long as the last one took: while records go on being lost, reading a large heap again and again
/// must not cost the machine more than a fifth of one CPU.
const CENSUS_REST: u64 = 4;

/// Observes until something ends it: the wanted time, a signal, or the targets' end.
pub fn trace(options: &Options, output: Output) -> Result<(), SessionError> {
    let runtime = event_loop()?;
    let say = progress(options.verbosity);
    // A launched program must be stopped, resumed and waited for on one thread: this one.
    let Targets { processes, launched } = select(&options.selection)?;
    let looking =
        Looking { events: options.events, names: options.names, spawners: false, progress: &|text| say(2, text) };
    let mut setup = set_up(&processes, &looking)?;
    let mut probes = Probes::load(&attach::Options {
        mechanism: options.mechanism,
        ring_pages: options.ring_pages,
        work: options.work,
        kernel_log: options.verbosity >= 3,
        ..attach::Options::default()
    })?;
    if probes.mechanism().says_addresses() {
        setup.catalog.place_points(&setup.attachments);
    }
    let attached = Attached::new(&mut probes, &setup)?;
    let rules = Rules { polls: polls_observed(&setup), births: setup.births, panics: setup.panics };
    let catalog = &setup.catalog;
    let lifecycle = Lifecycle::new(catalog.clone(), rules);
    let mut stream = Stream::new(catalog, lifecycle, output.sink, output.out);
    attached.say_start(&mut stream, &probes, catalog)?;
    // What is launched has no past: there is nothing to look for.
    let past = launched.is_none();
    let running = launched.map(Launched::resume).transpose()?;
    let Attached { links, .. } = attached;
    let until = options.duration.map(|duration| Instant::now() + duration);
    let reason = runtime.block_on(async {
        let watch = Watch::new(probes.rings(), &processes, until)
            .map_err(|source| SessionError::System { what: "watch rings, targets and signals", source })?;
        let mut observing =
            Observing { processes: &processes, catalog, probes: &mut probes, stream: &mut stream, say: &say };
        observing.run(watch, past).await
    });
    let detaching = monotonic_now();
    // What is lost from here on, while nobody reads the rings, is not part of what is said.
    let filled = stream.fill(&mut probes, detaching);
    drop(links);
    let detach = monotonic_now().since(detaching);
    stream.drain(&mut probes);
    let ended = reason.and_then(|reason| filled.map(|_| reason).map_err(SessionError::from));
    let ended = ended.and_then(|reason| finish(&mut stream, reason, (detaching, detach), &say));
    runtime.shutdown_background();
    outlive(running, &say);
    ended.or_else(SessionError::unless_nobody_reads)
}

/// Probes in their targets, and how long it took.
struct Attached {
    links: Links,
    at: Ns,
    wall: SystemTime,
    took: Ns,
    missing: Vec<Missing>,
}

impl Attached {
    fn new(probes: &mut Probes, setup: &Setup) -> Result<Self, SessionError> {
        let requests: Vec<ImageRequest<'_>> =
            setup.attachments.iter().map(|attachment| attachment.request(&setup.catalog)).collect();
        let began = monotonic_now();
        let links = probes.attach(&requests)?;
        let at = monotonic_now();
        let missing = links
            .refused()
            .iter()
            .filter_map(|refused| {
                let role = setup.catalog.point(refused.point)?.point.role;
                Some((role.event(), refused.reason.to_string()))
            })
            .fold(HashMap::<_, (usize, String)>::new(), |mut sums, (event, reason)| {
                sums.entry(event).or_insert((0, reason)).0 += 1;
                sums
            })
            .into_iter()
            .map(|(event, (count, reason))| Missing {
                event,
                reason: format!("the kernel took no probe at {count} of its points ({reason})"),
            })
            .collect();
        Ok(Self { links, at, wall: SystemTime::now(), took: at.since(began), missing })
    }

    fn say_start(&self, stream: &mut Stream<'_>, probes: &Probes, catalog: &Catalog) -> Result<(), SessionError> {
        let start = Start {
            at: self.at,
            wall: self.wall,
            kernel: kernel_release(),
            mechanism: probes.mechanism().as_str(),
            window: WINDOW,
            targets: &catalog.targets,
            missing: &self.missing,
            attach: self.took,
        };
        let (sink, out) = stream.sink();
        sink.start(&start, out).and_then(|()| out.flush()).map_err(SessionError::Output)
    }
}

fn polls_observed(setup: &Setup) -> bool {
    setup.catalog.points.iter().any(|entry| entry.point.role == Role::Poll)
}

/// The loop and what it works with.
struct Observing<'a, 's> {
    processes: &'a [Arc<Process>],
    catalog: &'a Catalog,
    probes: &'a mut Probes,
    stream: &'a mut Stream<'s>,
    say: &'a dyn Fn(u8, &str),
}

impl Observing<'_, '_> {
    async fn run(&mut self, mut watch: Watch, past: bool) -> Result<EndReason, SessionError> {
        let mut censuses =
            Censuses(self.processes.iter().map(|_| Taking { wanted: past, ..Taking::default() }).collect());
        loop {
            let woken = watch.next().await;
            let now = monotonic_now();
            let lost = self.stream.fill(self.probes, now)?;
            if lost > 0 {
                censuses.0.iter_mut().for_each(|taking| taking.wanted = true);
            }
            self.census(&mut censuses, now).await;
            self.stream.release(now.before(WINDOW.0)).map_err(SessionError::Output)?;
            for text in self.probes.kernel_log() {
                (self.say)(3, &format!("kernel side: {text}"));
            }
            match woken {
                Woken::Look => {}
                Woken::Signal => return Ok(EndReason::Signal),
                Woken::Over => return Ok(EndReason::Duration),
                Woken::Exited => return Ok(EndReason::Exited),
            }
        }
    }

    /// Starts the censuses that are wanted, takes in those that are finished.
    async fn census(&mut self, censuses: &mut Censuses, now: Ns) {
        for (number, entry) in self.catalog.targets.iter().enumerate() {
            let target = number as u16;
            let taking = &mut censuses.0[number];
            if let Some(finished) = taking.running.take_if(|running| running.is_finished()) {
                match finished.await {
                    Ok(Ok(taken)) => {
                        let (began, ended) = (taken.census.started, taken.census.ended);
                        let rest = ended.since(began).0.saturating_mul(CENSUS_REST);
                        taking.not_before = taking.not_before.max(Ns(ended.0.saturating_add(rest)));
                        self.taken(target, taken);
                    }
                    Ok(Err(error)) => {
                        let pid = entry.pid;
                        (self.say)(
                            1,
                            &format!("no census of process {pid}: {error}; existing tasks appear at their first poll"),
                        );
                    }
                    Err(panic) => (self.say)(1, &format!("a census failed: {panic}")),
                }
            }
            if taking.running.is_none() && now >= taking.not_before && !taking.wanted {
                // Looks through all resources: not at every tick.
                taking.wanted = self.stream.lifecycle().is_in_doubt(target);
                if !taking.wanted {
                    taking.not_before = Ns(now.0 + CENSUS_PAUSE.0);
                }
            }
            if taking.wanted && taking.running.is_none() && now >= taking.not_before {
                taking.wanted = false;
                taking.not_before = Ns(now.0 + CENSUS_PAUSE.0);
                let lifecycle = self.stream.lifecycle();
                lifecycle.census_begins(target);
                let known = lifecycle.known_cells(target);
                let types = CellTypes::of_target(&entry.types);
                let process = Arc::clone(&self.processes[number]);
                taking.running = Some(tokio::task::spawn_blocking(move || take(&process, &types, &known)));
            }
        }
    }

    fn taken(&mut self, target: u16, taken: Taken) {
        let Taken { census, gone } = taken;
        (self.say)(
            2,
            &format!(
                "census: {} tasks in {} MiB, {:.1} ms{}",
                census.tasks.len(),
                census.bytes_read >> 20,
                census.ended.since(census.started).0 as f64 / 1e6,
                if census.unread.is_empty() { "" } else { "; some memory could not be read" }
            ),
        );
        self.stream.census(lifecycle::Census {
            target,
            began: census.started,
            ended: census.ended,
            complete: census.unread.is_empty() && !census.truncated,
            found: census.tasks,
            gone,
        });
    }
}

/// A census, and which of the cells known before are not theirs any more.
struct Taken {
    census: Census,
    gone: Vec<AsyncId>,
}

fn take(process: &Process, types: &CellTypes, known: &[KnownCell]) -> Result<Taken, CensusError> {
    let census = Census::take(process, types)?;
    let there: HashSet<ProcAddr> = census.tasks.iter().map(|task| task.header).collect();
    let unseen: Vec<&KnownCell> = known.iter().filter(|cell| !there.contains(&cell.header)).collect();
    let cells: Vec<census::Known> =
        unseen.iter().map(|cell| census::Known { header: cell.header, vtable: cell.vtable, task: cell.task }).collect();
    let stand = census::standing(&process.memory(), types, &cells)?;
    let gone = unseen.iter().zip(stand).filter(|(_, stands)| !stands).map(|(cell, _)| cell.id).collect();
    Ok(Taken { census, gone })
}

/// The censuses of a session's targets.
struct Censuses(Vec<Taking>);

/// The censuses of one target, one at a time.
#[derive(Default)]
struct Taking {
    wanted: bool,
    running: Option<JoinHandle<Result<Taken, CensusError>>>,
    not_before: Ns,
}

/// Says what was seen before the probes began to be taken out, and the end. What was seen after is half the truth:
/// some probes were gone already.
fn finish(
    stream: &mut Stream<'_>,
    reason: EndReason,
    (detaching, detach): (Ns, Ns),
    say: &dyn Fn(u8, &str),
) -> Result<(), SessionError> {
    stream.release(detaching).map_err(SessionError::Output)?;
    let (totals, malformed) = stream.totals();
    if let Some(reason) = malformed {
        say(1, &format!("{} records could not be understood; the first: {reason}", totals.malformed));
    }
    let (sink, out) = stream.sink();
    let end = End { at: detaching, reason, totals, detach };
    sink.end(&end, out).and_then(|()| out.flush()).map_err(SessionError::Output)
}

/// A program that we launched outlives the observation; if it has ended already, its status is fetched.
fn outlive(running: Option<Running>, say: &dyn Fn(u8, &str)) {
    let Some(mut running) = running else { return };
    match running.try_status() {
        Ok(Some(status)) if status.success() => {}
        Ok(Some(status)) => say(1, &format!("the program ended with {status}")),
        Ok(None) => say(1, "the program goes on, unobserved"),
        Err(error) => say(1, &format!("the program's status is not known: {error}")),
    }
}
