//! Verdicts on the tasks of processes, from several readings of their memory.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Ns, Pid, Site};
use crate::sink::{News, Report};
use crate::target::monotonic_now;
use crate::verdict::{Finding, Judgement, Rules, Verdict};

use super::error::SessionError;
use super::inspection::{Inspection, InspectionOptions, SitesOutput};
use super::pace::{Interrupted, Pace};
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
    let analysing = |text: &str| say(2, text);
    let inspection = Inspection::open(&options.inspection, &analysing, output, options.samples)?;
    let mut sweeping =
        Sweeping { options, inspection, said: HashMap::new(), healthy: HashMap::new(), found: Vec::new() };
    let event_loop = event_loop()?;
    let swept = event_loop.block_on(sweeping.run(&say));
    // A reading that was given up for a signal may still be under way: it only reads.
    event_loop.shutdown_background();
    let Sweeping { inspection, said, healthy, mut found, .. } = sweeping;
    let healthy = healthy.values().fold((0, 0), |(sites, tasks), (more, others)| (sites + more, tasks + others));
    let ended = swept.and_then(|()| inspection.end(Some(said.len() as u64), healthy));
    ended.or_else(SessionError::unless_nobody_reads)?;
    found.sort_unstable();
    Ok(found)
}

/// What a finding is known by from one judgement to the next.
type Key = (Pid, Site, Verdict);

struct Sweeping<'a> {
    options: &'a SweepOptions,
    inspection: Inspection<'a>,
    /// Findings that hold, as they were said.
    said: HashMap<Key, Finding>,
    /// By process: sites nothing is said against, and their tasks.
    healthy: HashMap<Pid, (u64, u64)>,
    found: Found,
}

impl Sweeping<'_> {
    async fn run(&mut self, say: &dyn Fn(u8, &str)) -> Result<(), SessionError> {
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
                Some(all) => say(1, &format!("reading {number} of {all}: {} live tasks", self.live())),
                None => self.judge(Undecided::AreKept)?,
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
            self.judge(Undecided::AreSaid)?;
        }
        let (targets, output) = self.inspection.parts();
        output.profile(targets, &self.options.view)
    }

    /// Reads every process once.
    async fn round(&mut self, pace: &mut Pace) -> Result<Result<(), Interrupted>, SessionError> {
        if matches!(self.options.course, Course::Every { .. }) {
            self.inspection.admit_new()?;
        }
        for mut target in std::mem::take(&mut self.inspection.targets) {
            let first = target.tasks.is_empty();
            match target.read(pace).await {
                Ok(Ok(taken)) => {
                    if first {
                        self.inspection.count_one();
                    }
                    self.inspection.say(&Report::Census(target.report(&taken)))?;
                    self.inspection.targets.push(target);
                }
                Ok(Err(error)) => {
                    self.forget(target.pid());
                    self.inspection.refuse(target.pid(), error)?;
                }
                Err(why) => {
                    self.inspection.targets.push(target);
                    return Ok(Err(why));
                }
            }
        }
        Ok(Ok(()))
    }

    fn live(&self) -> usize {
        self.inspection.targets.iter().map(|target| target.tasks.len()).sum()
    }

    /// Nothing is known any more of what was said of a process that is gone.
    fn forget(&mut self, pid: Pid) {
        self.said.retain(|(of, ..), _| *of != pid);
        self.healthy.remove(&pid);
    }

    fn judge(&mut self, undecided: Undecided) -> Result<(), SessionError> {
        let rules = Rules { warm_up: Ns(u64::try_from(self.options.warm_up.as_nanos()).unwrap_or(u64::MAX)) };
        let at = monotonic_now();
        let Self { options, inspection, said, healthy, found } = self;
        let (targets, output) = inspection.parts();
        for target in targets {
            let pid = target.pid();
            let Judgement { findings, undecided: unjudged, healthy_sites, healthy_tasks } =
                target.history.judge(&rules, target.age_at_first());
            healthy.insert(pid, (healthy_sites, healthy_tasks));
            let mut holds: HashMap<Key, Finding> = HashMap::new();
            for finding in findings {
                let Some(of) = target.site(finding.site).filter(|of| options.view.wants(of)) else { continue };
                let verdict = finding.evidence.verdict();
                let key = (pid, finding.site, verdict);
                if !said.contains_key(&key) {
                    output.say(&Report::Finding { at, of, finding: &finding, news: News::Arisen })?;
                }
                if !found.contains(&verdict) {
                    found.push(verdict);
                }
                holds.insert(key, finding);
            }
            for (key, finding) in said.iter().filter(|(key, _)| key.0 == pid && !holds.contains_key(*key)) {
                if let Some(of) = target.site(key.1) {
                    output.say(&Report::Finding { at, of, finding, news: News::Vanished })?;
                }
            }
            said.retain(|(of, ..), _| *of != pid);
            said.extend(holds);
            if undecided == Undecided::AreSaid {
                for unjudged in &unjudged {
                    if let Some(of) = target.site(unjudged.site).filter(|of| options.view.wants(of)) {
                        output.say(&Report::Undecided { at, of, undecided: unjudged })?;
                    }
                }
            }
        }
        output.flush()
    }
}

/// What becomes of sites that grow with too little evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undecided {
    /// They are said: there is no later reading.
    AreSaid,
    /// The next reading will tell.
    AreKept,
}
