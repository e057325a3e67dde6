//! Tries everything that attaching needs, one by one, on this process: each outcome is known, not only the first refusal.
//!
//! Does not know what follows from a refusal.

use std::collections::HashMap;
use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use observer_common::Counter;

use super::filtered::{Fate, Filtered};
use super::kernel::AttachedBy;
use super::links::{Links, Way};
use super::mechanism::{Trial, own_file, try_multi};
use super::object::{Object, Spawners};
use super::price::{Price, price_of_stepping};
use super::sites::{ImageRequest, Scope};
use super::tracefs::Tracefs;
use super::{AttachError, Mechanism, Options};
use crate::model::{AttachPoint, Cost, MintRegister, Pid, PointIndex, Program, Role, VirtAddr};
use crate::perf::{Ring, Sampling, Source, online_cpus};

/// The outcome of one trial.
#[derive(Debug)]
pub enum Tried<T = ()> {
    /// It works; what it showed.
    Works(T),
    /// It does not.
    Fails(AttachError),
    /// It cannot be tried, because something before it failed.
    Blocked,
    /// It need not be tried: what is better works.
    NotNeeded,
}

/// What happened to a process with a seccomp filter at a return probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderFilter {
    /// It went on.
    Lives,
    /// The filter ended it: this kernel lets filters judge the system call of its own return probes.
    Killed,
}

/// All that was tried.
#[derive(Debug)]
pub struct Trials {
    /// Creating every map of the kernel side.
    pub maps: Tried,
    /// Loading every program of it, for one mechanism or the other.
    pub programs: Tried,
    /// A ring for each CPU, in this size; works with what fits, pages.
    pub rings: Tried<usize>,
    /// A uprobe_multi link, hit by another thread than the first.
    pub multi: Tried,
    /// A trace event, hit. Needed only where the link does not work.
    pub events: Tried,
    /// A return probe in a process with a seccomp filter.
    pub filtered: Tried<UnderFilter>,
    /// An event of every process on one CPU: how processes are followed as they come and go.
    pub following: Tried,
    /// What hits cost here, where that could be measured.
    pub prices: Option<Prices>,
    /// An event of whoever runs on one CPU, with registers and stack: how programs are sampled.
    pub sampling: Tried,
}

/// What hits cost a thread here, by the instruction that the breakpoint is on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// On one that the kernel emulates.
    pub price: Price,
    /// On one that it single-steps, if the program does nothing, nanoseconds.
    pub stepped: f64,
}

impl Trials {
    /// Tries, with rings of this size and samples like these. Leaves nothing behind.
    pub fn make(ring_pages: usize, sampling: Sampling) -> Self {
        let rings = match rings(ring_pages) {
            Ok(pages) => Tried::Works(pages),
            Err(error) => Tried::Fails(error),
        };
        let opened = |source| Tried::of(Ring::open(source, 0, 1).map(drop).map_err(AttachError::from));
        let (following, sampling) = (opened(Source::SideBand), opened(Source::Running(sampling)));
        let blocked = |maps| Self {
            maps,
            programs: Tried::Blocked,
            rings: Tried::Blocked,
            multi: Tried::Blocked,
            events: Tried::Blocked,
            filtered: Tried::Blocked,
            following: Tried::Blocked,
            prices: None,
            sampling: Tried::Blocked,
        };
        let tried = match Object::load(
            &Options { spawners: Spawners::Reported, ..Options::default() },
            Mechanism::UprobeMulti,
            None,
        ) {
            Ok(object) => Self { maps: Tried::Works(()), ..programs(object, blocked(Tried::Blocked)) },
            Err(error) => blocked(Tried::Fails(error)),
        };
        Self { rings, following, sampling, ..tried }
    }

    /// How probes would be attached, if they can be.
    pub fn mechanism(&self) -> Option<Mechanism> {
        let rest = [&self.maps, &self.programs].into_iter().all(Tried::works) && self.rings.works();
        match (rest, self.multi.works(), self.events.works()) {
            (true, true, _) => Some(Mechanism::UprobeMulti),
            (true, false, true) => Some(Mechanism::Tracefs),
            _ => None,
        }
    }
}

impl<T> Tried<T> {
    fn of(result: Result<T, AttachError>) -> Self {
        result.map_or_else(Self::Fails, Self::Works)
    }

    /// Whether it does.
    pub fn works(&self) -> bool {
        matches!(self, Self::Works(_))
    }
}

