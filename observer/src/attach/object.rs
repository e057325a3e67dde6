//! The embedded kernel object: parsed by aya-obj, its maps created by aya.
//!
//! Does not know: its programs.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::maps::{Map, MapData, PerCpuArray};
use aya_obj::EbpfSectionKind;
use observer_common::{Counter, Quiet};

use super::desks::Desks;
use super::error::chain;
use super::kernel_log::KernelLog;
use super::{AttachError, Mechanism, Options, kernel_maps};

pub(super) static BYTES: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/observer.bpf.o"));

/// Names the kernel side gives to what this side must find.
const RECORDS: &str = "RECORDS";
const PRICED: &str = "PRICED";
const SCRATCH: &str = "SCRATCH";
const SPOTS: &str = "SPOTS";
const COUNTERS: &str = "COUNTERS";
const ENTERED: &str = "ENTERED";
const CALLS: &str = "CALLS";
const POLLED: &str = "POLLED";
const PROCESSES: &str = "PROCESSES";
const AUDIENCE: &str = "AUDIENCE";
const BY_ADDRESS: &str = "BY_ADDRESS";
const QUIET: &str = "QUIET";
const GOVERNED: &str = "GOVERNED";
const MINTED: &str = "MINTED";
const SIGNS: &str = "SIGNS";
const DESKS: &str = "DESKS";
const DESK_COUNT: &str = "DESK_COUNT";
const LOG: &str = "AYA_LOGS";
const LOG_LEVEL: &str = "AYA_LOG_LEVEL";
/// The most talkative level, which lets everything through.
const LOG_ALL: u8 = u8::MAX;
/// Below every level; the verifier then cuts the logging out of the programs.
const LOG_NOTHING: u8 = 0;

/// The object, with its maps.
pub(super) struct Object {
    /// As it was parsed, with nothing bound yet.
    pub(super) parsed: aya_obj::Object,
    pub(super) maps: HashMap<String, Created>,
    /// `None` where nobody has one.
    desks: Option<Desks>,
    counters: PerCpuArray<MapData, u64>,
    pub(super) work: Work,
    pub(super) calls: Calls,
    quiet: Quiet,
    pub(super) sessions: Sessions,
    pub(super) spawners: Spawners,
}

/// A map in the kernel, and what the object says of it.
pub(super) struct Created {
    data: MapData,
    pub(super) declared: aya_obj::Map,
}

impl Created {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.data.fd().as_fd()
    }
}

/// Whether the programs at the points do their work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Work {
    /// They report.
    #[default]
    Report,
    /// They do nothing: to measure what the hits alone cost.
    Nothing,
}

/// When a call is reported that has an entry and a return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calls {
    /// Its entry and its return, each when it happens.
    #[default]
    Twice,
    /// Both at its return, which costs the target less. Those that have not returned are found among
    /// [`Probes::amid`](super::Probes::amid). Where records say addresses
    /// ([`Mechanism::says_addresses`](super::Mechanism::says_addresses)) they are reported twice all the same.
    Once,
}

/// How the two moments of a call that is reported once are probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sessions {
    /// By one link and one program, where the kernel has such links (sessions, since Linux 6.13): a hit less to be asked about.
    #[default]
    IfThere,
    /// By two links.
    Never,
}

/// Whether ids can be reported with those who take them: a program of its own, and memory to put its records together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spawners {
    /// Points of [`Role::Spawn`](crate::model::Role::Spawn) are not attached.
    #[default]
    Unseen,
    /// They are.
    Reported,
}

impl Object {
    /// Creates the maps; what the programs say in words goes to `log`, if that is wanted.
    pub(super) fn load(options: &Options, mechanism: Mechanism, log: Option<&KernelLog>) -> Result<Self, AttachError> {
        let kept = |source| AttachError::System { what: "keep a map", source };
        let mut parsed = aya_obj::Object::parse(BYTES).map_err(|e| broken(&e))?;
        let level = if log.is_some() { LOG_ALL } else { LOG_NOTHING };
        let by_address = u8::from(mechanism == Mechanism::Tracefs);
        let calls = if mechanism.says_addresses() { Calls::Twice } else { options.calls };
        let quiet = if calls == Calls::Once { options.quiet } else { Quiet::Reported };
        let audience = [options.audience as u8];
        let desk_count = if calls == Calls::Once { options.desks.next_power_of_two() } else { 0 };
        let constants =
            [(LOG_LEVEL, [level]), (AUDIENCE, audience), (BY_ADDRESS, [by_address]), (QUIET, [quiet as u8])];
        let constants = constants.each_ref().map(|(name, byte)| (*name, (&byte[..], true)));
        let count = desk_count.to_ne_bytes();
        let constants = constants.into_iter().chain([(DESK_COUNT, (&count[..], true))]);
        parsed.patch_map_data(constants.collect::<HashMap<_, _>>()).map_err(|e| broken(&e))?;
        let mut maps = HashMap::new();
        for (name, mut declared) in parsed.maps.drain() {
            match name.as_str() {
                PROCESSES => declared.set_max_entries(options.processes),
                // Of the two ways one is not gone.
                CALLS | ENTERED => {
                    let used = (name == CALLS) == (calls == Calls::Once);
                    declared.set_max_entries(if used { options.in_progress } else { 1 });
                }
                SIGNS | DESKS => declared.set_max_entries(desk_count.max(1)),
                POLLED if !matches!(quiet, Quiet::Summed | Quiet::Governed) => declared.set_max_entries(1),
                SCRATCH if options.spawners == Spawners::Unseen => declared.set_max_entries(1),
                _ => {}
            }
            let data = match log.filter(|_| name == LOG) {
                Some(log) => MapData::from_fd(log.ring().map_err(kept)?)?,
                None => create(&name, &declared)?,
            };
            maps.insert(name, Created { data, declared });
        }
        let desks = match desk_count {
            0 => None,
            count => Some(Desks::map(map(&maps, SIGNS)?.as_fd(), map(&maps, DESKS)?.as_fd(), count)),
        };
        let desks = desks.transpose().map_err(|source| AttachError::System { what: "map the desks", source })?;
        let counters = map(&maps, COUNTERS)?.as_fd().try_clone_to_owned().map_err(kept)?;
        let counters = PerCpuArray::try_from(Map::PerCpuArray(MapData::from_fd(counters)?))?;
        let Options { sessions, spawners, .. } = *options;
        Ok(Self { parsed, maps, desks, counters, work: Work::Report, calls, quiet, sessions, spawners })
    }

