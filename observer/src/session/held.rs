//! One image's probes, as long as they are wanted: the file, who is reached, and the links.
//!
//! Does not know why they are wanted, nor when they are not any more.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::attach::{ImageRequest, Links, Probes, Scope};
use crate::model::{AttachPoint, FileId, ImageEntry, ImageFacts, Missing, Ns, Pid, PointIndex, Sight};
use crate::target::{Hold, Layered, Module, Process, TargetError};

use super::error::SessionError;
use super::images::bias;
use super::marks::Mark;
use super::population::Attached;
use super::setup::{differing, numbered};
use super::stream::Stream;
use super::verify::{Verified, keep_verified, untouched};

/// One image's probes. Dropping it takes them out.
pub(super) struct Held {
    /// The file, as mappings and as news name it.
    pub(super) names: Vec<FileId>,
    pub(super) path: String,
    pub(super) facts: Arc<ImageFacts>,
    pub(super) image: Arc<ImageEntry>,
    links: Vec<(Whose, Links)>,
    /// What of its points is probed.
    sight: Sight,
    /// Whoever wants to write to the file waits until the probes are out. Without it they reach only processes that were
    /// verified one by one.
    hold: Option<Hold>,
    /// Held, so that its inode is not given to another file.
    file: File,
    layered: Layered,
    unused_since: Option<Ns>,
}

/// A process that runs an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Runner {
    pub(super) pid: Pid,
    /// How its records name it.
    pub(super) slot: u16,
}

/// Whom a link reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Everyone,
    Process(Runner),
}

impl Whose {
    fn scope(self) -> Scope {
        match self {
            Self::Everyone => Scope::Everyone,
            Self::Process(Runner { pid, slot }) => Scope::Process { pid, target: slot },
        }
    }

    fn is_process(self, pid: Pid) -> bool {
        matches!(self, Self::Process(runner) if runner.pid == pid)
    }
}

impl Held {
    /// An image without probes yet, in this very file.
    pub(super) fn new(
        names: Vec<FileId>,
        path: String,
        (facts, image): (Arc<ImageFacts>, Arc<ImageEntry>),
        (file, layered): (File, Layered),
        hold: Option<Hold>,
    ) -> Self {
        let (links, sight) = (Vec::new(), Sight::All);
        Self { names, path, facts, image, links, sight, hold, file, layered, unused_since: None }
    }

    /// So much of its points is probed, whoever is reached from now on.
    pub(super) fn limited_to(mut self, sight: Sight) -> Self {
        self.sight = sight;
        self
    }

    /// Whether it is this file, under whatever name.
    pub(super) fn is_of(&self, layered: &Layered, facts: &ImageFacts) -> bool {
        self.layered.is_same_as(layered) && self.facts.build_id == facts.build_id
    }

    /// Whether its probes are for everyone: nobody can write to the file meanwhile.
    pub(super) fn is_for_everyone(&self) -> bool {
        self.hold.is_some()
    }

    /// Whether somebody waits to write to the file.
    pub(super) fn is_asked_back(&self) -> bool {
        self.hold.as_ref().is_some_and(Hold::is_asked_back)
    }

    /// For how long nobody has run it, if that is so now.
    pub(super) fn unused(&mut self, now: Ns, used: bool) -> Ns {
        let since = if used { None } else { self.unused_since.or(Some(now)) };
        self.unused_since = since;
        since.map_or(Ns(0), |since| now.since(since))
    }

    /// From here on its probes are in, under these names.
    pub(super) fn mark(&self, names: &[FileId], at: Ns, missing: &[Missing], stream: &mut Stream) {
        for name in names {
            let (facts, image) = (Arc::clone(&self.facts), Arc::clone(&self.image));
            stream.mark(at, Mark::Attached(*name, Attached { facts, image, missing: missing.to_vec() }));
        }
    }

    /// Reaches everyone who runs it, now or later.
    pub(super) fn reach_everyone(&mut self, probes: &mut Probes) -> Result<&Links, SessionError> {
        self.reach(Whose::Everyone, probes)
    }

    /// Reaches one process whose memory was verified.
    pub(super) fn reach_verified(&mut self, runner: Runner, probes: &mut Probes) -> Result<&Links, SessionError> {
        self.reach(Whose::Process(runner), probes)
    }

