//! Programs, maps and rings of one session.
//!
//! Does not know where the probes sit: [`Links`] holds them.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use observer_common::{Counter, Quiet};

use super::desks::Desks;
use super::kernel::AttachedBy;
use super::kernel_log::KernelLog;
use super::kernel_maps;
use super::laps::Laps;
use super::links::Way;
use super::mechanism::{Trial, try_multi};
use super::object::{Calls, Object, Sessions, Spawners, Work};
use super::price::Price;
use super::tracefs::Tracefs;
use super::{AttachError, Audience, ImageRequest, Links, Mechanism, Rings};
use crate::model::{Pid, PointIndex, Program, Spot};
use crate::perf::{Ring, Source, online_cpus};

/// How to set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Only this mechanism; `None` takes the best that works here.
    pub mechanism: Option<Mechanism>,
    /// Pages of each CPU's ring, a power of two.
    pub ring_pages: usize,
    /// Whether the programs do their work.
    pub work: Work,
    /// Whose hits are reported.
    pub audience: Audience,
    /// Processes that can be listed or excluded at one moment.
    pub processes: u32,
    /// Calls in progress that can be remembered at one moment, where calls are reported once besides those on desks; what is beyond is
    /// counted as forgotten.
    pub in_progress: u32,
    /// Threads that have a desk for their calls and their records, rounded up to a power of two, where calls are reported once. Whoever is beyond does
    /// without, and pays more for each hit.
    pub desks: u32,
    /// When calls are reported.
    pub calls: Calls,
    /// How the moments of a call that is reported once are probed.
    pub sessions: Sessions,
    /// What becomes of polls after which the task goes on, where calls are reported once.
    pub quiet: Quiet,
    /// Whether ids can be reported with those who take them.
    pub spawners: Spawners,
    /// Whether it is measured what hits cost, see [`Probes::price`].
    pub priced: bool,
    /// Let the kernel side speak, see [`Probes::kernel_log`].
    pub kernel_log: bool,
}

impl Default for Options {
    /// The best mechanism, one megabyte (with 4 KiB pages) a CPU, links for one process each, a silent kernel side.
    fn default() -> Self {
        Self {
            mechanism: None,
            ring_pages: 256,
            work: Work::Report,
            audience: Audience::Linked,
            processes: 16_384,
            in_progress: 8192,
            desks: 1024,
            calls: Calls::Twice,
            sessions: Sessions::IfThere,
            quiet: Quiet::Reported,
            spawners: Spawners::Unseen,
            priced: true,
            kernel_log: false,
        }
    }
}

/// What one reading of the rings brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records handed over.
    pub records: u64,
    /// Records that the rings say they had no room for. They are part of [`Counters::lost`]: do not add the two.
    pub lost_in_ring: u64,
}

/// What the kernel side has counted since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records that could not be written, for whatever reason: no room, or no ring for that CPU.
    pub lost: u64,
    /// Probe hits of every kind, without foreign ones. `hits - records read - lost` are hits without a record (the event
    /// arm's mints, entries of calls that are reported once, polls that go unsaid) and records unread.
    pub hits: u64,
    /// Those of them at returns.
    pub returns: u64,
    /// Entries whose return will not know its header.
    pub entries_forgotten: u64,
    /// Hits by processes that are not to be reported.
    pub foreign: u64,
    /// Calls on another stack than that of the call which their thread was amid: nothing is reported of them.
    pub elsewhere: u64,
    /// How long parts of some hits took.
    pub laps: Laps,
}

/// The kernel side, loaded, with its rings open. Dropping it unloads what no [`Links`] holds any more.
pub struct Probes {
    object: Object,
    programs: HashMap<Program, OwnedFd>,
    way: Way,
    audience: Audience,
    rings: Rings,
    ring_pages: usize,
    log: Option<KernelLog>,
    price: Option<Price>,
    /// Hits of our own trial, which are nobody's business.
    own_hits: u64,
    own_foreign: u64,
    own_laps: Laps,
    /// Held for its drop.
    _trial: Links,
}

impl Probes {
    /// Loads maps and programs, finds out the mechanism and opens a ring for each CPU.
    pub fn load(options: &Options) -> Result<Self, AttachError> {
        let log = if options.kernel_log { Some(KernelLog::open()?) } else { None };
        let found = match options.mechanism {
            Some(Mechanism::Tracefs) => None,
            wanted => {
                let mut object = Object::load(options, Mechanism::UprobeMulti, log.as_ref())?;
                match try_multi(&object, options.priced)? {
                    Trial::Works { programs, sessions, links, price } if options.work == Work::Report => {
                        Some((object, programs, Way::Multi { sessions }, (links, price)))
                    }
                    Trial::Works { links, price, .. } => {
                        object.set_work(options.work);
                        let programs = object.load_programs(AttachedBy::Multi)?;
                        Some((object, programs, Way::Multi { sessions: false }, (links, price)))
                    }
                    Trial::Lacks(source) if wanted == Some(Mechanism::UprobeMulti) => {
                        return Err(AttachError::KernelCannot { what: "attach uprobe_multi links", source });
                    }
                    Trial::Lacks(_) => None,
                }
            }
        };
        let (object, programs, way, (trial, price)) = match found {
            Some(found) => found,
            None => {
                let tracefs = Tracefs::open()?;
                let mut object = Object::load(options, Mechanism::Tracefs, log.as_ref())?;
                object.set_work(options.work);
                let programs = object.load_programs(AttachedBy::PerfEvent)?;
                (object, programs, Way::Tracefs(Arc::new(tracefs)), (Links::default(), None))
            }
        };
        let (rings, ring_pages) = open_rings(&object, options.ring_pages)?;
        let (own_hits, own_foreign) = (object.counter(Counter::Hits)?, object.counter(Counter::Foreign)?);
        let own_laps = Laps::read(&object)?;
        let probes = Self {
            object,
            programs,
            way,
            audience: options.audience,
            rings: Rings::of(rings),
            ring_pages,
            log,
            price,
            own_hits,
            own_foreign,
            own_laps,
            _trial: trial,
        };
        if options.audience == Audience::NotExcluded {
            probes.exclude(Pid(std::process::id()))?;
        }
        Ok(probes)
    }

