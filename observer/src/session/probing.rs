//! Probes of images that are met while a session runs: put in, held, and taken out again.
//!
//! Does not know: how images are met, nor what their hits mean.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::attach::{ImageRequest, Links, Probes, Scope};
use crate::model::{AttachPoint, EventSet, FileId, ImageEntry, ImageFacts, Missing, Ns, Pid};
use crate::plan::{Chosen, choose};
use crate::target::{Hold, Layered, Process, monotonic_now};

use super::error::SessionError;
use super::images::{bias, entry_of};
use super::population::Attached;
use super::setup::{differing, numbered, refused};
use super::stream::{Mark, Stream};
use super::verify::keep_verified;

/// Probes that nobody runs into are taken out after so long.
const UNUSED: Ns = Ns(10_000_000_000);

/// All that is held.
pub(super) struct Probing<'a> {
    events: EventSet,
    held: Vec<Held>,
    /// Taking probes out waits for the kernel: threads do it.
    leaving: Vec<JoinHandle<()>>,
    say: &'a dyn Fn(u8, &str),
}

/// An image whose probes are wanted.
pub(super) struct Wanted<'a> {
    /// The file, as mappings and as news name it.
    pub(super) names: Vec<FileId>,
    pub(super) path: String,
    /// The very file.
    pub(super) opened: File,
    pub(super) facts: &'a Arc<ImageFacts>,
    /// Who runs it now, as far as is known.
    pub(super) runners: Vec<Runner>,
    /// Whoever runs it later is to be observed as well, from the first instruction.
    pub(super) everyone: bool,
}

/// A process that runs an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Runner {
    pub(super) pid: Pid,
    /// How its records name it.
    pub(super) slot: u16,
}

/// One image's probes.
struct Held {
    names: Vec<FileId>,
    path: String,
    facts: Arc<ImageFacts>,
    image: Arc<ImageEntry>,
    links: Vec<(Whose, Links)>,
    /// Whoever wants to write to the file waits until the probes are out. Without it they reach only processes that were
    /// verified one by one.
    hold: Option<Hold>,
    /// Held, so that its inode is not given to another file.
    file: File,
    layered: Layered,
    unused_since: Option<Ns>,
}

/// Whom a link reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Everyone,
    Process(Pid),
}

impl<'a> Probing<'a> {
    pub(super) fn new(events: EventSet, say: &'a dyn Fn(u8, &str)) -> Self {
        Self { events, held: Vec::new(), leaving: Vec::new(), say }
    }

    /// Puts probes into an image. Its targets begin with a mark at the moment before.
    pub(super) fn begin(
        &mut self,
        wanted: Wanted<'_>,
        stream: &mut Stream,
        probes: &mut Probes,
    ) -> Result<(), SessionError> {
        let layered = Layered::of(&wanted.opened);
        let layered = layered.map_err(|source| SessionError::System { what: "tell an image's file", source })?;
        let same = |held: &Held| held.layered.is_same_as(&layered) && held.facts.build_id == wanted.facts.build_id;
        if let Some(number) = self.held.iter().position(same) {
            return self.share(number, wanted, stream, probes);
        }
        let Wanted { names, path, opened, facts, runners, mut everyone } = wanted;
        let Chosen { mut points, mut missing } = choose(&facts.plan, self.events);
        // Whoever maps the file has the same bytes, unless somebody patched them in that process. A breakpoint inside such a
        // patch would end it: what is patched in one is left out for all.
        for runner in &runners {
            match verify(&mut points, facts, runner.pid, &names) {
                Ok(differing) => missing.extend(differing),
                Err(error) if error.is_of_ended() => {}
                Err(error) => {
                    (self.say)(1, &format!("process {} cannot be verified: {}", runner.pid, error.in_full()));
                    everyone = false;
                }
            }
        }
        if points.is_empty() {
            (self.say)(1, &format!("{path} is not observed: no point's memory equals the file"));
            return Ok(());
        }
        let hold = if everyone { self.hold(&opened, &mut missing) } else { None };
        let image = stream.population.number(entry_of(facts, points, self.events));
        let began = monotonic_now();
        let (facts, links) = (Arc::clone(facts), Vec::new());
        let file = opened;
        let mut held = Held { names, path, facts, image, links, hold, file, layered, unused_since: None };
        let reached = match held.hold {
            Some(_) => held
                .reach(Whose::Everyone, Scope::Everyone, probes)
                .map(|links| missing.extend(refused(links, stream.population.catalog()))),
            None => held.reach_each(&runners, probes),
        };
        let took = monotonic_now().since(began).0 as f64 / 1e6;
        (self.say)(2, &format!("{} points in {} after {took:.1} ms", held.image.points.len(), held.path));
        held.mark(&held.names, began, &missing, stream);
        self.held.push(held);
        reached
    }

    /// The file has its probes already, under another name: containers that share a layer each have one.
    fn share(
        &mut self,
        number: usize,
        wanted: Wanted<'_>,
        stream: &mut Stream,
        probes: &mut Probes,
    ) -> Result<(), SessionError> {
        let held = &mut self.held[number];
        let began = monotonic_now();
        held.mark(&wanted.names, began, &[], stream);
        (self.say)(2, &format!("{} is the same file as {}, whose probes are in", wanted.path, held.path));
        held.names.extend(wanted.names.iter().filter(|name| !held.names.contains(name)).collect::<Vec<_>>());
        match held.hold {
            Some(_) => Ok(()),
            None => held.reach_each(&wanted.runners, probes),
        }
    }