    fn reach(&mut self, whose: Whose, probes: &mut Probes) -> Result<&Links, SessionError> {
        let path = by_descriptor(&self.file);
        let mut points = numbered(&self.image);
        points.retain(|(_, point)| has(self.sight, point));
        let links = probes.attach(&[ImageRequest { scope: whose.scope(), path: &path, points }])?;
        self.links.push((whose, links));
        Ok(&self.links[self.links.len() - 1].1)
    }

    /// Reads back whether its probes stand in a process that they were put in for: the kernel puts them into a file, and what the process
    /// runs may not be that file's any more. Gives what is missing where only a part is there; an error where nothing is.
    pub(super) fn check_reached(&self, pid: Pid) -> Result<Vec<Missing>, SessionError> {
        let refused: HashSet<PointIndex> =
            self.links.iter().flat_map(|(_, links)| links.refused()).map(|refused| refused.point).collect();
        let is_planted =
            |(number, point): &(PointIndex, &AttachPoint)| has(self.sight, point) && !refused.contains(number);
        let planted: Vec<&AttachPoint> =
            numbered(&self.image).into_iter().filter(is_planted).map(|(_, point)| point).collect();
        let untouched = untouched_in(&planted, &self.facts, pid, &self.names);
        if !planted.is_empty() && untouched.len() == planted.len() {
            return Err(SessionError::Unreached { pid, path: self.path.clone() });
        }
        let mut sums: BTreeMap<&'static str, usize> = BTreeMap::new();
        for point in untouched {
            *sums.entry(point.role.event()).or_default() += 1;
        }
        let missing = |(event, count)| Missing {
            event,
            reason: format!(
                "at {count} of its points the probes did not reach the process (its code was moved): restart it, or use ps or sweep"
            ),
        };
        Ok(sums.into_iter().map(missing).collect())
    }

    /// Reaches these, one by one: one that cannot be reached does not stop the others.
    pub(super) fn reach_each(&mut self, runners: &[Runner], probes: &mut Probes) -> Result<(), SessionError> {
        let failed = runners.iter().filter_map(|runner| self.reach_one(*runner, probes).err());
        let mut failed: Vec<SessionError> = failed.filter(|error| !error.is_of_ended()).collect();
        failed.pop().map_or(Ok(()), Err)
    }

    /// Reaches a process that has come to run it, unless it is reached already.
    pub(super) fn joins(&mut self, runner: Runner, probes: &mut Probes) -> Result<(), SessionError> {
        let reaches = |(whose, _): &(Whose, Links)| *whose == Whose::Everyone || whose.is_process(runner.pid);
        if self.links.iter().any(reaches) { Ok(()) } else { self.reach_one(runner, probes) }
    }

    /// Gives up the links that reach only this process.
    pub(super) fn leave(&mut self, pid: Pid) -> Vec<Links> {
        let over = self.links.extract_if(.., |(whose, _)| whose.is_process(pid));
        over.map(|(_, links)| links).collect()
    }

    /// From now on only so much is probed. Gives up the links of the rest.
    pub(super) fn plant_less(&mut self, sight: Sight) -> Vec<Links> {
        self.sight = sight;
        self.links.iter_mut().map(|(_, links)| links.give_up(|program| !sight.has(program))).collect()
    }

    /// From now on so much more is probed, for whoever is reached. The memory of those who run it is compared with the file again:
    /// something else may have patched it meanwhile, and is left alone. One that cannot be reached does not stop the others.
    pub(super) fn plant_more(&mut self, sight: Sight, running: &[Pid], probes: &mut Probes, say: &dyn Fn(u8, &str)) {
        let before = std::mem::replace(&mut self.sight, sight);
        let path = by_descriptor(&self.file);
        for (whose, links) in &mut self.links {
            let pids = match whose {
                Whose::Everyone => running.to_vec(),
                Whose::Process(runner) => vec![runner.pid],
            };
            let mut points: Vec<AttachPoint> = self.image.points.clone();
            points.retain(|point| has(sight, point) && !has(before, point));
            let mut verify = |pid| match verify(&mut points, &self.facts, pid, &self.names) {
                Err(error) if error.is_of_ended() => Ok(None),
                verified => verified,
            };
            let differing: Result<Vec<_>, SessionError> = pids.into_iter().map(&mut verify).collect();
            let attached = differing.and_then(|differing| {
                differing.into_iter().flatten().for_each(|missing| say(1, &format!("missing: {}", missing.reason)));
                let mut left = points.iter().peekable();
                let mut points = numbered(&self.image);
                points.retain(|(_, point)| left.next_if_eq(point).is_some());
                Ok(probes.attach(&[ImageRequest { scope: whose.scope(), path: &path, points }])?)
            });
            match attached {
                Ok(more) => *links = Links::together([std::mem::take(links), more]),
                Err(error) => say(1, &format!("{} is observed less than it should: {}", self.path, error.in_full())),
            }
        }
    }