    /// How points are attached.
    pub fn mechanism(&self) -> Mechanism {
        match self.way {
            Way::Multi { .. } => Mechanism::UprobeMulti,
            Way::Tracefs(_) => Mechanism::Tracefs,
        }
    }

    /// When calls are reported.
    pub fn calls(&self) -> Calls {
        self.object.reports()
    }

    /// Whether one link is at both moments of a call.
    pub fn has_sessions(&self) -> bool {
        matches!(self.way, Way::Multi { sessions: true })
    }

    /// Attaches every point of every request, or none. Points that the kernel refuses for their place's sake are no
    /// error, see [`Links::refused`].
    ///
    /// Births come last, after all that can end a life; returns come before entries: a call that is seen entering is
    /// seen leaving, while a call that was entered in between leaves with its subject unknown.
    pub fn attach(&mut self, requests: &[ImageRequest<'_>]) -> Result<Links, AttachError> {
        Links::attach(&self.programs, &self.way, requests)
    }

    /// The rings, one a CPU that was online when they were opened, to wait for. One becomes readable when a quarter of it is
    /// unread; the rest is there without that, so drain by a timer, too.
    pub fn rings(&self) -> &[Ring] {
        self.rings.rings()
    }

    /// A ring for a CPU that has come online, for whoever empties the others. Until now its records were lost, and counted.
    pub fn ring_for(&self, cpu: u32) -> Result<Ring, AttachError> {
        let (mut rings, _) = Ring::open_each(Source::BpfOutput, &[cpu], self.ring_pages)?;
        let ring = rings.pop().ok_or_else(|| AttachError::refused("open a ring", io::ErrorKind::NotFound.into()))?;
        hand_over(&self.object, &ring)?;
        Ok(ring)
    }

    /// Gives the rings away, to be emptied by another thread: from now on there are none here.
    pub fn take_rings(&mut self) -> Rings {
        std::mem::take(&mut self.rings)
    }

    /// Size of each ring, pages: less than was asked for, if this user may not lock so much memory.
    pub fn ring_pages(&self) -> usize {
        self.ring_pages
    }

    /// Hands every record there is to `sink`, see [`Rings::drain`].
    pub fn drain(&mut self, sink: &mut dyn FnMut(u32, &[u8])) -> Drained {
        self.rings.drain(sink)
    }

    /// From now on, spawns at this point are reported with the memory that the word at this spot points to. Where records
    /// say addresses ([`Mechanism::says_addresses`]) no point is known at a hit, and this changes nothing.
    pub fn look_at(&mut self, point: PointIndex, spot: Spot) -> Result<(), AttachError> {
        kernel_maps::update(self.object.spots()?, point.0, spot.to_u64())
            .map_err(|source| AttachError::refused("tell the programs where to look", source))
    }

    /// What the kernel side has counted.
    pub fn counters(&self) -> Result<Counters, AttachError> {
        let (on_desks, returns_on_desks) = self.object.desks().map_or((0, 0), Desks::counted);
        let returns = self.object.counter(Counter::Returns)?;
        Ok(Counters {
            lost: self.object.counter(Counter::Lost)?,
            hits: self.object.counter(Counter::Hits)?.saturating_sub(self.own_hits) + returns + on_desks,
            returns: returns + returns_on_desks,
            entries_forgotten: self.object.counter(Counter::EntriesForgotten)?,
            foreign: self.object.counter(Counter::Foreign)?.saturating_sub(self.own_foreign),
            elsewhere: self.object.counter(Counter::Elsewhere)?,
            laps: Laps::read(&self.object)?.since(&self.own_laps),
        })
    }

    /// What hits cost a thread here, as it was measured on ourselves. `None` where it was not, or could not be.
    pub fn price(&self) -> Option<Price> {
        self.price
    }

    pub(super) fn audience(&self) -> Audience {
        self.audience
    }

    pub(super) fn object(&self) -> &Object {
        &self.object
    }

    /// What the kernel side had to say since the last call; nothing unless [`Options::kernel_log`] is set.
    pub fn kernel_log(&mut self) -> Vec<String> {
        self.log.as_mut().map_or_else(Vec::new, KernelLog::read)
    }
}

fn open_rings(object: &Object, pages: usize) -> Result<(Vec<Ring>, usize), AttachError> {
    let (rings, pages) = Ring::open_each(Source::BpfOutput, &online_cpus()?, pages)?;
    rings.iter().try_for_each(|ring| hand_over(object, ring))?;
    Ok((rings, pages))
}

/// The programs write to this ring from now on, on its CPU.
fn hand_over(object: &Object, ring: &Ring) -> Result<(), AttachError> {
    let fd = std::os::fd::AsRawFd::as_raw_fd(ring);
    kernel_maps::update(object.records()?, ring.cpu(), fd as u32)
        .map_err(|source: io::Error| AttachError::refused("hand a ring to the programs", source))
}
