//! One process as an observation would find it: what would be seen, what would be missing. Nothing is attached.
//!
//! Does not know how the machine was examined.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use crate::attach::UnderFilter;
use crate::model::{Cost, EventSet, ImageFacts, Pid, Role, TargetEntry};
use crate::plan::Slow;
use crate::session::SessionError;
use crate::session::images::Images;
use crate::session::setup::{Looking, set_up};
use crate::target::{Process, Seccomp, Standstill, Status};

use super::expected::{Expected, expected};
use super::machine::Machine;
use super::need::{Detail, Need, NotTried, Outcome, Risk, Row};
use super::slow::{SlowPoint, slow_points};

/// Namespaces that matter: numbers of processes, paths of files, and whose capabilities count.
const NAMESPACES: [&str; 3] = ["pid", "mnt", "user"];

/// A process.
#[derive(Debug)]
pub struct Target {
    /// Its number.
    pub pid: Pid,
    /// The needs that concern it.
    pub rows: Vec<Row>,
    /// What would be observed.
    pub observed: Option<Observed>,
}

/// What would be observed.
#[derive(Debug)]
pub struct Observed {
    /// As the stream's start would list it.
    pub entry: TargetEntry,
    /// Points by role.
    pub points: Vec<Points>,
    /// Those that the kernel must single-step, hot ones that would be left out with them.
    pub slow: Vec<SlowPoint>,
    /// What each tier would cost; empty where hits could not be measured.
    pub expected: Vec<Expected>,
}

/// The points of one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Points {
    /// What they mean.
    pub role: Role,
    /// How many.
    pub count: usize,
    /// How many of them are on instructions that the kernel must single-step.
    pub single_stepped: usize,
}

impl Target {
    pub(super) fn examine(pid: Pid, machine: &Machine, images: &mut Images<'_>) -> Self {
        let opened = if pid.0 == std::process::id() { Err(SessionError::Itself(pid)) } else { open(pid) };
        let (process, status) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let rest = [Need::Memory, Need::Running, Need::Untraced, Need::Filter, Need::Runtime];
                let untried = rest.map(|need| Row::needed(need, Outcome::NotTried(NotTried::NoProcess)));
                let rows = [Row::needed(Need::Process, error.into())].into_iter().chain(untried).collect();
                return Self { pid, rows, observed: None };
            }
        };
        let looking = Looking { events: EventSet::ALL, slow: Slow::LeftOut, spawners: false };
        let (runtime, observed) = match set_up(&[Arc::clone(&process)], images, looking) {
            Ok(setup) => {
                let images = setup.catalog.images();
                let points = by_role(images.flat_map(|image| &image.points).map(|point| (point.role, point.cost)));
                let entry = setup.catalog.targets().next().map(|(_, entry)| TargetEntry::clone(entry));
                let prices = machine.prices;
                let attachments = &setup.attachments;
                let slow =
                    attachments.iter().flat_map(|of| slow_points(&of.name, &of.facts, &of.opened, prices)).collect();
                let facts: Vec<&ImageFacts> = attachments.iter().map(|of| &*of.facts).collect();
                let expected = prices.map_or(Vec::new(), |prices| expected(&facts, prices));
                (Outcome::WORKS, entry.map(|entry| Observed { entry, points, slow, expected }))
            }
            Err(error) => (error.into(), None),
        };
        let rows = vec![
            Row::needed(Need::Process, Outcome::Works(Some(detail(&process, &status, machine)))),
            Row::needed(Need::Memory, memory(&process)),
            Row::needed(Need::Running, running(&process)),
            Row::needed(Need::Untraced, untraced(&status)),
            Row::needed(Need::Filter, filter(&status, machine.under_filter)),
            Row::needed(Need::Runtime, runtime),
        ];
        Self { pid, rows, observed }
    }

    /// Why it cannot be observed, if so.
    pub fn refusal(&self) -> Option<&Outcome> {
        self.rows.iter().map(|row| &row.outcome).find(|outcome| matches!(outcome, Outcome::Missing(_)))
    }
}

fn open(pid: Pid) -> Result<(Arc<Process>, Status), SessionError> {
    let process = Process::open(pid)?;
    let status = process.status()?;
    Ok((Arc::new(process), status))
}