    /// Gives up all links. The file may change only when they are out.
    fn links(&mut self) -> Links {
        Links::together(self.links.drain(..).map(|(_, links)| links))
    }

    /// Takes the probes of all of these out, at the same time.
    pub(super) fn release(mut all: Vec<Self>) {
        drop(Links::together(all.iter_mut().map(Self::links)));
    }

    /// Reaches one process, whose memory is verified first: where it is not the file's, it is left alone.
    fn reach_one(&mut self, runner: Runner, probes: &mut Probes) -> Result<(), SessionError> {
        let pid = runner.pid;
        let mut points = self.image.points.clone();
        verify(&mut points, &self.facts, pid, &self.names)?;
        if points.len() < self.image.points.len() {
            return Err(SessionError::Differs { pid, path: self.path.clone() });
        }
        self.reach_verified(runner, probes)?;
        let reached = self.check_reached(pid);
        if !matches!(&reached, Ok(missing) if missing.is_empty()) {
            drop(Links::together(self.leave(pid)));
            return Err(SessionError::Unreached { pid, path: self.path.clone() });
        }
        Ok(())
    }
}

/// Keeps the points at which the process's memory equals the file. A process that ends meanwhile, or begins another program, says
/// nothing about them.
pub(super) fn verify(
    points: &mut Vec<AttachPoint>,
    facts: &ImageFacts,
    pid: Pid,
    names: &[FileId],
) -> Result<Option<Missing>, SessionError> {
    let process = Process::open(pid)?;
    let Some(module) = process.modules()?.into_iter().find(|module| names.contains(&module.file)) else {
        return Ok(None);
    };
    let Ok(bias) = bias(facts, &module) else { return Ok(None) };
    let mut kept = points.clone();
    let verified = keep_verified(&mut kept, bias, &process.memory());
    if !matches!(verified, Ok(Verified { differing: 0, .. })) && !has_still(&process, &module) {
        return Err(TargetError::Vanished { pid }.into());
    }
    let verified = verified.map_err(|error| SessionError::memory(pid, error))?;
    *points = kept;
    Ok(differing(&module.path, verified))
}

/// Those of the points at which nothing stands in a process that maps the image. One that ends meanwhile, or begins another program,
/// says nothing.
pub(super) fn untouched_in<'a>(
    points: &[&'a AttachPoint],
    facts: &ImageFacts,
    pid: Pid,
    names: &[FileId],
) -> Vec<&'a AttachPoint> {
    let Ok(process) = Process::open(pid) else { return Vec::new() };
    let Ok(modules) = process.modules() else { return Vec::new() };
    let module = modules.into_iter().find(|module| names.contains(&module.file));
    let Some((module, bias)) = module.and_then(|module| bias(facts, &module).ok().map(|bias| (module, bias))) else {
        return Vec::new();
    };
    let untouched = untouched(points.iter().copied(), bias, &process.memory());
    if has_still(&process, &module) { untouched } else { Vec::new() }
}

/// Whether a module that a process had is where it was.
fn has_still(process: &Process, module: &Module) -> bool {
    let is_it = |now: &Module| now.file == module.file && now.mappings == module.mappings;
    process.modules().is_ok_and(|modules| modules.iter().any(is_it))
}

impl Drop for Held {
    fn drop(&mut self) {
        // Before the hold.
        drop(self.links());
        self.hold = None;
    }
}

/// Whether all programs of this point are in place.
fn has(sight: Sight, point: &AttachPoint) -> bool {
    point.role.programs().iter().all(|program| sight.has(*program))
}

/// Where the kernel finds this very file.
pub(super) fn by_descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
