//! The embedded kernel object: its maps through aya, its programs either way.
//!
//! aya 0.14 cannot load a program for uprobe_multi (it has no say over the expected attach type), so for that mechanism
//! the same bytes are parsed a second time with aya-obj and bound to the maps that aya created.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use aya::maps::{Map, MapData, PerCpuArray};
use aya::programs::{ProgramError, UProbe};
use aya::{Ebpf, EbpfLoader};
use observer_common::Counter;

use super::error::chain;
use super::{AttachError, Options, kernel};
use crate::model::Program;

static BYTES: &[u8] = aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/observer.bpf.o"));

/// Names the kernel side gives to what this side must find.
const RECORDS: &str = "RECORDS";
const SCRATCH: &str = "SCRATCH";
const SPOTS: &str = "SPOTS";
const COUNTERS: &str = "COUNTERS";
const ENTERED: &str = "ENTERED";
const PROCESSES: &str = "PROCESSES";
const AUDIENCE: &str = "AUDIENCE";
const LOG_LEVEL: &str = "AYA_LOG_LEVEL";
/// The most talkative level, which lets everything through.
const LOG_ALL: u8 = u8::MAX;
/// Below every level; the verifier then cuts the logging out of the programs.
const LOG_NOTHING: u8 = 0;

/// The object, loaded.
pub(super) struct Object {
    ebpf: Ebpf,
    /// Descriptors of the maps in `ebpf`, by name. Taken before any map is taken out of it: aya-obj would bind the
    /// programs to the wrong ones afterwards.
    maps: HashMap<String, RawFd>,
    work: Work,
    spawners: Spawners,
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
    /// Creates the maps.
    pub(super) fn load(options: &Options) -> Result<Self, AttachError> {
        let spawners = options.spawners;
        let level = if options.kernel_log { LOG_ALL } else { LOG_NOTHING };
        let audience = options.audience as u8;
        let mut loader = EbpfLoader::new();
        // Constants are a map, too: programs loaded the other way are bound to the same.
        loader.btf(None).override_global(LOG_LEVEL, &level, true).override_global(AUDIENCE, &audience, true);
        loader.map_max_entries(PROCESSES, options.processes).map_max_entries(ENTERED, options.calls);
        if spawners == Spawners::Unseen {
            loader.map_max_entries(SCRATCH, 1);
        }
        let ebpf = loader.load(BYTES)?;
        let maps = ebpf.maps().filter_map(|(name, map)| Some((name.to_owned(), descriptor(map)?))).collect();
        Ok(Self { ebpf, maps, work: Work::Report, spawners })
    }

    /// What is loaded from now on.
    pub(super) fn set_work(&mut self, work: Work) {
        self.work = work;
    }

