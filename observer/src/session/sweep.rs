//! Verdicts on the tasks of processes, from several readings of their memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::census::Waits;
use crate::model::{Ns, Pid, Site};
use crate::plan::Slow;
use crate::sink::{News, Report, SpawnsWatched};
use crate::target::monotonic_now;
use crate::verdict::{Finding, Rules, Verdict};

use super::error::SessionError;
use super::inspect::Inspected;
use super::inspection::{Inspection, InspectionOptions, SitesOutput};
use super::origins::{number_of, origins};
use super::pace::{Interrupted, Pace};
use super::privileges::{Stage, keep};
use super::spawns::{Dropped, SpawnCounts, SpawnOptions, Spawns, Watching};
use super::view::View;
use super::{event_loop, progress};

/// How a sweep is done.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// Of which processes.
    pub inspection: InspectionOptions,
    /// Which sites; the order and the number shown do not matter here.
    pub view: View,
    /// Readings that are judged together.
    pub samples: usize,
    /// Once, or again and again.
    pub course: Course,
    /// A younger process is not judged for growth.
    pub warm_up: Duration,
    /// Probes where ids are taken tell where tasks born from now on come from.
    pub trace_spawns: bool,
    /// What becomes of those of them where the kernel must single-step the instruction.
    pub slow: Slow,
}

/// When readings are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// All within this time, then it ends.
    Once {
        /// From the first reading to the last.
        during: Duration,
    },
    /// One each time, judged with those before, until something ends it.
    Every {
        /// Between two readings.
        step: Duration,
        /// When to end; `None` is at a signal or the targets' end.
        duration: Option<Duration>,
    },
}

/// What was found: which verdicts were given at all, gravest first.
pub type Found = Vec<Verdict>;

/// Judges the processes.
pub fn sweep(options: &SweepOptions, output: SitesOutput) -> Result<Found, SessionError> {
    let say = progress(options.inspection.verbosity);
    keep(if options.trace_spawns { Stage::Attaching } else { Stage::Reading }, &say);
    let mut inspection = Inspection::open(&options.inspection, &say, output, options.samples)?;
    let spawns = if options.trace_spawns { Some(watch(&mut inspection, options.slow, &say)?) } else { None };
    let mut sweeping = Sweeping {
        options,
        inspection,
        spawns,
        progress: &say,
        said: HashMap::new(),
        healthy: HashMap::new(),
        found: Vec::new(),
    };
    let event_loop = event_loop()?;
    let swept = event_loop.block_on(sweeping.run());
    // A reading that was given up for a signal may still be under way: it only reads.
    event_loop.shutdown_background();
    let Sweeping { inspection, spawns, said, healthy, mut found, .. } = sweeping;
    let watched = spawns.as_ref().map(|spawns| spawns.seen().counts()).transpose();
    drop(spawns);
    let healthy = healthy.values().fold((0, 0), |(sites, tasks), (more, others)| (sites + more, tasks + others));
    let ended = swept.and_then(|()| inspection.end(Some(said.len() as u64), healthy, watched?.map(watched_in_all)));
    ended.or_else(SessionError::unless_nobody_reads)?;
    found.sort_unstable();
    Ok(found)
}

/// What a finding is known by from one judgement to the next.
type Key = (Pid, Site, Verdict);

struct Sweeping<'a> {
    options: &'a SweepOptions,
    inspection: Inspection<'a>,
    spawns: Option<Watching>,
    /// What is worth knowing besides, by the least verbosity at which it is said.
    progress: &'a dyn Fn(u8, &str),
    /// Findings that hold, as they were said.
    said: HashMap<Key, Finding>,
    /// By process: sites nothing is said against, and their tasks.
    healthy: HashMap<Pid, (u64, u64)>,
    found: Found,
}

