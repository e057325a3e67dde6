//! Who runs, by samples: nothing is planted in the target, and nothing in it is stopped.
//!
//! One event a CPU samples whoever runs there; what is not a target's is passed over before its stack is copied. So a
//! target pays for its samples and for nothing else. Events of its own threads would be asked about at each switch from
//! one to another, which costs much more than the samples do.

mod ages;
mod blockers;
mod crowd;
mod rate;
mod runs;
mod sampler;
mod sampling;
mod still;
mod subject;
mod tally;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::lives::Lives;
use crate::model::{Missing, Ns, ProcAddr, TypeEntry};
use crate::perf::{self, online_cpus};
use crate::sink::{EndReason, SampledReport, SampledSink, SampledStart};
use crate::target::{Launched, Process, monotonic_now};

use super::ending::outlive;
use super::error::SessionError;
use super::follow::NEWS_PAGES;
use super::images::Images;
use super::pace::{Interrupted, Pace};
use super::privileges::{Stage, keep};
use super::select::{Targets, select};
use super::{Caching, Names, Selection, event_loop, kernel_release, progress};

use crowd::Crowd;
pub(super) use crowd::Whom;
use rate::Rate;
pub use sampler::SampledLook;
pub(super) use sampler::{Reserved, Sampler};
use sampling::Sampled;
use subject::Subject;

/// Bytes of stack in a sample: as much as a spawner's copy has.
const STACK: u32 = 28 << 10;
/// Pages of a ring at least: room for a sample while the one before it, of up to eight, is read.
pub const LEAST_RING_PAGES: usize = 16;
/// What is asked of the kernel for so many samples a second.
pub(super) fn asked_for(hz: u32) -> perf::Sampling {
    perf::Sampling { period: 1_000_000_000 / u64::from(hz.max(1)), stack: STACK }
}

/// How who runs is sampled.
#[derive(Clone, Debug)]
pub struct SampledOptions {
    /// Which processes.
    pub selection: Selection,
    /// Samples a second of time on a CPU.
    pub hz: u32,
    /// From one report to the next.
    pub interval: Duration,
    /// From when on a poll is named.
    pub blocking: Duration,
    /// How often to say what sampling costs.
    pub overhead_every: Duration,
    /// Tasks are counted apart, not only types.
    pub by_task: bool,
    /// When to stop; `None` is at a signal or the targets' end.
    pub duration: Option<Duration>,
    /// Size of each CPU's ring, pages; [`LEAST_RING_PAGES`] at least.
    pub ring_pages: usize,
    /// Whether future types are to be named.
    pub names: Names,
    /// Where what is known of images is kept.
    pub caching: Caching,
    /// Diagnostics on standard error: 0 none, 1 progress, 2 details.
    pub verbosity: u8,
}

/// Where reports go.
pub struct SampledOutput {
    /// How they look.
    pub sink: Box<dyn SampledSink>,
    /// Where they are written.
    pub out: Box<dyn Write>,
}

impl SampledOutput {
    fn say(&mut self, report: &SampledReport<'_>) -> Result<(), SessionError> {
        self.sink.say(report, &mut self.out).map_err(SessionError::Output)
    }

    fn flush(&mut self) -> Result<(), SessionError> {
        self.out.flush().map_err(SessionError::Output)
    }
}

/// Samples until something ends it: the wanted time, a signal, or the targets' end.
pub fn sampled(options: &SampledOptions, output: SampledOutput) -> Result<(), SessionError> {
    let say = progress(options.verbosity);
    let runtime = event_loop()?;
    // A launched program must be stopped, resumed and waited for on one thread: this one.
    let Targets { processes, launched } = select(&options.selection)?;
    let mut images = Images::new(options.names.clone(), &options.caching, &say);
    let named = match &options.selection {
        Selection::Running { .. } => &processes[..],
        // Before its first instruction a program's types do not stand in memory yet as they will.
        Selection::Everyone(_) | Selection::Launch(_) => &[],
    };
    let subjects = named.iter().map(|process| Subject::open(Arc::clone(process), &mut images));
    let subjects: Vec<Subject> = subjects.collect::<Result<_, _>>()?;
    let began = monotonic_now();
    let rate = Rate::begin(options, &online_cpus().map_err(SessionError::Sampling)?)?;
    let whom = match (&options.selection, &processes[..]) {
        (Selection::Everyone(within), _) => Some(Whom::Everyone(within.clone())),
        (Selection::Launch(_), [process]) => Some(Whom::named([process.pid()])),
        _ => None,
    };
    let whom = whom.map(|whom| (whom, Lives::listen(NEWS_PAGES)));
    // What is open stays open.
    keep(Stage::Reading, &say);
    let mut crowd = whom.map(|(whom, lives)| Crowd::new(whom, lives, options)).transpose()?;
    crowd.iter_mut().for_each(Crowd::begin);
    let attach = monotonic_now().since(began);
    let pace = {
        let _inside = runtime.enter();
        Pace::new(options.duration).map_err(|source| SessionError::System { what: "watch signals", source })?
    };
    let alone = launched.is_some().then(|| processes.first().cloned()).flatten();
    let ask = {
        let _inside = runtime.enter();
        let asked = signal(SignalKind::user_defined1());
        asked.map_err(|source| SessionError::System { what: "watch signals", source })?
    };
    let mut sampled = Sampled::new(options, rate, subjects, output)?;
    let mut sampling = Sampling { sampled: &mut sampled, crowd, alone, pace, ask };
    sampling.say_start(attach)?;
    let running = launched.map(Launched::resume).transpose()?;
    let ran = runtime.block_on(sampling.run());
    let ended = ran.and_then(|reason| sampled.end(reason));
    outlive(running, &say);
    ended.or_else(SessionError::unless_nobody_reads)
}

