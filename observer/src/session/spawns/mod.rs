//! Who spawned what: a probe at each place where a task takes its id, so one hit in a task's life.
//!
//! Each hit brings the id, and the spawner's registers and stack. Its callers are unwound here, the task among them is told by memory that is
//! read soon after. The sooner [`Spawns::drain`] is called, the fewer spawners have ended by then.

mod births;
pub(super) mod code;
mod copies;
pub(super) mod look;
mod spots;
mod vdso;
mod watching;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::attach::{self, Counters, ImageRequest, Links, Probes, Spawners};
use crate::decode::decode_spawn;
use crate::model::{
    AttachPoint, Caller, Catalog, EventSet, Missing, NoRule, Ns, Pid, ProcAddr, SpawnHit, SpawnSeen, StackId, TargetId,
    TaskId, Trigger, TypeId, Untold, UnwindEnd,
};
use crate::perf::Ring;
use crate::target::Process;
use crate::unwind::{Habits, Polls, Told, trigger, unwind};

use super::Slow;
use super::debug_files::Names;
use super::disk::Caching;
use super::error::SessionError;
use super::held::{Runner, untouched_in};
use super::images::Images;
use super::setup::{Attachment, Looking, Setup, numbered, set_up};

pub use births::{Born, Caps, Dropped, Stack};
pub use watching::Watching;

use births::Births;
use code::Code;
use copies::Copies;
use look::Look;
use spots::Spots;

/// How spawns are watched.
#[derive(Clone, Copy, Debug)]
pub struct SpawnOptions {
    /// How to attach; `None` tries the best first.
    pub mechanism: Option<attach::Mechanism>,
    /// Size of each CPU's ring, pages, a power of two. A record takes up to four pages.
    pub ring_pages: usize,
    /// How much is kept.
    pub caps: Caps,
    /// What becomes of places where the kernel must single-step the instruction.
    pub slow: Slow,
}

impl Default for SpawnOptions {
    /// Room for 512 spawns a CPU between two looks, with pages of 4 KiB.
    fn default() -> Self {
        Self { mechanism: None, ring_pages: 2048, caps: Caps::default(), slow: Slow::LeftOut }
    }
}

/// What was seen so far, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpawnCounts {
    /// How often the targets hit a probe.
    pub hits: u64,
    /// Spawns that were seen.
    pub seen: u64,
    /// Spawns whose record found no room.
    pub lost: u64,
    /// Records that could not be understood.
    pub malformed: u64,
    /// Times that the probes could not be told where a site's spawners are found: those are looked up after the fact.
    pub untaught: u64,
    /// Spawns that are remembered now.
    pub kept: u64,
    /// Spawns that were seen and not kept.
    pub dropped: Dropped,
}

/// Probes where the tasks of some processes take their ids, and what they brought. Dropping it takes the probes out.
pub struct Spawns {
    // Before the probes, which its links are made with.
    links: Links,
    probes: Probes,
    catalog: Catalog,
    targets: HashMap<TargetId, Target>,
    births: Births,
    spots: Spots,
    missing: Vec<Missing>,
    names: Names,
    seen: u64,
    malformed: u64,
    untaught: u64,
    records: Vec<Vec<u8>>,
}

/// What is needed to understand one process's stacks.
struct Target {
    process: Arc<Process>,
    polls: Polls,
    habits: Habits,
    code: Code,
    tables: look::Tables,
}

impl Spawns {
    /// Looks at the processes' images and puts the probes in. `progress` is called with what is being done. Calls are named from debug
    /// information in its usual places.
    pub fn start(
        processes: &[Arc<Process>],
        options: &SpawnOptions,
        progress: &dyn Fn(&str),
    ) -> Result<Self, SessionError> {
        let names = Names::Wanted(Vec::new());
        Self::of_images(processes, options, &mut Images::new(names, &Caching::Off, &|_, text| progress(text)))
    }