/// What needs maps: programs, and both ways of attaching them.
fn programs(object: Object, none: Trials) -> Trials {
    let multi = match try_multi(&object, true) {
        Ok(Trial::Works { programs, price, .. }) => {
            // What is not measured is not said: nothing hangs on it.
            let stepped = price_of_stepping(&object).ok();
            return Trials {
                prices: price.zip(stepped).map(|(price, stepped)| Prices { price, stepped }),
                programs: Tried::Works(()),
                multi: Tried::Works(()),
                events: Tried::NotNeeded,
                filtered: Tried::of(under_filter(programs, &Way::Multi { sessions: false })),
                ..none
            };
        }
        Ok(Trial::Lacks(source)) => {
            Tried::Fails(AttachError::KernelCannot { what: "attach uprobe_multi links", source })
        }
        Err(error) => Tried::Fails(error),
    };
    if let Err(error) = object.load_programs(AttachedBy::PerfEvent) {
        return Trials { programs: Tried::Fails(error), ..none };
    }
    // It has maps of its own: they are of another size.
    drop(object);
    let (events, filtered) = match events() {
        Ok(filtered) => (Tried::Works(()), Tried::of(filtered)),
        Err(error) => (Tried::Fails(error), Tried::Blocked),
    };
    Trials { programs: Tried::Works(()), multi, events, filtered, ..none }
}

/// Opens all rings, in ever smaller sizes until they fit.
fn rings(pages: usize) -> Result<usize, AttachError> {
    Ok(Ring::open_each(Source::BpfOutput, &online_cpus()?, pages)?.1)
}

/// A trace event on ourselves; where that is hit, what comes of one at returns under a filter.
fn events() -> Result<Result<UnderFilter, AttachError>, AttachError> {
    let way = Way::Tracefs(Arc::new(Tracefs::open()?));
    let object = Object::load(&Options::default(), Mechanism::Tracefs, None)?;
    let programs = object.load_programs(AttachedBy::PerfEvent)?;
    let own = own_file("/proc/self/exe", stepped_on as *const () as usize)?;
    let point = AttachPoint { register: Some(MintRegister(0)), ..point(Role::Mint, own.offset) };
    let before = object.counter(Counter::Hits)?;
    let request = request(std::process::id(), &point, own.path);
    let links = Links::attach(&programs, &way, &[request])?;
    refused(&links)?;
    stepped_on(1);
    match object.counter(Counter::Hits)? {
        after if after > before => Ok(under_filter(programs, &way)),
        _ => Err(cannot(libc::ENODEV)),
    }
}

/// A return probe in a child with a filter.
fn under_filter(mut programs: HashMap<Program, OwnedFd>, way: &Way) -> Result<UnderFilter, AttachError> {
    let failed = |source| AttachError::System { what: "start a child with a seccomp filter", source };
    // Without the entry's program: there is no header to be read.
    programs.retain(|program, _| *program == Program::Leave);
    let child = Filtered::start(step).map_err(failed)?;
    let own = own_file("/proc/self/exe", stepped_on as *const () as usize)?;
    let point = point(Role::Poll, own.offset);
    let links = Links::attach(&programs, way, &[request(child.pid(), &point, own.path)])?;
    refused(&links)?;
    match child.finish().map_err(failed)? {
        Fate::Ended => Ok(UnderFilter::Lives),
        Fate::Killed => Ok(UnderFilter::Killed),
    }
}

fn refused(links: &Links) -> Result<(), AttachError> {
    match links.refused() {
        [] => Ok(()),
        [refused, ..] => Err(cannot(refused.reason.raw_os_error().unwrap_or(libc::EINVAL))),
    }
}

fn cannot(errno: i32) -> AttachError {
    AttachError::KernelCannot { what: "attach probes", source: io::Error::from_raw_os_error(errno) }
}

fn request<'a>(pid: u32, point: &'a AttachPoint, path: &'static str) -> ImageRequest<'a> {
    let scope = Scope::Process { pid: Pid(pid), target: 0 };
    ImageRequest { scope, path: Path::new(path), points: vec![(PointIndex(0), point)] }
}

fn point(role: Role, offset: crate::model::FileOffset) -> AttachPoint {
    AttachPoint {
        role,
        at: VirtAddr(0),
        offset,
        bytes: Vec::new(),
        cost: Cost::Emulated,
        vtable: None,
        register: None,
        far: 0,
        telling: 0,
    }
}

/// The function that the trials of this file probe. Not that of the mechanism's trial, or the linker might fold both into one.
#[inline(never)]
extern "C" fn stepped_on(n: u64) -> u64 {
    black_box(n).wrapping_mul(3)
}

/// What the child with a filter does.
fn step() {
    black_box(stepped_on(1));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::tests::live;

    #[test]
    fn as_root_on_this_kernel_everything_works_and_nothing_is_left_behind() {
        let Some(_alone) = live() else { return };
        let trials = Trials::make(8, Sampling { period: 10_000_000, stack: 1 << 12 });
        assert!(trials.mechanism().is_some(), "{trials:?}");
        assert!(trials.following.works(), "{trials:?}");
        assert!(matches!(trials.rings, Tried::Works(8)), "{trials:?}");
        if trials.multi.works() {
            assert!(trials.filtered.works(), "{trials:?}");
        }
    }

    #[test]
    fn a_trace_event_is_tried_where_there_is_no_better_way() {
        let Some(_alone) = live() else { return };
        events().unwrap().unwrap();
    }
}
