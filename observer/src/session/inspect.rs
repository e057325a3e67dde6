//! A process that is only read: its task types, and its censuses one after the other. Nothing is attached.

use std::collections::HashMap;
use std::sync::Arc;

use crate::census::{Bounds, CellTypes, Census, Doubt, High, How, ImageSpan, Series, Unlisted, Waits, location};
use crate::model::{
    Bias, EventSet, ImageFacts, LiveTask, MappedImage, Ns, Pid, Place, ProcAddr, Site, TargetEntry, TaskType, VirtAddr,
};
use crate::sink::{CensusReport, FuturesCount, SiteOf};
use crate::target::{MemoryError, Process, own_memory};
use crate::unwind::Poll;
use crate::verdict::{History, Reading, SiteCount, WaitCount, count_by_site, count_waits};

use super::budget::Bound;
use super::candidate::{Candidate, Use};
use super::error::{SessionError, Unsupported};
use super::images::{Images, entry_of};
use super::pace::{Interrupted, Pace};
use super::setup::poll;

/// One process under inspection.
pub(super) struct Inspected {
    pub(super) process: Arc<Process>,
    pub(super) entry: TargetEntry,
    pub(super) history: History,
    /// Of the latest reading.
    pub(super) tasks: Vec<LiveTask>,
    /// `None` while it is at work, and after it was given up.
    series: Option<Series>,
    types: Arc<CellTypes>,
    images: Arc<Vec<ImageSpan>>,
    spawned_at: HashMap<ProcAddr, Option<Place>>,
}

/// What one census cost and found.
pub(super) struct Taken {
    pub(super) at: Ns,
    pub(super) began: Ns,
    live: u64,
    bounds: Bounds,
    how: How,
    why_scanned: Option<Doubt>,
    closures: bool,
    bytes: u64,
    took: Ns,
    doubt: Option<String>,
}

impl Inspected {
    /// Looks at the process's images. `window` is how many readings are judged together.
    pub(super) fn open(process: Arc<Process>, images: &mut Images<'_>, window: usize) -> Result<Self, SessionError> {
        let LookedAt { entry, spans, .. } = look_at(&process, images)?;
        let types = CellTypes::of_target(&entry);
        let series = Some(Series::new(Arc::clone(&process), types.clone(), entry.counters()));
        let (types, images) = (Arc::new(types), Arc::new(spans));
        let (tasks, spawned_at) = (Vec::new(), HashMap::new());
        Ok(Self { process, entry, history: History::new(window), tasks, series, types, images, spawned_at })
    }

    pub(super) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Reads the tasks once more.
    pub(super) async fn read(
        &mut self,
        pace: &mut Pace,
        bound: Bound,
    ) -> Result<Result<Taken, SessionError>, Interrupted> {
        let pid = self.pid();
        // What was given up in the middle is begun anew.
        let begin = || Series::new(Arc::clone(&self.process), (*self.types).clone(), self.entry.counters());
        let mut series = self.series.take().unwrap_or_else(begin);
        // What cannot be read binds nothing: it is this program's own file.
        series.allow(bound.allowance(own_memory().unwrap_or_default(), 1));
        let (mut series, taken) = match pace.work(move || (series.take(), series)).await? {
            Ok((taken, series)) => (series, taken),
            Err(error) => return Ok(Err(error)),
        };
        let doubt = series.doubt();
        let census = match taken {
            Ok(census) => census,
            Err(error) => return Ok(Err(SessionError::census(pid, error))),
        };
        self.locate(&census.tasks);
        let complete = census.unread.is_empty() && !census.truncated;
        let closures = census.unlisted == Unlisted::Searched;
        let reading = Reading { at: census.ended, tasks: &census.tasks, complete, closures };
        self.history.add(&reading);
        let taken = Taken {
            at: census.ended,
            began: census.started,
            live: census.tasks.iter().filter(|task| !task.state.is_complete()).count() as u64,
            bounds: census.bounds,
            how: census.how,
            why_scanned: doubt,
            closures,
            bytes: census.bytes_read,
            took: census.ended.since(census.started),
            doubt: incomplete(&census),
        };
        series.reuse(std::mem::replace(&mut self.tasks, census.tasks));
        if own_memory().is_some_and(|resident| bound.is_short(resident)) {
            series.forget();
        }
        self.series = Some(series);
        Ok(Ok(taken))
    }

    /// Looks for what the idle ones among the tasks of the latest reading wait for.
    pub(super) async fn waits(&self, pace: &mut Pace) -> Result<Result<Waits, SessionError>, Interrupted> {
        let (process, types, images) = (Arc::clone(&self.process), Arc::clone(&self.types), Arc::clone(&self.images));
        let (tasks, pid) = (self.tasks.clone(), self.pid());
        let found = pace.work(move || Waits::find(&process, &types, &tasks, &images)).await?;
        Ok(found.and_then(|found| found.map_err(|error| SessionError::census(pid, error))))
    }