    /// A process has come to run an image whose probes are in. Those that reach everyone reach it already.
    pub(super) fn joins(&mut self, file: FileId, runner: Runner, probes: &mut Probes) -> Result<(), SessionError> {
        let Some(held) = self.held.iter_mut().find(|held| held.names.contains(&file)) else { return Ok(()) };
        let reaches = |(whose, _): &(Whose, Links)| *whose == Whose::Everyone || *whose == Whose::Process(runner.pid);
        if held.links.iter().any(reaches) { Ok(()) } else { held.reach_one(runner, probes) }
    }

    /// A process has ended: probes that reach nobody else are taken out.
    pub(super) fn ended(&mut self, pid: Pid) {
        for held in &mut self.held {
            let over: Vec<_> = held.links.extract_if(.., |(whose, _)| *whose == Whose::Process(pid)).collect();
            if !over.is_empty() {
                leave(&mut self.leaving, move || drop(over));
            }
        }
    }

    /// One link for everyone is safe only while nobody can write to the file: a process that begins later would run into
    /// breakpoints for a program that is not there any more.
    fn hold(&self, opened: &File, missing: &mut Vec<Missing>) -> Option<Hold> {
        match opened.try_clone().and_then(Hold::take) {
            Ok(hold) => Some(hold),
            Err(error) => {
                let reason = format!(
                    "processes that begin later are observed only after they were verified, not from their first \
                     instruction, because the file may be written to while it is probed ({error}); root, or the file's \
                     owner with CAP_LEASE, can hold writers back"
                );
                missing.push(Missing { event: "init", reason });
                None
            }
        }
    }

    /// Takes probes out of files that somebody wants to write to; gives those files.
    pub(super) fn give_back(&mut self, stream: &mut Stream) -> Vec<FileId> {
        let asked = |held: &mut Held| held.hold.as_ref().is_some_and(Hold::is_asked_back);
        let back: Vec<Held> = self.held.extract_if(.., asked).collect();
        for held in &back {
            (self.say)(1, &format!("{} is about to be written to: its probes are taken out", held.path));
        }
        self.release(back, stream)
    }

    /// Takes probes out of files that nobody has run for a while; gives those files.
    pub(super) fn release_unused(&mut self, stream: &mut Stream, now: Ns) -> Vec<FileId> {
        self.leaving.retain(|thread| !thread.is_finished());
        for held in &mut self.held {
            let used = held.names.iter().any(|name| stream.population.is_run(*name));
            held.unused_since = if used { None } else { held.unused_since.or(Some(now)) };
        }
        let over = |held: &mut Held| held.unused_since.is_some_and(|since| now.since(since) >= UNUSED);
        let unused: Vec<Held> = self.held.extract_if(.., over).collect();
        for held in &unused {
            (self.say)(2, &format!("nobody runs {} any more: its probes are taken out", held.path));
        }
        self.release(unused, stream)
    }

    fn release(&mut self, released: Vec<Held>, stream: &mut Stream) -> Vec<FileId> {
        let now = monotonic_now();
        let names: Vec<FileId> = released.iter().flat_map(|held| held.names.iter().copied()).collect();
        for name in &names {
            stream.mark(now, Mark::Released(*name));
        }
        if !released.is_empty() {
            leave(&mut self.leaving, move || drop(released));
        }
        names
    }
}

impl Held {
    /// From here on its probes are in, under these names.
    fn mark(&self, names: &[FileId], at: Ns, missing: &[Missing], stream: &mut Stream) {
        for name in names {
            let (facts, image) = (Arc::clone(&self.facts), Arc::clone(&self.image));
            stream.mark(at, Mark::Attached(*name, Attached { facts, image, missing: missing.to_vec() }));
        }
    }

    fn reach(&mut self, whose: Whose, scope: Scope, probes: &mut Probes) -> Result<&Links, SessionError> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let request = ImageRequest { scope, path: &path, points: numbered(&self.image) };
        let links = probes.attach(&[request])?;
        self.links.push((whose, links));
        Ok(&self.links[self.links.len() - 1].1)
    }

    /// Reaches these, one by one: one that cannot be reached does not stop the others.
    fn reach_each(&mut self, runners: &[Runner], probes: &mut Probes) -> Result<(), SessionError> {
        let failed = runners.iter().filter_map(|runner| self.reach_one(*runner, probes).err());
        let mut failed: Vec<SessionError> = failed.filter(|error| !error.is_of_ended()).collect();
        failed.pop().map_or(Ok(()), Err)
    }

    /// Reaches one process, whose memory is verified first: where it is not the file's, it is left alone.
    fn reach_one(&mut self, Runner { pid, slot }: Runner, probes: &mut Probes) -> Result<(), SessionError> {
        let mut points = self.image.points.clone();
        verify(&mut points, &self.facts, pid, &self.names)?;
        if points.len() < self.image.points.len() {
            return Err(SessionError::Differs { pid, path: self.path.clone() });
        }
        self.reach(Whose::Process(pid), Scope::Process { pid, target: slot }, probes).map(drop)
    }
}

/// Keeps the points at which the process's memory equals the file.
fn verify(
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
    let verified = keep_verified(points, bias, &process.memory()).map_err(|error| SessionError::memory(pid, error))?;
    Ok(differing(&module.path, verified))
}

/// Does it in the background, or here where there is no thread for it: what is dropped is out either way.
fn leave(leaving: &mut Vec<JoinHandle<()>>, work: impl FnOnce() + Send + 'static) {
    leaving.extend(std::thread::Builder::new().name("detach".to_owned()).spawn(work));
}

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        // All at once: each waits for the kernel, which can wait for all of them together.
        for held in self.held.drain(..) {
            leave(&mut self.leaving, move || drop(held));
        }
        for thread in self.leaving.drain(..) {
            // It only drops: if it panicked, the links went with it.
            let _ = thread.join();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The file may change only when the probes are out.
        self.links.clear();
        self.hold = None;
    }
}