    /// What is loaded from now on.
    pub(super) fn set_work(&mut self, work: Work) {
        self.work = work;
    }

    /// The perf event array that programs write their records to.
    pub(super) fn records(&self) -> Result<BorrowedFd<'_>, AttachError> {
        self.map(RECORDS)
    }

    /// The perf event array that records for pricing go to.
    pub(super) fn priced(&self) -> Result<BorrowedFd<'_>, AttachError> {
        self.map(PRICED)
    }

    /// Where births look for their spawners' headers.
    pub(super) fn spots(&self) -> Result<BorrowedFd<'_>, AttachError> {
        self.map(SPOTS)
    }

    /// What is said of processes.
    pub(super) fn processes(&self) -> Result<BorrowedFd<'_>, AttachError> {
        self.map(PROCESSES)
    }

    /// When calls are reported.
    pub(super) fn reports(&self) -> Calls {
        self.calls
    }

    /// What becomes of polls after which the task goes on.
    pub(super) fn quiet(&self) -> Quiet {
        self.quiet
    }

    /// Calls in progress that are reported twice.
    pub(super) fn calls(&self) -> Result<BorrowedFd<'_>, AttachError> {
        self.map(ENTERED)
    }

    /// Threads' desks, where they have some: calls that are reported once, and records that wait to be sent.
    pub(super) fn desks(&self) -> Option<&Desks> {
        self.desks.as_ref()
    }

    /// Calls that are reported once and have no place on a desk.
    pub(super) fn passing(&self) -> Result<BorrowedFd<'_>, AttachError> {
        self.map(CALLS)
    }

    /// Polls that are summed up.
    pub(super) fn polled(&self) -> Result<BorrowedFd<'_>, AttachError> {
        self.map(POLLED)
    }

    /// What becomes of quiet polls for now, where that is governed.
    pub(super) fn governed(&self) -> Result<BorrowedFd<'_>, AttachError> {
        self.map(GOVERNED)
    }

    /// Ids that were taken and wait for their births.
    pub(super) fn minted(&self) -> Result<BorrowedFd<'_>, AttachError> {
        self.map(MINTED)
    }

    fn map(&self, name: &str) -> Result<BorrowedFd<'_>, AttachError> {
        Ok(map(&self.maps, name)?.as_fd())
    }

    /// One counter, over all CPUs.
    pub(super) fn counter(&self, counter: Counter) -> Result<u64, AttachError> {
        let each = self.counters.get(&(counter as u32), 0)?;
        Ok(each.iter().sum())
    }
}

pub(super) fn broken(error: &dyn std::error::Error) -> AttachError {
    AttachError::Object(chain(error))
}

fn map<'a>(maps: &'a HashMap<String, Created>, name: &str) -> Result<&'a Created, AttachError> {
    maps.get(name).ok_or_else(|| AttachError::Object(format!("no map {name}")))
}

/// Creates a map with what the object puts into it. Constants are a map, too: frozen, so that the verifier can rely on them.
fn create(name: &str, declared: &aya_obj::Map) -> Result<MapData, AttachError> {
    let failed = |source| AttachError::refused("create the maps", source);
    let map = MapData::create(declared.clone(), name, None)?;
    if !declared.data().is_empty() {
        kernel_maps::fill(map.fd().as_fd(), declared.data()).map_err(failed)?;
    }
    if declared.section_kind() == EbpfSectionKind::Rodata {
        kernel_maps::freeze(map.fd().as_fd()).map_err(failed)?;
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_names_no_path_of_the_machine_that_built_it() {
        let text = String::from_utf8_lossy(BYTES);
        for part in ["/.cargo/", "/registry/src/", "/home/", "/root/", concat!(env!("CARGO_MANIFEST_DIR"), "/")] {
            assert!(!text.contains(part), "{part}");
        }
        assert!(text.contains("async-observer/observer-ebpf/src/call.rs"));
    }
}
