//! Probes that come and go: put in, told when to count, and taken out, with what they counted.
//!
//! A window is opened and shut in the kernel, by whom the programs are told to report: that takes a microsecond, while putting probes
//! in and taking them out takes milliseconds, in which a poll may be half seen. What begins in the window is counted, whole,
//! as long as it ends soon after. Does not know when windows are.

use std::collections::{HashMap, HashSet};

use crate::attach::{self, AttachError, Audience, Calls, Links, Mechanism, PollSums, Probes, Quiet};
use crate::decode::{CallParts, decode};
use crate::model::{Catalog, Cell, Ns, Observation, Pid, PointIndex, PollSum, QuickMap, Role, Seen, TaskId, TaskKey};
use crate::session::error::SessionError;
use crate::session::sampled::Whose;
use crate::session::setup::{Attachment, numbered};
use crate::session::verify::keep_verified;
use crate::target::{MemoryError, monotonic_now};

use super::tally::{Polls, Shown};
use super::watched::Watched;

/// What is put in, again and again.
pub(super) struct Planting {
    probes: Probes,
    sums: PollSums,
    catalog: Catalog,
    attachments: Vec<Attachment>,
    /// What each sum was when it was read last.
    read: QuickMap<TaskKey, PollSum>,
    pub(super) counts: Counts,
}

/// What went wrong, and what it took, so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Records that found no room, and entries that could not be remembered.
    pub(super) lost: u64,
    pub(super) malformed: u64,
    /// Hits of all probes, whether they counted or not.
    pub(super) hits: u64,
    /// Points that were left out because memory was not the file's there, at the last time.
    pub(super) differing: usize,
    /// From when probes began to be put in until all were out.
    pub(super) planted: Ns,
    /// How long it took each time to put them in, and to take them out.
    pub(super) attach: Vec<Ns>,
    pub(super) detach: Vec<Ns>,
}

/// Probes in their targets, until this is handed back or dropped.
pub(super) struct Planted {
    links: Vec<Links>,
    pids: Vec<Pid>,
    began: Ns,
    opened: HashMap<Pid, Ns>,
    shut: HashMap<Pid, Ns>,
}

/// What a window showed, by process, and how long it was there.
pub(super) type Window = HashMap<Pid, (Shown, Ns)>;

impl Planting {
    /// Loads the programs. Nothing is put in yet.
    pub(super) fn load(
        ring_pages: usize,
        catalog: Catalog,
        attachments: Vec<Attachment>,
    ) -> Result<Self, SessionError> {
        let options = attach::Options {
            mechanism: Some(Mechanism::UprobeMulti),
            ring_pages,
            audience: Audience::Listed,
            calls: Calls::Once,
            quiet: Quiet::Summed,
            ..attach::Options::default()
        };
        let probes = Probes::load(&options).map_err(|error| match error {
            AttachError::KernelCannot { source, .. } => SessionError::NoQuickProbes(source),
            other => other.into(),
        })?;
        let without = || AttachError::Object("its programs sum no polls up".to_owned());
        let sums = probes.poll_sums()?.ok_or_else(without)?;
        let (read, counts) = (QuickMap::default(), Counts::default());
        Ok(Self { probes, sums, catalog, attachments, read, counts })
    }

