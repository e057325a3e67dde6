//! Who runs, by samples: nothing is planted in the target, and nothing in it is stopped.
//!
//! One event a CPU samples whoever runs there; what is not a target's is passed over before its stack is copied. So a
//! target pays for its samples and for nothing else. Events of its own threads would be asked about at each switch from
//! one to another, which costs much more than the samples do.

mod ages;
mod runs;
mod sampling;
mod still;
mod subject;
mod tally;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::model::{Missing, Ns, ProcAddr, TypeEntry};
use crate::perf::{Sampling, online_cpus};
use crate::sink::{EndReason, SampledReport, SampledSink, SampledStart};
use crate::target::monotonic_now;

use super::error::SessionError;
use super::images::Images;
use super::pace::{Interrupted, Pace};
use super::privileges::{Stage, keep};
use super::select::{Targets, select};
use super::{Caching, Selection, event_loop, kernel_release, progress};

use sampling::{Rate, Sampled};
use subject::Subject;

/// Bytes of stack in a sample: as much as a spawner's copy has.
const STACK: u32 = 28 << 10;
/// Between two looks at the rings and the threads, at most and at least.
const STEPS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(5));
/// Of the time, so many parts are left to others for each part that looking takes.
const REST: u32 = 20;

/// What is asked of the kernel for so many samples a second.
pub(super) fn asked_for(hz: u32) -> Sampling {
    Sampling { period: 1_000_000_000 / u64::from(hz.max(1)), stack: STACK }
}

/// How who runs is sampled.
#[derive(Clone, Debug)]
pub struct SampledOptions {
    /// Which processes; not all of the machine, and none to be launched.
    pub selection: Selection,
    /// Samples a second of time on a CPU.
    pub hz: u32,
    /// From one report to the next.
    pub interval: Duration,
    /// From when on a poll is named.
    pub blocking: Duration,
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
    let Targets { processes, .. } = select(&options.selection)?;
    let mut images = Images::new(options.names, &options.caching, &say);
    let subjects = processes.iter().map(|process| Subject::open(Arc::clone(process), &mut images));
    let subjects: Vec<Subject> = subjects.collect::<Result<_, _>>()?;
    let began = monotonic_now();
    let rate = Rate::begin(options, &online_cpus().map_err(SessionError::Sampling)?)?;
    // What is open stays open.
    keep(Stage::Reading, &say);
    let attach = monotonic_now().since(began);
    let mut pace = {
        let _inside = runtime.enter();
        Pace::new(options.duration).map_err(|source| SessionError::System { what: "watch signals", source })?
    };
    let mut sampled = Sampled::new(options, rate, subjects, output);
    sampled.say_start(attach)?;
    let ran = runtime.block_on(run(&mut sampled, &mut pace, options));
    let ended = ran.and_then(|reason| sampled.end(reason));
    ended.or_else(SessionError::unless_nobody_reads)
}

async fn run(sampled: &mut Sampled, pace: &mut Pace, options: &SampledOptions) -> Result<EndReason, SessionError> {
    let step = (options.blocking / 2).clamp(STEPS.1, STEPS.0);
    let mut due = Instant::now() + options.interval;
    loop {
        let began = Instant::now();
        sampled.take()?;
        sampled.look()?;
        let is_due = began >= due;
        if is_due {
            sampled.report()?;
            due = (due + options.interval).max(Instant::now());
        }
        if sampled.end_gone(is_due)? {
            return Ok(EndReason::Exited);
        }
        let rest = step.max((began.elapsed() * REST).min(sampled.rate.patience));
        match pace.rest(Instant::now() + rest).await {
            Ok(()) => {}
            Err(Interrupted::Signal) => return Ok(EndReason::Signal),
            Err(Interrupted::Over) => return Ok(EndReason::Duration),
        }
    }
}

impl Sampled {
    fn say_start(&mut self, attach: Ns) -> Result<(), SessionError> {
        let kernel = kernel_release();
        let missing = missing();
        let start = SampledStart {
            at: monotonic_now(),
            wall: SystemTime::now(),
            kernel: &kernel,
            hz: self.rate.hz.into(),
            stack: STACK,
            interval: self.interval,
            blocking: self.blocking,
            by_task: self.by_task,
            attach,
            targets: self.watched.iter().map(|watched| &watched.subject.entry).collect(),
            missing: &missing,
        };
        self.output.say(&SampledReport::Start(start))?;
        self.output.flush()
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
