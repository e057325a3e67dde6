//! The processes of a `ps` or `sweep`: opened, looked at as far as they can be, and what is said of all of them together.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

use crate::model::{Ns, Pid};
use crate::sink::{ProfileSample, Report, SiteSink, SitesEnd, SpawnsWatched, write_folded, write_pprof};
use crate::target::{Process, monotonic_now};
use crate::verdict::SiteCount;

use super::budget::Bound;
use super::debug_files::Names;
use super::disk::Caching;
use super::error::SessionError;
use super::images::Images;
use super::inspect::Inspected;
use super::machine::Machine;
use super::meter::Meter;
use super::origins::origins;
use super::select::open_each;
use super::spawns::Watching;
use super::view::View;
use super::{Selection, Within, kernel_release};

/// Which processes are inspected, and how.
#[derive(Clone, Debug)]
pub struct InspectionOptions {
    /// Which.
    pub selection: Selection,
    /// Whether future types are to be named.
    pub names: Names,
    /// Where what is known of images is kept.
    pub caching: Caching,
    /// What idle tasks wait for is looked for, too.
    pub waits: bool,
    /// Memory that this program may use.
    pub bound: Bound,
    /// Diagnostics on standard error: 0 none, 1 progress, 2 details.
    pub verbosity: u8,
}

/// Where reports go.
pub struct SitesOutput {
    /// How they look.
    pub sink: Box<dyn SiteSink>,
    /// Where they are written.
    pub out: Box<dyn Write>,
    /// Where the live tasks are written as a profile, at the end.
    pub profile: Option<(ProfileKind, Box<dyn Write>)>,
}

/// A format of profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileKind {
    /// A gzipped protobuf for the pprof tool.
    Pprof,
    /// Folded stacks for flame graphs.
    Folded,
}

/// All processes of one run.
pub(super) struct Inspection<'a> {
    options: &'a InspectionOptions,
    pub(super) images: Images<'a>,
    window: usize,
    output: SitesOutput,
    began: Ns,
    met: HashSet<Pid>,
    unreadable: u64,
    looked_at: u64,
    first_error: Option<SessionError>,
    pub(super) targets: Vec<Inspected>,
}

impl<'a> Inspection<'a> {
    /// Opens what is named. Fails if nothing of it can be looked at. `window` is how many readings are judged together.
    pub(super) fn open(
        options: &'a InspectionOptions,
        say: &'a dyn Fn(u8, &str),
        output: SitesOutput,
        window: usize,
    ) -> Result<Self, SessionError> {
        let began = monotonic_now();
        let images = Images::new(options.names.clone(), &options.caching, say);
        let (met, targets) = (HashSet::new(), Vec::new());
        let (unreadable, looked_at, first_error) = (0, 0, None);
        let mut all = Self { options, images, window, output, began, met, unreadable, looked_at, first_error, targets };
        let refused = all.admit()?;
        if all.targets.is_empty() {
            if let Some((_, error)) = refused.into_iter().next() {
                return Err(error);
            }
            return Ok(all);
        }
        let kernel = kernel_release();
        let targets = all.targets.iter().map(|target| &target.entry).collect();
        let start = Report::Start { at: began, wall: SystemTime::now(), kernel: &kernel, targets, missing: &[] };
        all.output.say(&start)?;
        for (pid, error) in refused {
            all.refuse(pid, error)?;
        }
        // Whoever waits for the result sees at once what it will be of.
        all.output.flush()?;
        Ok(all)
    }

    /// Looks for wanted processes that were not there before.
    pub(super) fn admit_new(&mut self) -> Result<(), SessionError> {
        for (pid, error) in self.admit()? {
            self.refuse(pid, error)?;
        }
        Ok(())
    }

    /// Says that the process is not looked at, or not any more.
    pub(super) fn refuse(&mut self, pid: Pid, error: SessionError) -> Result<(), SessionError> {
        self.unreadable += 1;
        let reason = error.in_full();
        self.say(&Report::Unreadable { at: monotonic_now(), pid, reason: &reason })?;
        self.first_error.get_or_insert(error);
        Ok(())
    }

    /// A process was looked at.
    pub(super) fn count_one(&mut self) {
        self.looked_at += 1;
    }

    pub(super) fn say(&mut self, report: &Report<'_>) -> Result<(), SessionError> {
        self.output.say(report)
    }

    /// The processes and where reports go, at once.
    pub(super) fn parts(&mut self) -> (&mut Vec<Inspected>, &mut SitesOutput) {
        (&mut self.targets, &mut self.output)
    }