    /// As [`Spawns::start`], where the images may be known already.
    pub(super) fn of_images(
        processes: &[Arc<Process>],
        options: &SpawnOptions,
        images: &mut Images<'_>,
    ) -> Result<Self, SessionError> {
        let events = EventSet::NONE;
        let Setup { catalog, attachments, targets, mut polls } =
            set_up(processes, images, Looking { events, slow: options.slow, spawners: true })?;
        let targets = processes.iter().zip(targets).map(|(process, target)| {
            let polls = polls.remove(&target).unwrap_or_default();
            let mut code = Code::new(Arc::clone(process), images.names().clone());
            // Read now, not when the first records wait.
            code.read_at(polls.iter().map(|poll| poll.start));
            let (polls, habits, tables) = (Polls::new(polls), Habits::default(), look::Tables::default());
            (target, Target { process: Arc::clone(process), polls, habits, code, tables })
        });
        let targets: HashMap<TargetId, Target> = targets.collect();
        let mut probes = Probes::load(&attach::Options {
            mechanism: options.mechanism,
            ring_pages: options.ring_pages,
            spawners: Spawners::Reported,
            // Nobody asks for it: what a session costs its own probes tell.
            priced: false,
            ..attach::Options::default()
        })?;
        let requests: Vec<ImageRequest<'_>> = attachments.iter().flat_map(Attachment::requests).collect();
        let links = probes.attach(&requests)?;
        let refused = links.refused().iter().map(|refused| Missing {
            event: "spawns",
            reason: format!("the kernel took no probe at one of its points ({})", refused.reason),
        });
        let unreached = attachments.iter().flat_map(|attachment| {
            let refused: HashSet<_> = links.refused().iter().map(|refused| refused.point).collect();
            let planted = numbered(&attachment.image).into_iter().filter(|(number, _)| !refused.contains(number));
            let planted: Vec<&AttachPoint> = planted.map(|(_, point)| point).collect();
            attachment.runners.iter().filter_map(move |Runner { pid, .. }| {
                let there = untouched_in(&planted, &attachment.facts, *pid, &[attachment.file]).len() < planted.len();
                let error = SessionError::Unreached { pid: *pid, path: attachment.name.clone() };
                (!there && !planted.is_empty()).then(|| Missing { event: "spawns", reason: error.to_string() })
            })
        });
        let refused = refused.chain(unreached);
        let missing = catalog.targets().flat_map(|(_, target)| target.missing.iter().cloned()).chain(refused).collect();
        Ok(Self {
            links,
            probes,
            targets,
            births: Births::new(options.caps, Copies::of(&catalog)),
            catalog,
            spots: Spots::default(),
            missing,
            names: images.names().clone(),
            seen: 0,
            malformed: 0,
            untaught: 0,
            records: Vec::new(),
        })
    }

    /// Takes what the probes brought since the last time, by time. What a stack does not tell is looked up in the targets'
    /// memory now.
    pub fn drain(&mut self) -> Vec<SpawnSeen> {
        let Self { probes, records, catalog, malformed, .. } = self;
        probes.drain(&mut |_, record| records.push(record.to_vec()));
        let mut hits: Vec<SpawnHit> = Vec::new();
        for record in records.drain(..) {
            match decode_spawn(&record, catalog) {
                Ok(hit) => hits.push(hit),
                Err(_) => *malformed += 1,
            }
        }
        hits.sort_by_key(|hit| hit.at);
        self.targets.values_mut().for_each(|target| target.code.look_anew());
        // Newest first: of the spawners it is theirs that have had the least time to end.
        let mut told: Vec<Option<(Told, Stack)>> = hits.iter().rev().map(|hit| self.understand(hit)).collect();
        told.reverse();
        // Again what was not clear: it may be by what the others have shown since.
        for (hit, told) in hits.iter().zip(&mut told) {
            let is_unclear = |told: &Told| matches!(told.trigger, Trigger::OfType { why: Untold::Several, .. });
            if told.as_ref().is_some_and(|(told, _)| is_unclear(told)) {
                *told = self.understand(hit);
            }
            if let Some((Told { header: Some(header), .. }, _)) = told
                && let Some(spot) = self.spots.learn(hit, *header)
            {
                // Then memory is read after the fact, as before.
                self.untaught += u64::from(self.probes.look_at(hit.point, spot).is_err());
            }
        }
        let mut seen = Vec::with_capacity(hits.len());
        for (hit, (Told { trigger, .. }, stack)) in
            hits.into_iter().zip(told).filter_map(|(hit, told)| Some((hit, told?)))
        {
            let SpawnHit { at, target, image, tid, task, .. } = hit;
            let stack = self.births.stack_id(stack);
            let spawn = SpawnSeen { at, target, image, tid, task, stack, trigger };
            self.births.keep(spawn.clone());
            seen.push(spawn);
        }
        self.seen += seen.len() as u64;
        seen
    }