/// The loop and what it works with.
struct Sampling<'a> {
    sampled: &'a mut Sampled,
    /// Who may join while it runs.
    crowd: Option<Crowd>,
    /// The only one who may, which was launched.
    alone: Option<Arc<Process>>,
    pace: Pace,
    /// SIGUSR1: somebody asks what sampling costs.
    ask: Signal,
}

impl Sampling<'_> {
    async fn run(&mut self) -> Result<EndReason, SessionError> {
        loop {
            let began = Instant::now();
            self.sampled.turn(self.crowd.as_mut())?;
            if self.is_over() {
                return Ok(EndReason::Exited);
            }
            self.sampled.say_costs(false)?;
            let rest = self.pace.rest(Instant::now() + self.sampled.rest(began.elapsed()));
            let rested = tokio::select! {
                biased;
                rested = rest => rested,
                _ = self.ask.recv() => {
                    self.sampled.say_costs(true)?;
                    continue;
                }
            };
            match rested {
                Ok(()) => {}
                Err(Interrupted::Signal) => return Ok(EndReason::Signal),
                Err(Interrupted::Over) => return Ok(EndReason::Duration),
            }
        }
    }

    /// Nobody is left, and nobody will come.
    fn is_over(&self) -> bool {
        let may_come = match (&self.crowd, &self.alone) {
            (None, _) => false,
            (Some(_), Some(alone)) => !alone.has_ended(),
            (Some(_), None) => true,
        };
        self.sampled.watched.is_empty() && !may_come
    }

    fn say_start(&mut self, attach: Ns) -> Result<(), SessionError> {
        let kernel = kernel_release();
        let sampled = &mut *self.sampled;
        sampled.missing.extend(self.crowd.iter().flat_map(Crowd::missing).cloned());
        let following = match (&self.crowd, &self.alone) {
            (None, _) => "nothing",
            (Some(_), Some(_)) => "named",
            (Some(_), None) => "everyone",
        };
        let start = SampledStart {
            at: monotonic_now(),
            wall: SystemTime::now(),
            kernel: &kernel,
            hz: sampled.rate.hz.into(),
            stack: STACK,
            interval: sampled.interval,
            blocking: sampled.blocking,
            by_task: sampled.by_task,
            attach,
            following,
            targets: sampled.watched.iter().map(|watched| &watched.subject.entry).collect(),
            missing: &sampled.missing,
        };
        sampled.output.say(&SampledReport::Start(start))?;
        sampled.output.flush()
    }
}

/// What will not be seen, whoever is sampled.
fn missing() -> [Missing; 2] {
    let missing = |event, reason: &str| Missing { event, reason: reason.to_owned() };
    [
        missing(
            "blocking",
            "a poll on a CPU is never certain to be one poll, and one that waits many times for a short while each is not \
             named: `--tier full` times every poll",
        ),
        missing(
            "init, before, after, resolve, destroy",
            "nothing is planted, so no event of a task's life is seen: `--tier full`, or `lifecycle` or `spawns` for a part",
        ),
    ]
}

/// The types as they are named; those that the images do not hold are left out.
fn types<'a>(subject: &'a Subject, vtables: &[ProcAddr]) -> Vec<&'a TypeEntry> {
    vtables.iter().filter_map(|vtable| subject.entry.type_at(*vtable)).collect()
}