fn detail(process: &Process, status: &Status, machine: &Machine) -> Detail {
    let us = Process::open(Pid(std::process::id())).ok();
    let differs = |kind: &&&str| {
        // One that cannot be read is not told of.
        let ours = us.as_ref().and_then(|us| us.namespace(kind).ok());
        ours.zip(process.namespace(kind).ok()).is_some_and(|(ours, theirs)| ours != theirs)
    };
    Detail::Process {
        exe: process.exe().to_owned(),
        user: status.user,
        own_user: machine.own.user,
        threads: status.threads,
        other_namespaces: NAMESPACES.iter().filter(differs).copied().collect(),
    }
}

/// Reads the first word of its first mapped file, which is always there.
fn memory(process: &Process) -> Outcome {
    let read = process.maps().map_err(SessionError::from).and_then(|maps| {
        let readable = maps.iter().find(|mapping| mapping.permissions.read && mapping.file.is_some());
        let Some(mapping) = readable else { return Ok(0) };
        let word = process.memory().read_word(mapping.range.start);
        word.map_err(|error| SessionError::memory(process.pid(), error))
    });
    read.map_or_else(Outcome::from, |_| Outcome::WORKS)
}

fn running(process: &Process) -> Outcome {
    match process.standstill() {
        None => Outcome::WORKS,
        Some(Standstill::Stopped) => Outcome::Risk(Risk::Stopped),
        Some(Standstill::Frozen) => Outcome::Risk(Risk::Frozen),
    }
}

fn untraced(status: &Status) -> Outcome {
    match status.tracer {
        None => Outcome::WORKS,
        Some(by) => {
            // Only shown: a tracer that has just ended has no name.
            let name = fs::read_to_string(format!("/proc/{by}/comm")).ok().map(|name| name.trim_end().to_owned());
            Outcome::Risk(Risk::Traced { by, name })
        }
    }
}

fn filter(status: &Status, under_filter: Option<UnderFilter>) -> Outcome {
    match (status.seccomp, under_filter) {
        (None | Some(Seccomp::Off), _) => Outcome::Works(Some(Detail::NoFilter)),
        (_, Some(UnderFilter::Lives)) => Outcome::Works(Some(Detail::FilterLetsThrough)),
        (_, Some(UnderFilter::Killed)) => Outcome::Risk(Risk::FilterKills),
        (_, None) => Outcome::Risk(Risk::FilterUntried),
    }
}

fn by_role(points: impl Iterator<Item = (Role, Cost)>) -> Vec<Points> {
    let mut sums: BTreeMap<Role, (usize, usize)> = BTreeMap::new();
    for (role, cost) in points {
        let (count, single_stepped) = sums.entry(role).or_default();
        *count += 1;
        *single_stepped += usize::from(cost == Cost::SingleStepped);
    }
    sums.into_iter().map(|(role, (count, single_stepped))| Points { role, count, single_stepped }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_counted_by_role_and_the_dear_ones_among_them() {
        let points = [(Role::Poll, Cost::Emulated), (Role::Mint, Cost::Emulated), (Role::Poll, Cost::SingleStepped)];
        let counted: Vec<_> = by_role(points.into_iter()).iter().map(|p| (p.role, p.count, p.single_stepped)).collect();
        assert_eq!(counted, [(Role::Mint, 1, 0), (Role::Poll, 2, 1)]);
    }

    #[test]
    fn a_filter_is_a_risk_where_this_kernel_lets_it_judge_and_where_that_is_not_known() {
        let status = crate::target::own_status().unwrap();
        let with = |seccomp| Status { seccomp: Some(seccomp), ..status.clone() };
        let outcome = |seccomp, under| filter(&with(seccomp), under);
        assert!(matches!(outcome(Seccomp::Off, None), Outcome::Works(Some(Detail::NoFilter))));
        assert!(matches!(
            outcome(Seccomp::Filter, Some(UnderFilter::Lives)),
            Outcome::Works(Some(Detail::FilterLetsThrough))
        ));
        assert!(matches!(outcome(Seccomp::Filter, Some(UnderFilter::Killed)), Outcome::Risk(Risk::FilterKills)));
        assert!(matches!(outcome(Seccomp::Strict, None), Outcome::Risk(Risk::FilterUntried)));
    }
}