    /// Puts probes in wherever memory is the file's, which is looked at anew each time. Nothing is counted yet.
    pub(super) fn plant(&mut self, watched: &[Watched]) -> Result<Planted, SessionError> {
        let Self { probes, attachments, counts, .. } = self;
        let mut wanted = Vec::new();
        counts.differing = 0;
        for attachment in &*attachments {
            for runner in &attachment.runners {
                let Some(of) = watched.iter().find(|of| of.pid() == runner.pid) else { continue };
                let Some(bias) = of.bias_of(&attachment.image) else { continue };
                let mut points = attachment.image.points.clone();
                let verified = match keep_verified(&mut points, bias, &of.process.memory()) {
                    Ok(verified) => verified,
                    Err(MemoryError::Vanished { .. }) => continue,
                    Err(error) => return Err(SessionError::memory(runner.pid, error)),
                };
                counts.differing += verified.differing;
                let equal: HashSet<_> = points.iter().map(|point| point.at).collect();
                let points: Vec<_> =
                    numbered(&attachment.image).into_iter().filter(|(_, point)| equal.contains(&point.at)).collect();
                if !points.is_empty() {
                    wanted.push((runner.pid, attachment.request(runner, points)));
                }
            }
        }
        let began = monotonic_now();
        let (opened, shut) = (HashMap::new(), HashMap::new());
        let mut planted = Planted { links: Vec::new(), pids: Vec::new(), began, opened, shut };
        for (pid, request) in wanted {
            match probes.attach(std::slice::from_ref(&request)) {
                Ok(links) => planted.links.push(links),
                Err(AttachError::TargetGone { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
            if !planted.pids.contains(&pid) {
                planted.pids.push(pid);
            }
        }
        counts.attach.push(monotonic_now().since(began));
        Ok(planted)
    }

    /// From now on what begins is counted.
    pub(super) fn open(&mut self, planted: &mut Planted) -> Result<(), SessionError> {
        for pid in &planted.pids {
            planted.opened.insert(*pid, timed(|| self.probes.list(*pid))?);
        }
        Ok(())
    }

    /// What begins from now on is not counted; what has begun still is.
    pub(super) fn shut(&mut self, planted: &mut Planted) -> Result<(), SessionError> {
        for pid in &planted.pids {
            planted.shut.insert(*pid, timed(|| self.probes.finish(*pid))?);
        }
        Ok(())
    }

    /// Takes the records that there are, so that their rings do not run over.
    pub(super) fn drain(&mut self, watched: &mut [Watched], window: &mut Window, by_task: bool) {
        let Self { probes, catalog, counts, .. } = self;
        let mut calls = CallParts::default();
        let mut began: Option<Observation> = None;
        probes.drain(&mut |_, record| {
            calls.take_apart(record, &mut |one, other| {
                match decode(&[one, other].concat(), catalog) {
                    // Of an entry alone nobody sees the end: the programs had no room for it, and count it.
                    Ok(entered @ Observation { seen: Seen::Enter { .. }, .. }) => began = Some(entered),
                    Ok(Observation { at, seen: Seen::Leave { header: Some(_), .. }, .. }) => {
                        if let Some(entered) = began.take() {
                            let polls = Polls::one(at.since(entered.at), false);
                            count(watched, window, by_task, &entered, &polls);
                        }
                    }
                    // Of one that had begun before nothing is known but its end.
                    Ok(_) => began = None,
                    Err(_) => counts.malformed += 1,
                }
            });
        });
    }

    /// Whether everything that was to be counted is over.
    pub(super) fn is_over(&self) -> Result<bool, SessionError> {
        Ok(self.probes.amid()?.is_empty())
    }

    /// Takes in what was counted, and what still goes on as far as it has come; then takes the probes out.
    pub(super) fn harvest(
        &mut self,
        mut planted: Planted,
        watched: &mut [Watched],
        mut window: Window,
        by_task: bool,
    ) -> Result<Window, SessionError> {
        for pid in &planted.pids {
            self.probes.exclude(*pid)?;
        }
        let last = monotonic_now();
        self.drain(watched, &mut window, by_task);
        self.cut(last, watched, &mut window, by_task)?;
        self.sum_up(watched, &mut window, by_task)?;
        let counters = self.probes.counters()?;
        self.counts.lost = counters.lost + counters.entries_forgotten;
        self.counts.hits = counters.hits + counters.foreign;
        for (pid, opened) in planted.opened.drain() {
            let length = planted.shut.get(&pid).map_or(Ns(0), |shut| shut.since(opened));
            window.entry(pid).or_default().1 = length;
        }
        let detaching = monotonic_now();
        // Nobody is reported any more, so nothing depends on what goes first.
        Links::together(std::mem::take(&mut planted.links)).detach_at_once();
        let out = monotonic_now();
        self.counts.detach.push(out.since(detaching));
        self.counts.planted.0 += out.since(planted.began).0;
        for pid in &planted.pids {
            self.probes.begins_anew(*pid, out)?;
        }
        Ok(window)
    }

    /// Polls that have not ended yet.
    fn cut(
        &mut self,
        last: Ns,
        watched: &mut [Watched],
        window: &mut Window,
        by_task: bool,
    ) -> Result<(), SessionError> {
        let (mut calls, counts) = (CallParts::default(), &mut self.counts);
        for amid in self.probes.amid()? {
            calls.tell(amid.bytes(), true, &mut |one, other| match decode(&[one, other].concat(), &self.catalog) {
                Ok(entered) => {
                    let polls = Polls::one(last.since(entered.at), true);
                    count(watched, window, by_task, &entered, &polls);
                }
                Err(_) => counts.malformed += 1,
            });
        }
        Ok(())
    }

    /// What the programs have summed up since the last window. Tasks that were not polled in this one are forgotten there.
    fn sum_up(&mut self, watched: &mut [Watched], window: &mut Window, by_task: bool) -> Result<(), SessionError> {
        let failed = |source| SessionError::System { what: "read the sums of polls", source };
        let mut idle: Vec<TaskKey> = Vec::new();
        let (read, catalog) = (&mut self.read, &self.catalog);
        self.sums
            .each(&mut |key, sum| {
                let before = read.insert(key, *sum).unwrap_or_default();
                let new = sum.since(&before);
                if new.polls == 0 {
                    idle.push(key);
                    return;
                }
                let Some(of) = watched.iter_mut().find(|of| of.pid().0 == key.tgid) else { return };
                let vtables = of.types_at(PointIndex(key.point), catalog);
                let task = by_task.then_some(TaskId(key.id));
                window.entry(of.pid()).or_default().0.add(Whose { vtables, task }, &new.into());
            })
            .map_err(failed)?;
        for key in idle {
            self.read.remove(&key);
            self.sums.forget(key).map_err(failed)?;
        }
        Ok(())
    }

    /// A process has ended, or runs another program.
    pub(super) fn ended(&mut self, pid: Pid) -> Result<(), SessionError> {
        for attachment in &mut self.attachments {
            attachment.runners.retain(|runner| runner.pid != pid);
        }
        Ok(self.probes.forget(pid, monotonic_now())?)
    }

    pub(super) fn mechanism(&self) -> Mechanism {
        self.probes.mechanism()
    }
}

/// Counts a poll whose entry was seen so.
fn count(watched: &mut [Watched], window: &mut Window, by_task: bool, entered: &Observation, polls: &Polls) {
    let Seen::Enter { role: Role::Poll, cell, .. } = entered.seen else { return };
    let Some(of) = watched.iter().find(|of| of.target == entered.target) else { return };
    // What was not a task any more, or could not be read, is a poll all the same, of whom is not known.
    let whose = match cell {
        Cell::Task(words) => Whose { vtables: vec![words.vtable], task: by_task.then_some(words.id) },
        Cell::Unsaid | Cell::Foreign | Cell::Unreadable => Whose { vtables: Vec::new(), task: None },
    };
    window.entry(of.pid()).or_default().0.add(whose, polls);
}

/// When it was done: the moment between before and after.
fn timed(work: impl FnOnce() -> Result<(), AttachError>) -> Result<Ns, SessionError> {
    let before = monotonic_now();
    work()?;
    Ok(Ns(before.0 + monotonic_now().since(before).0 / 2))
}