    /// Who made the spawn and through which calls. A hit that was decoded is of a target.
    fn understand(&mut self, hit: &SpawnHit) -> Option<(Told, Stack)> {
        let entry = self.catalog.target(hit.target)?;
        let Target { process, polls, habits, code, tables } = self.targets.get_mut(&hit.target)?;
        let unwound = unwind(hit.registers, &hit.stack, |at| code.rule_at(at));
        let mut look = Look::new(process.memory(), entry, hit, code, tables);
        let told = trigger(&unwound, &hit.stack, polls, habits, &mut look);
        let mut addresses: Vec<ProcAddr> = unwound.frames.iter().map(|frame| frame.ip).collect();
        if unwound.end == UnwindEnd::NoRule(NoRule::Trampoline) {
            // It is nobody's call.
            addresses.pop();
        }
        Some((told, Stack { target: hit.target, addresses, end: unwound.end }))
    }

    /// A task by its type and id; `None` where its type is of no image that is watched.
    pub fn born(&self, target: TargetId, vtable: ProcAddr, task: TaskId) -> Option<Born> {
        self.births.born(target, vtable, task)
    }

    /// The same by the type's identity, in a process that is watched.
    pub(super) fn born_of_type(&self, pid: Pid, of: &TypeId, task: TaskId) -> Option<Born> {
        let target = self.catalog.of_process(pid)?;
        let mut images = self.catalog.target(target)?.images.iter();
        let mapped = images.find(|mapped| mapped.image.build_id == of.build_id)?;
        Some(Born { target, image: mapped.image.first_point, task })
    }

    /// What was seen of this task's spawn.
    pub fn of_task(&self, born: &Born) -> Option<&SpawnSeen> {
        self.births.of(born)
    }

    /// From the task's own spawn on: its spawner's, and so on, as far as they were seen.
    pub fn chain(&self, born: &Born) -> Vec<&SpawnSeen> {
        self.births.chain(born)
    }

    /// The calls of a stack, as addresses.
    pub fn stack(&self, id: StackId) -> Option<&Stack> {
        self.births.stack(id)
    }

    /// Where names of calls are looked for besides their images.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// A process under watch.
    pub(super) fn process(&self, target: TargetId) -> Option<Arc<Process>> {
        Some(Arc::clone(&self.targets.get(&target)?.process))
    }

    /// The calls of each of these stacks with their names, innermost first. Reads the images again, each once for all stacks: to be asked
    /// of what is shown.
    pub fn callers(&mut self, ids: &[StackId]) -> Vec<Vec<Caller>> {
        let mut found = vec![Vec::new(); ids.len()];
        for (id, target) in &mut self.targets {
            let stacks = ids.iter().enumerate().filter_map(|(n, stack)| Some((n, self.births.stack(*stack)?)));
            let own = stacks.filter(|(_, stack)| stack.target == *id);
            let (places, addresses): (Vec<usize>, Vec<&[ProcAddr]>) =
                own.map(|(n, stack)| (n, &stack.addresses[..])).unzip();
            for (n, callers) in places.into_iter().zip(target.code.callers_of(&addresses)) {
                found[n] = callers;
            }
        }
        found
    }

    /// Forgets the tasks of a target that were born before this moment and are not among those that live, nor led to one
    /// of them: to be said after each census, so that room is taken by what lives only.
    pub fn forget_ended(&mut self, target: TargetId, before: Ns, live: &HashSet<(ProcAddr, TaskId)>) {
        self.births.forget_ended(target, before, live);
    }

    /// Takes the probes out: what they have brought can still be taken.
    pub(super) fn take_out(&mut self) {
        drop(std::mem::take(&mut self.links));
    }

    /// What the kernel side has counted.
    pub(super) fn counters(&self) -> Result<Counters, SessionError> {
        Ok(self.probes.counters()?)
    }

    /// Figures so far.
    pub fn counts(&self) -> Result<SpawnCounts, SessionError> {
        let Counters { hits, lost, .. } = self.counters()?;
        Ok(SpawnCounts {
            hits,
            seen: self.seen,
            lost,
            malformed: self.malformed,
            untaught: self.untaught,
            kept: self.births.len() as u64,
            dropped: self.births.dropped(),
        })
    }

    /// How the probes are attached.
    pub fn mechanism(&self) -> attach::Mechanism {
        self.probes.mechanism()
    }

    /// The processes and their types, as the probes know them.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Spawns that will not be seen, and why.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// The rings, to wait for: one becomes readable when a quarter of it is unread.
    pub fn rings(&self) -> &[Ring] {
        self.probes.rings()
    }
}
