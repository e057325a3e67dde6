//! The live stream of one or several processes.

use std::collections::HashMap;
use std::io;
use std::time::SystemTime;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::attach::{self, ImageRequest, Links, Probes};
use crate::census::{self, CensusResult};
use crate::lifecycle::{Census, Found, Lifecycle, Rules};
use crate::model::{AsyncId, Catalog, Missing, Ns, Pid};
use crate::sink::{End, EndReason, Start};
use crate::target::{Launched, Process, Running, monotonic_now};

use super::error::SessionError;
use super::setup::{Attachment, Looking, Setup, set_up};
use super::stream::{Stream, WINDOW};
use super::select::{Targets, select};
use super::watch::{Watch, Woken};
use super::{Options, Output};

/// Between two censuses after losses.
const CENSUS_PAUSE: Ns = Ns(1_000_000_000);

/// Observes until something ends it: the wanted time, a signal, or the targets' end.
pub fn trace(options: &Options, output: Output) -> Result<(), SessionError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| SessionError::System { what: "start the event loop", source })?;
    let say = |least: u8, text: &str| {
        if options.verbosity >= least {
            eprintln!("async-observer: {text}");
        }
    };
    // A launched program must be stopped, resumed and waited for on one thread: this one.
    let Targets { processes, launched } = select(&options.selection)?;
    let looking = Looking { events: options.events, names: options.names, progress: &|text| say(2, text) };
    let setup = set_up(&processes, &looking)?;
    let mut probes = Probes::load(&attach::Options {
        mechanism: options.mechanism,
        ring_pages: options.ring_pages,
        kernel_log: options.verbosity >= 3,
    })?;
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
        let mut observing = Observing { processes: &processes, catalog, probes: &mut probes, stream: &mut stream, say: &say };
        observing.run(watch, past).await
    });
    let detach = monotonic_now();
    drop(links);
    say(2, &format!("detached in {:.1} ms", monotonic_now().since(detach).0 as f64 / 1e6));
    let ended = match reason {
        Ok(reason) => finish(&mut stream, &mut probes, reason, &say),
        Err(error) => Err(error),
    };
    runtime.shutdown_background();
    outlive(running, &say);
    match ended {
        // Whoever read the events has seen enough.
        Err(SessionError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
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
            setup.attachments.iter().map(|attachment| request(attachment, &setup.catalog)).collect();
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

    fn say_start(
        &self,
        stream: &mut Stream<'_>,
        probes: &Probes,
        catalog: &Catalog,
    ) -> Result<(), SessionError> {
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

fn request<'a>(attachment: &'a Attachment, catalog: &'a Catalog) -> ImageRequest<'a> {
    let points = attachment.points.iter().filter_map(|index| Some((*index, &catalog.point(*index)?.point)));
    ImageRequest {
        target: attachment.target,
        pid: attachment.pid,
        path: &attachment.path,
        points: points.collect(),
    }
}

fn polls_observed(setup: &Setup) -> bool {
    setup.catalog.points.iter().any(|entry| entry.point.role == crate::model::Role::Poll)
}

/// The release as `uname -r` prints it.
fn kernel_release() -> String {
    // Only shown: where it cannot be read, that is shown.
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map_or("unknown".to_owned(), |text| text.trim_end().to_owned())
}

/// The loop and what it works with.
struct Observing<'a, 's> {
    processes: &'a [Process],
    catalog: &'a Catalog,
    probes: &'a mut Probes,
    stream: &'a mut Stream<'s>,
    say: &'a dyn Fn(u8, &str),
}

impl Observing<'_, '_> {
    async fn run(&mut self, mut watch: Watch, past: bool) -> Result<EndReason, SessionError> {
        let mut censuses = Censuses::new(self.processes.len());
        if past {
            censuses.wanted.fill(true);
        }
        loop {
            let woken = watch.next().await;
            let now = monotonic_now();
            let lost = self.stream.fill(self.probes, now)?;
            if lost > 0 {
                censuses.wanted.fill(true);
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
        for target in 0..self.processes.len() {
            if let Some(running) = censuses.running[target].take_if(|running| running.is_finished()) {
                // It ends by a panic of ours only, and that is said by itself.
                if let Ok(Ok(result)) = running.await {
                    self.taken(target, result);
                }
            }
            let due = now >= censuses.not_before[target] && censuses.running[target].is_none();
            if due && std::mem::take(&mut censuses.wanted[target]) {
                censuses.not_before[target] = Ns(now.0 + CENSUS_PAUSE.0);
                self.stream.lifecycle().census_begins();
                let pid = self.processes[target].pid();
                let types = self.catalog.targets[target].types.clone();
                censuses.running[target] = Some(tokio::task::spawn_blocking(move || census::take(pid, &types)));
            }
        }
    }
}

/// The censuses of a session's targets.
struct Censuses {
    wanted: Vec<bool>,
    running: Vec<Option<JoinHandle<Result<CensusResult, census::CensusError>>>>,
    not_before: Vec<Ns>,
}