    /// What a site's tasks wait for, by kind.
    pub(super) fn waits_of(&self, site: Site, waits: &Waits) -> Vec<WaitCount> {
        let tasks = self.tasks.iter().filter(|task| Site::of(task) == site);
        count_waits(tasks.map(|task| waits.of(task)))
    }

    /// The tasks of the latest reading by site.
    pub(super) fn counts(&self) -> Vec<SiteCount> {
        count_by_site(&self.tasks, |task| self.history.is_stuck(task))
    }

    /// How old the process was at the first of the readings that are judged, where the kernel tells.
    pub(super) fn age_at_first(&self) -> Option<Ns> {
        Some(Ns(self.process.age()?.0.saturating_sub(self.history.during().0)))
    }

    /// The site as it is named; `None` for a type that the images do not hold.
    pub(super) fn site(&self, site: Site) -> Option<SiteOf<'_>> {
        let entry = self.entry.type_at(site.vtable)?;
        let spawned_at = site.spawned_at.and_then(|at| self.spawned_at.get(&at)?.as_ref());
        let TargetEntry { pid, exe, enclosure, .. } = &self.entry;
        Some(SiteOf { pid: *pid, exe, enclosure, entry, spawned_at })
    }

    pub(super) fn report<'a>(&'a self, taken: &'a Taken) -> CensusReport<'a> {
        CensusReport {
            at: taken.at,
            pid: self.entry.pid,
            exe: &self.entry.exe,
            enclosure: &self.entry.enclosure,
            live: taken.live,
            futures: FuturesCount {
                at: taken.bounds.at,
                low: taken.bounds.low,
                high: match taken.bounds.high {
                    High::AtMost(high) => Some(high),
                    High::Unknown(_) => None,
                },
            },
            how: match taken.how {
                How::Scan => "scan",
                How::Walk => "walk",
            },
            why_scanned: taken.why_scanned.map(Doubt::as_str),
            closures: taken.closures,
            bytes: taken.bytes,
            took: taken.took,
            doubt: taken.doubt.as_deref(),
        }
    }

    fn locate(&mut self, tasks: &[LiveTask]) {
        let memory = self.process.memory();
        for at in tasks.iter().filter_map(|task| task.spawn_location) {
            self.spawned_at.entry(at).or_insert_with(|| location(&memory, at));
        }
    }
}

/// A process as its images tell of it, for who only reads it.
pub(super) struct LookedAt {
    pub(super) entry: TargetEntry,
    /// Its images with a runtime.
    pub(super) spans: Vec<ImageSpan>,
    /// Where its tasks' polls are.
    pub(super) polls: Vec<Poll>,
}

/// Looks at the process's images.
pub(super) fn look_at(process: &Process, images: &mut Images<'_>) -> Result<LookedAt, SessionError> {
    let mut polls = Vec::new();
    let mut candidate = Candidate::of(process, images)?;
    let spans: Vec<ImageSpan> = candidate.uses.iter().map(|used| ImageSpan::of(&used.module)).collect();
    for Use { module, facts, bias } in std::mem::take(&mut candidate.uses) {
        let there =
            standing(process, &facts.types, bias).map_err(|error| SessionError::memory(process.pid(), error))?;
        if there.is_empty() {
            let reason = "none of its task types stands in memory as in the file".to_owned();
            candidate.refused.push(Unsupported::Unverified { path: module.path, reason });
            continue;
        }
        let image = match there.len() == facts.types.len() {
            true => images.shared(module.file, &facts),
            // Something else is mapped over a part of it in this process.
            false => Arc::new(entry_of(&ImageFacts { types: there, ..(*facts).clone() }, Vec::new(), EventSet::NONE)),
        };
        polls.extend(facts.polls.iter().map(|body| poll(body, bias)));
        candidate.entry.images.push(MappedImage { image, path: module.path, bias });
    }
    let entry = candidate.into_entry()?;
    Ok(LookedAt { entry, spans, polls })
}

/// The types whose vtable begins with their poll in memory, too.
fn standing(process: &Process, types: &[TaskType], bias: Bias) -> Result<Vec<TaskType>, MemoryError> {
    let addresses: Vec<ProcAddr> = types.iter().map(|task| bias.to_process(task.vtable)).collect();
    let mut there = Vec::with_capacity(types.len());
    process.memory().read_each(&addresses, 8, |index, bytes| {
        let poll = bytes.and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes);
        let same = |poll| bias.to_virtual(ProcAddr(poll)) == VirtAddr(types[index].functions.poll.0);
        if poll.is_some_and(same) {
            there.push(types[index].clone());
        }
    })?;
    Ok(there)
}

/// Why there may be more tasks than were found.
fn incomplete(census: &Census) -> Option<String> {
    let unread: u64 = census.unread.iter().map(|range| range.len()).sum();
    if census.truncated {
        Some("there are more tasks than one census takes in (--max-memory, and 512 MiB at most)".to_owned())
    } else if unread > 0 {
        Some(format!("{} KiB of memory could not be read; tasks in it are missing", unread >> 10))
    } else {
        None
    }
}