    /// Says the end; fails if not one process was looked at.
    pub(super) fn end(
        mut self,
        findings: Option<u64>,
        healthy: (u64, u64),
        spawns: Option<SpawnsWatched>,
    ) -> Result<(), SessionError> {
        if let Some(error) = self.first_error.take_if(|_| self.looked_at == 0) {
            return Err(error);
        }
        let (at, elapsed) = (monotonic_now(), monotonic_now().since(self.began));
        let (targets, unreadable) = (self.looked_at, self.unreadable);
        self.output.say(&Report::End(SitesEnd { at, targets, unreadable, findings, healthy, spawns, elapsed }))?;
        self.output.flush()
    }

    /// Opens processes that were not met before; gives those that cannot be looked at.
    fn admit(&mut self) -> Result<Vec<(Pid, SessionError)>, SessionError> {
        match &self.options.selection {
            Selection::Everyone(within) => self.admit_everyone(within),
            Selection::Running { pids, names } => self.admit_named(pids, names),
            Selection::Launch(_) => Ok(Vec::new()),
        }
    }

    fn admit_named(&mut self, pids: &[Pid], names: &[String]) -> Result<Vec<(Pid, SessionError)>, SessionError> {
        let pids = if self.met.is_empty() { pids } else { &[] };
        let opened = match open_each(pids, names) {
            // Later, that a name is nobody's any more is no failure.
            Err(SessionError::NoSuchName(_)) if !self.met.is_empty() => return Ok(Vec::new()),
            opened => opened?,
        };
        let mut refused = Vec::new();
        for (pid, process) in opened {
            if !self.met.insert(pid) {
                continue;
            }
            match process.map_err(SessionError::from).and_then(|process| self.inspected(process)) {
                Ok(target) => self.targets.push(target),
                Err(error) => refused.push((pid, error)),
            }
        }
        Ok(refused)
    }

    /// Of all processes those that run something to look at. Who runs nothing of that kind, or has ended meanwhile, is not
    /// worth a word.
    fn admit_everyone(&mut self, within: &Within) -> Result<Vec<(Pid, SessionError)>, SessionError> {
        let known: HashSet<Pid> = self.targets.iter().map(Inspected::pid).collect();
        let mut refused = Vec::new();
        let mut meter = Meter::new(self.options.verbosity);
        let residents = Machine::look()?.residents;
        let all = residents.len();
        for (number, (pid, resident)) in residents.into_iter().enumerate() {
            meter.show(number, all, "processes looked at");
            let own = pid.0 == std::process::id();
            let nothing = resident.code.iter().all(|code| self.images.holds_nothing(code.file));
            if own || known.contains(&pid) || nothing || !within.holds(&resident.enclosure) {
                continue;
            }
            let opened = Process::open(pid).map_err(SessionError::from).and_then(|process| self.inspected(process));
            match opened {
                Ok(_) if resident.code.iter().all(|code| self.images.holds_nothing(code.file)) => {}
                Ok(target) => self.targets.push(target),
                Err(SessionError::Nothing { reasons, .. }) if reasons.is_empty() => {}
                Err(error) if error.is_of_ended() => {}
                // Once is enough.
                Err(error) if self.met.insert(pid) => refused.push((pid, error)),
                Err(_) => {}
            }
        }
        Ok(refused)
    }

    fn inspected(&mut self, process: Process) -> Result<Inspected, SessionError> {
        Inspected::open(Arc::new(process), &mut self.images, self.window)
    }
}

impl SitesOutput {
    pub(super) fn say(&mut self, report: &Report<'_>) -> Result<(), SessionError> {
        self.sink.say(report, &mut self.out).map_err(SessionError::Output)
    }

    /// Writes what lives in these processes as a profile, if one is wanted.
    pub(super) fn profile(
        &mut self,
        targets: &[Inspected],
        view: &View,
        spawns: Option<&Watching>,
    ) -> Result<(), SessionError> {
        let Some((kind, out)) = &mut self.profile else { return Ok(()) };
        let mut samples: Vec<ProfileSample<'_>> = Vec::new();
        for target in targets {
            for SiteCount { site, mut live, mut stuck, .. } in target.counts() {
                let Some(of) = target.site(site).filter(|of| view.wants(of)) else { continue };
                let origins = spawns.map_or_else(Vec::new, |spawns| origins(spawns, target, site));
                for origin in origins {
                    (live, stuck) = (live.saturating_sub(origin.tasks), stuck.saturating_sub(origin.stuck));
                    samples.push(ProfileSample { of, live: origin.tasks, stuck: origin.stuck, origin: Some(origin) });
                }
                samples.push(ProfileSample { of, live, stuck, origin: None });
            }
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let written = match kind {
            ProfileKind::Pprof => write_pprof(&samples, i64::try_from(now.as_nanos()).unwrap_or(i64::MAX), out),
            ProfileKind::Folded => write_folded(&samples, out),
        };
        written.and_then(|()| out.flush()).map_err(SessionError::Output)
    }

    pub(super) fn flush(&mut self) -> Result<(), SessionError> {
        self.out.flush().map_err(SessionError::Output)
    }
}
