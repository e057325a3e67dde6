//! Probes of images that are met while a session runs: put in, held, and taken out again.
//!
//! Does not know: how images are met, nor what their hits mean.

use std::fs::File;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::attach::{Links, Probes};
use crate::model::{EventSet, FileId, ImageFacts, Missing, Ns, Pid, Sight};
use crate::plan::{Chosen, Slow, choose};
use crate::target::{Hold, Layered, monotonic_now};

use super::error::SessionError;
use super::held::{Held, Runner, verify};
use super::images::entry_of;
use super::marks::Mark;
use super::setup::refused;
use super::stream::Stream;

/// All that is held.
pub(super) struct Probing<'a> {
    events: EventSet,
    slow: Slow,
    /// What of the points for those is probed.
    sight: Sight,
    held: Vec<Held>,
    /// Probes that nobody runs into are taken out after so long.
    keep: Ns,
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

impl<'a> Probing<'a> {
    /// With what is held already.
    pub(super) fn new(events: EventSet, slow: Slow, held: Vec<Held>, keep: Ns, say: &'a dyn Fn(u8, &str)) -> Self {
        Self { events, slow, sight: Sight::All, held, keep, leaving: Vec::new(), say }
    }

    /// What is held.
    pub(super) fn held(&self) -> &[Held] {
        &self.held
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
        if let Some(number) = self.held.iter().position(|held| held.is_of(&layered, wanted.facts)) {
            return self.share(number, wanted, stream, probes);
        }
        let Wanted { names, path, opened, facts, runners, mut everyone } = wanted;
        let Chosen { mut points, mut missing } = choose(&facts.plan, &facts.types, self.events, self.slow);
        if let (true, Some(missing)) = (points.is_empty(), missing.first()) {
            (self.say)(1, &format!("{path} is not observed: {}", missing.reason));
            return Ok(());
        }
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
        let mut held =
            Held::new(names, path, (Arc::clone(facts), image), (opened, layered), hold).limited_to(self.sight);
        let reached = match held.is_for_everyone() {
            true => held
                .reach_everyone(probes)
                .map(|links| missing.extend(refused(links.refused(), stream.population.catalog()))),
            false => held.reach_each(&runners, probes),
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
        match held.is_for_everyone() {
            true => Ok(()),
            false => held.reach_each(&wanted.runners, probes),
        }
    }

    /// A process has come to run an image whose probes are in. Those that reach everyone reach it already.
    pub(super) fn joins(&mut self, file: FileId, runner: Runner, probes: &mut Probes) -> Result<(), SessionError> {
        let held = self.held.iter_mut().find(|held| held.names.contains(&file));
        held.map_or(Ok(()), |held| held.joins(runner, probes))
    }

    /// A process has ended: probes that reach nobody else are taken out.
    pub(super) fn ended(&mut self, pid: Pid) {
        let over: Vec<Links> = self.held.iter_mut().flat_map(|held| held.leave(pid)).collect();
        if !over.is_empty() {
            leave(&mut self.leaving, move || drop(Links::together(over)));
        }
    }

    /// From now on only so much is probed. It takes a while until the rest is out.
    pub(super) fn plant_less(&mut self, sight: Sight) {
        self.sight = sight;
        let over: Vec<Links> = self.held.iter_mut().flat_map(|held| held.plant_less(sight)).collect();
        leave(&mut self.leaving, move || drop(Links::together(over)));
    }

    /// From now on so much more is probed, and is when this returns.
    pub(super) fn plant_more(&mut self, sight: Sight, stream: &Stream, probes: &mut Probes) {
        self.sight = sight;
        for held in &mut self.held {
            let running: Vec<Pid> = held.names.iter().flat_map(|name| stream.population.running(*name)).collect();
            held.plant_more(sight, &running, probes, self.say);
        }
    }

    /// Whether all that was to be taken out is out.
    pub(super) fn is_settled(&self) -> bool {
        self.leaving.iter().all(JoinHandle::is_finished)
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
        // Whoever waits goes on when the hold is given up, and until then no probe may be left: not even one that is on its way out.
        if !self.is_settled() {
            return Vec::new();
        }
        let back: Vec<Held> = self.held.extract_if(.., |held| held.is_asked_back()).collect();
        for held in &back {
            (self.say)(1, &format!("{} is about to be written to: its probes are taken out", held.path));
        }
        self.release(back, stream)
    }

    /// Takes probes out of files that nobody has run for a while; gives those files.
    pub(super) fn release_unused(&mut self, stream: &mut Stream, now: Ns) -> Vec<FileId> {
        self.leaving.retain(|thread| !thread.is_finished());
        if !self.is_settled() {
            return Vec::new();
        }
        let keep = self.keep;
        let over = |held: &mut Held| {
            let used = held.names.iter().any(|name| stream.population.is_run(*name));
            held.unused(now, used) >= keep
        };
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
            leave(&mut self.leaving, move || Held::release(released));
        }
        names
    }
}

/// Does it in the background, or here where there is no thread for it: what is dropped is out either way.
fn leave(leaving: &mut Vec<JoinHandle<()>>, work: impl FnOnce() + Send + 'static) {
    leaving.extend(std::thread::Builder::new().name("detach".to_owned()).spawn(work));
}

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        // Its links first: files are given back when the last probe is out.
        let links: Vec<Links> = self.held.iter_mut().flat_map(|held| held.plant_less(Sight::Nothing)).collect();
        drop(Links::together(links));
        for thread in self.leaving.drain(..) {
            // It only drops: if it panicked, the links went with it.
            let _ = thread.join();
        }
    }
}