impl Sweeping<'_> {
    async fn run(&mut self) -> Result<(), SessionError> {
        let (step, duration, readings) = match self.options.course {
            Course::Once { during } => {
                let steps = self.options.samples.saturating_sub(1).max(1);
                (during / u32::try_from(steps).unwrap_or(u32::MAX), None, Some(self.options.samples))
            }
            Course::Every { step, duration } => (step, duration, None),
        };
        let system = |source| SessionError::System { what: "watch signals", source };
        let mut pace = Pace::new(duration).map_err(system)?;
        let mut due = Instant::now();
        for number in 1.. {
            let round = self.round(&mut pace).await?;
            let last = round.is_err() || self.inspection.targets.is_empty() || readings == Some(number);
            match readings {
                Some(all) => (self.progress)(1, &format!("reading {number} of {all}: {} live tasks", self.live())),
                None => self.judge(Undecided::AreKept, &mut pace).await?,
            }
            if last {
                break;
            }
            // After a reading that took longer than a step the next comes a step later, not at once.
            due = (due + step).max(Instant::now());
            if pace.rest(due).await.is_err() {
                break;
            }
        }
        if readings.is_some() {
            self.judge(Undecided::AreSaid, &mut pace).await?;
        }
        let (targets, output) = self.inspection.parts();
        output.profile(targets, &self.options.view, self.spawns.as_ref())
    }

    /// Reads every process once.
    async fn round(&mut self, pace: &mut Pace) -> Result<Result<(), Interrupted>, SessionError> {
        if matches!(self.options.course, Course::Every { .. }) {
            self.inspection.admit_new()?;
        }
        let mut targets = std::mem::take(&mut self.inspection.targets).into_iter();
        while let Some(mut target) = targets.next() {
            let first = target.history.readings() == 0;
            match target.read(pace, self.options.inspection.bound).await {
                Ok(Ok(taken)) => {
                    if first {
                        self.inspection.count_one();
                    }
                    self.inspection.say(&Report::Census(target.report(&taken)))?;
                    if let Some(spawns) = &self.spawns {
                        forget_ended(&mut spawns.seen(), &target, taken.began);
                    }
                    self.inspection.targets.push(target);
                }
                Ok(Err(error)) => {
                    self.forget(target.pid());
                    self.inspection.refuse(target.pid(), error)?;
                }
                // Those that were not read this time are judged by what was read before.
                Err(why) => {
                    self.inspection.targets.push(target);
                    self.inspection.targets.extend(targets);
                    return Ok(Err(why));
                }
            }
        }
        Ok(Ok(()))
    }

    fn live(&self) -> usize {
        let live = |target: &Inspected| target.tasks.iter().filter(|task| !task.state.is_complete()).count();
        self.inspection.targets.iter().map(live).sum()
    }

    /// Nothing is known any more of what was said of a process that is gone.
    fn forget(&mut self, pid: Pid) {
        self.said.retain(|(of, ..), _| *of != pid);
        self.healthy.remove(&pid);
    }

    async fn judge(&mut self, undecided: Undecided, pace: &mut Pace) -> Result<(), SessionError> {
        let rules = Rules { warm_up: Ns::of(self.options.warm_up) };
        for target in std::mem::take(&mut self.inspection.targets) {
            let pid = target.pid();
            let waits = self.waits(&target, pace).await;
            let judgement = target.history.judge(&rules, target.age_at_first(), |header| waits.at(header));
            self.healthy.insert(pid, (judgement.healthy_sites, judgement.healthy_tasks));
            let wanted = |site| target.site(site).is_some_and(|of| self.options.view.wants(&of));
            let holds: Vec<Finding> = judgement.findings.into_iter().filter(|finding| wanted(finding.site)).collect();
            let unjudged: Vec<_> = judgement.undecided.into_iter().filter(|unjudged| wanted(unjudged.site)).collect();
            self.say_findings(&target, holds, &waits)?;
            if undecided == Undecided::AreSaid {
                let at = monotonic_now();
                for undecided in &unjudged {
                    if let Some(of) = target.site(undecided.site) {
                        self.inspection.say(&Report::Undecided { at, of, undecided })?;
                    }
                }
            }
            self.inspection.targets.push(target);
        }
        self.inspection.parts().1.flush()
    }

    /// What idle tasks wait for. Without it findings stand, but rings are not found.
    async fn waits(&self, target: &Inspected, pace: &mut Pace) -> Waits {
        if !self.options.inspection.waits || target.history.readings() < 2 {
            return Waits::default();
        }
        match target.waits(pace).await {
            Ok(Ok(waits)) => waits,
            Ok(Err(error)) => {
                let (pid, error) = (target.pid(), error.in_full());
                (self.progress)(1, &format!("what tasks of process {pid} wait for is not known: {error}"));
                Waits::default()
            }
            // It is time to end: the findings are said without.
            Err(Interrupted::Signal | Interrupted::Over) => Waits::default(),
        }
    }

    /// Says which findings are new and which do not hold any more.
    fn say_findings(&mut self, target: &Inspected, holds: Vec<Finding>, waits: &Waits) -> Result<(), SessionError> {
        let pid = target.pid();
        let key = |finding: &Finding| (pid, finding.site, finding.evidence.verdict());
        let at = monotonic_now();
        for finding in &holds {
            let verdict = finding.evidence.verdict();
            if !self.found.contains(&verdict) {
                self.found.push(verdict);
            }
            let Some(of) = target.site(finding.site).filter(|_| !self.said.contains_key(&key(finding))) else {
                continue;
            };
            let waits = target.waits_of(finding.site, waits);
            let origins = self.spawns.as_ref().map(|spawns| origins(spawns, target, finding.site));
            let origins = origins.as_deref();
            self.inspection.say(&Report::Finding { at, of, finding, news: News::Arisen, waits: &waits, origins })?;
        }
        let holds: HashMap<Key, Finding> = holds.into_iter().map(|finding| (key(&finding), finding)).collect();
        for (key, finding) in self.said.iter().filter(|(key, _)| key.0 == pid && !holds.contains_key(*key)) {
            if let Some(of) = target.site(key.1) {
                self.inspection.say(&Report::Finding {
                    at,
                    of,
                    finding,
                    news: News::Vanished,
                    waits: &[],
                    origins: None,
                })?;
            }
        }
        self.said.retain(|(of, ..), _| *of != pid);
        self.said.extend(holds);
        Ok(())
    }
}