    /// The whole, for aya's logger.
    pub(super) fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// The perf event array that programs write their records to.
    pub(super) fn records(&self) -> Result<BorrowedFd<'_>, AttachError> {
        match self.ebpf.map(RECORDS) {
            Some(Map::PerfEventArray(map)) => Ok(map.fd().as_fd()),
            _ => Err(AttachError::Object(format!("no perf event array {RECORDS}"))),
        }
    }

    /// Where births look for their spawners' headers.
    pub(super) fn spots(&self) -> Result<BorrowedFd<'_>, AttachError> {
        self.hash_map(SPOTS)
    }

    /// What is said of processes.
    pub(super) fn processes(&self) -> Result<BorrowedFd<'_>, AttachError> {
        self.hash_map(PROCESSES)
    }

    /// Calls in progress.
    pub(super) fn calls(&self) -> Result<BorrowedFd<'_>, AttachError> {
        self.hash_map(ENTERED)
    }

    fn hash_map(&self, name: &str) -> Result<BorrowedFd<'_>, AttachError> {
        match self.ebpf.map(name) {
            Some(Map::HashMap(map)) => Ok(map.fd().as_fd()),
            _ => Err(AttachError::Object(format!("no map {name}"))),
        }
    }

    /// One counter, over all CPUs.
    pub(super) fn counter(&self, counter: Counter) -> Result<u64, AttachError> {
        let map = self.ebpf.map(COUNTERS).ok_or_else(|| AttachError::Object(format!("no map {COUNTERS}")))?;
        let counters = PerCpuArray::<&MapData, u64>::try_from(map).map_err(|e| AttachError::Object(chain(&e)))?;
        let each = counters.get(&(counter as u32), 0).map_err(|e| AttachError::Object(chain(&e)))?;
        Ok(each.iter().sum())
    }

    /// The programs that are wanted, in the order of [`PROGRAMS`].
    fn programs(&self) -> impl Iterator<Item = Program> + use<> {
        let spawners = self.spawners;
        PROGRAMS.into_iter().filter(move |program| *program != Program::Spawn || spawners == Spawners::Reported)
    }

    /// Loads every wanted program for plain uprobes, which aya then attaches.
    pub(super) fn load_plain(&mut self) -> Result<(), AttachError> {
        for program in self.programs() {
            if self.is_loaded(program)? {
                continue;
            }
            self.plain(program)?.load().map_err(|error| match error {
                ProgramError::LoadError { io_error, verifier_log } if is_verdict(&io_error) => AttachError::Verifier {
                    program: name(program, self.work),
                    log: verifier_log.to_string(),
                    source: io_error,
                },
                ProgramError::LoadError { io_error, .. } => AttachError::refused("load programs", io_error),
                other => AttachError::Object(chain(&other)),
            })?;
        }
        Ok(())
    }

    /// Programs that do nothing stand for several.
    fn is_loaded(&mut self, program: Program) -> Result<bool, AttachError> {
        Ok(self.plain(program)?.fd().is_ok())
    }

    /// One program as aya has it.
    pub(super) fn plain(&mut self, program: Program) -> Result<&mut UProbe, AttachError> {
        let name = name(program, self.work);
        let found = self.ebpf.program_mut(name).ok_or_else(|| AttachError::Object(format!("no program {name}")))?;
        found.try_into().map_err(|error: ProgramError| AttachError::Object(chain(&error)))
    }

    /// Loads every wanted program for uprobe_multi links.
    pub(super) fn load_multi(&self) -> Result<HashMap<Program, OwnedFd>, AttachError> {
        let broken = |error: &dyn std::error::Error| AttachError::Object(chain(error));
        let mut object = aya_obj::Object::parse(BYTES).map_err(|e| broken(&e))?;
        let maps: Vec<(String, RawFd, aya_obj::Map)> = object
            .maps
            .drain()
            .map(|(name, map)| match self.maps.get(&name) {
                Some(fd) => Ok((name, *fd, map)),
                None => Err(AttachError::Object(format!("map {name} was not created"))),
            })
            .collect::<Result<_, _>>()?;
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let by_name = maps.iter().map(|(name, fd, map)| (name.as_str(), *fd, map));
        object.relocate_maps(by_name, &sections).map_err(|e| broken(&e))?;
        object.relocate_calls(&sections).map_err(|e| broken(&e))?;

        let mut loaded = HashMap::new();
        for program in self.programs() {
            let name = name(program, self.work);
            let entry = object.programs.get(name).and_then(|p| Some((p, object.functions.get(&p.function_key())?)));
            let (parsed, function) = entry.ok_or_else(|| AttachError::Object(format!("no program {name}")))?;
            let fd = kernel::load_multi_program(name, &function.instructions, &parsed.license).map_err(|rejected| {
                if is_verdict(&rejected.source) && !rejected.log.is_empty() {
                    AttachError::Verifier { program: name, log: rejected.log, source: rejected.source }
                } else {
                    AttachError::refused("load programs", rejected.source)
                }
            })?;
            loaded.insert(program, fd);
        }
        Ok(loaded)
    }
}

/// Every program, in the order in which they may be attached: a mint is worth nothing without the birth that asks for
/// it, and a call that is seen entering must be seen leaving.
///
/// Births last: who was seen born while the ways to end were not watched yet would live for ever. Mints before births,
/// and returns before entries. Probes are taken out in the reverse order, so births go first.
pub(super) const PROGRAMS: [Program; 7] =
    [Program::Leave, Program::Enter, Program::EnterOnly, Program::Raise, Program::Mint, Program::Birth, Program::Spawn];

/// What the kernel side calls it.
fn name(program: Program, work: Work) -> &'static str {
    match (program, work) {
        (Program::Leave, Work::Nothing) => "nothing_at_return",
        (_, Work::Nothing) => "nothing",
        (Program::Mint, _) => "mint",
        (Program::Birth, _) => "birth",
        (Program::Spawn, _) => "spawn",
        (Program::Enter, _) => "enter",
        (Program::Leave, _) => "leave",
        (Program::Raise, _) => "raise",
        (Program::EnterOnly, _) => "enter_only",
    }
}

/// The verifier says no with one of these; a lack of privileges is EPERM.
fn is_verdict(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EINVAL | libc::E2BIG | libc::ENOSPC))
}

fn descriptor(map: &Map) -> Option<RawFd> {
    match map {
        Map::Array(map)
        | Map::HashMap(map)
        | Map::LruHashMap(map)
        | Map::PerCpuArray(map)
        | Map::PerfEventArray(map)
        | Map::RingBuf(map) => Some(map.fd().as_fd().as_raw_fd()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_declares_its_licence_and_has_every_program() {
        let object = aya_obj::Object::parse(BYTES).unwrap();
        assert_eq!(object.license.as_c_str(), c"Dual MIT/GPL");
        let mut found: Vec<&str> = object.programs.keys().map(String::as_str).collect();
        let works = [Work::Report, Work::Nothing];
        let mut expected: Vec<&str> =
            works.iter().flat_map(|work| PROGRAMS.map(|program| name(program, *work))).collect();
        found.sort();
        expected.sort();
        expected.dedup();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_object_names_no_path_of_the_machine_that_built_it() {
        let text = String::from_utf8_lossy(BYTES);
        for part in ["/.cargo/", "/registry/src/", "/home/", "/root/", concat!(env!("CARGO_MANIFEST_DIR"), "/")] {
            assert!(!text.contains(part), "{part}");
        }
        assert!(text.contains("async-observer/observer-ebpf/src/call.rs"));
    }
}