/// Puts probes where tasks of the processes take their ids.
fn watch(inspection: &mut Inspection<'_>, slow: Slow, say: &dyn Fn(u8, &str)) -> Result<Watching, SessionError> {
    let processes: Vec<_> = inspection.targets.iter().map(|target| Arc::clone(&target.process)).collect();
    let spawns =
        Spawns::of_images(&processes, &SpawnOptions { slow, ..SpawnOptions::default() }, &mut inspection.images)?;
    // The thread that reads the rings takes over what this one has.
    keep(Stage::Attached(spawns.mechanism()), say);
    let points: usize = spawns.catalog().images().map(|image| image.points.len()).sum();
    say(
        1,
        &format!("{points} probes where tasks take their ids; processes that come later are not watched for spawns"),
    );
    for missing in spawns.missing() {
        say(0, &format!("missing {}: {}", missing.event, missing.reason));
    }
    Watching::begin(spawns).map_err(|source| SessionError::System { what: "start a thread", source })
}

/// Room for spawns is taken by what lives.
fn forget_ended(spawns: &mut Spawns, target: &Inspected, before: Ns) {
    let Some(number) = number_of(spawns, &target.process) else { return };
    let live =
        target.tasks.iter().filter(|task| !task.state.is_complete()).map(|task| (task.vtable, task.id)).collect();
    spawns.forget_ended(number, before, &live);
}

fn watched_in_all(counts: SpawnCounts) -> SpawnsWatched {
    let Dropped { tasks, stacks } = counts.dropped;
    let SpawnCounts { hits, seen, lost, malformed, .. } = counts;
    SpawnsWatched { hits, seen, lost, malformed, dropped: tasks + stacks }
}

/// What becomes of sites that grow with too little evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undecided {
    /// They are said: there is no later reading.
    AreSaid,
    /// The next reading will tell.
    AreKept,
}
