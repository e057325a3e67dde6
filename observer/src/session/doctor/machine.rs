//! The needs that concern the machine and this program's rights, each tried.
//!
//! Does not know any target.

use std::ffi::{OsStr, OsString};
use std::io;

use crate::attach::{AttachError, Mechanism, Prices, Trials, Tried, UnderFilter};
use crate::model::{Capability, CapabilitySet};
use crate::session::SessionError;
use crate::session::sampled::asked_for;
use crate::target::{
    Launched, MemoryError, Readers, Seccomp, Settings, Status, TargetError, Tracing, TrialError,
    in_first_user_namespace, own_status, try_any_file, try_map_files, try_reading, try_tracing,
};

use super::need::{Cause, Detail, Missing, Need, NotTried, Outcome, Risk, Row};

/// Size of each CPU's ring where nobody says otherwise, pages.
const RING_PAGES: usize = 1024;

/// Samples a second where nobody says otherwise.
const HZ: u32 = 99;

/// The machine, and what this program may do on it.
#[derive(Debug)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// This program's own state.
    pub own: Status,
    /// Its capabilities count for the whole machine.
    pub first_user_namespace: bool,
    /// Settings that decide.
    pub settings: Settings,
    /// How probes would be attached, if they can be.
    pub mechanism: Option<Mechanism>,
    /// What hits cost here, where that could be measured.
    pub prices: Option<Prices>,
    /// What became of a return probe under a filter, where that was tried.
    pub(super) under_filter: Option<UnderFilter>,
    /// The needs.
    pub rows: Vec<Row>,
}

impl Machine {
    /// Tries everything.
    pub(super) fn examine() -> Result<Self, SessionError> {
        let own = own_status().map_err(|source| SessionError::System { what: "read the own state", source })?;
        let mut machine = Self {
            kernel: crate::session::kernel_release(),
            own,
            first_user_namespace: in_first_user_namespace(),
            settings: Settings::read(),
            mechanism: None,
            under_filter: None,
            prices: None,
            rows: Vec::new(),
        };
        let trials = Trials::make(RING_PAGES, asked_for(HZ));
        machine.prices = trials.prices;
        machine.mechanism = trials.mechanism();
        if let Tried::Works(fate) = trials.filtered {
            machine.under_filter = Some(fate);
        }
        machine.rows = machine.live_stream(trials);
        let reading = machine.reading();
        machine.rows.extend(reading);
        Ok(machine)
    }

    /// Whether this need is met.
    pub(super) fn meets(&self, need: Need) -> bool {
        self.rows.iter().any(|row| row.need == need && row.works())
    }

    fn live_stream(&self, trials: Trials) -> Vec<Row> {
        let multi = trials.multi.works();
        let rings = match trials.rings {
            Tried::Works(pages) if pages < RING_PAGES => {
                Outcome::Works(Some(Detail::SmallerRings { wanted: RING_PAGES, pages }))
            }
            other => self.outcome(other),
        };
        let filtered = match trials.filtered {
            Tried::Works(UnderFilter::Killed) => Outcome::Risk(Risk::FilterKills),
            Tried::Blocked => Outcome::NotTried(NotTried::OnlyWithProbes),
            other => self.outcome(other),
        };
        vec![
            Row::needed(Need::Maps, self.outcome(trials.maps)),
            Row::needed(Need::Programs, self.outcome(trials.programs)),
            Row::needed(Need::Rings, rings),
            Row { optional: trials.events.works(), ..Row::needed(Need::UprobeMulti, self.outcome(trials.multi)) },
            Row { optional: multi, ..Row::needed(Need::TraceEvents, self.outcome(trials.events)) },
            Row::optional(Need::Tracefs, self.tracing(multi)),
            Row::optional(Need::ReturnsUnderFilter, filtered),
            Row::optional(Need::Following, self.outcome(trials.following)),
            Row::optional(Need::Sampling, self.outcome(trials.sampling)),
        ]
    }

    fn reading(&self) -> Vec<Row> {
        let others = try_reading(Readers::Privileged);
        let may_read_others = others.is_ok();
        let others = others.map_or_else(|error| self.unread(error), |()| Outcome::WORKS);
        let same = match try_reading(Readers::SameUser) {
            // Yama lets a parent read its children, which is what was tried, and nobody else.
            Ok(()) if !may_read_others && self.settings.ptrace_scope.is_some_and(|scope| scope > 0) => {
                Outcome::Risk(Risk::OwnChildrenOnly)
            }
            Ok(()) => Outcome::WORKS,
            Err(error) => self.unread(error),
        };
        let by = |result: io::Result<()>, capability| match result {
            Ok(()) => Outcome::WORKS,
            Err(error) => self.refused(&error, &[capability]),
        };
        vec![
            Row::needed(Need::OtherUsers, others),
            Row::needed(Need::SameUser, same),
            Row::optional(Need::MapFiles, by(try_map_files(), Capability::CheckpointRestore)),
            Row::optional(Need::AnyFile, by(try_any_file(), Capability::DacReadSearch)),
            Row::optional(Need::Launching, launching()),
        ]
    }

    fn tracing(&self, multi: bool) -> Outcome {
        match try_tracing() {
            Tracing::Writable(_) => Outcome::Works(multi.then_some(Detail::NotNeeded)),
            Tracing::NotMounted => Outcome::Missing(Missing { cause: Cause::NotMounted, errno: Some(libc::ENOENT) }),
            Tracing::Without => self.without_events(io::Error::from_raw_os_error(libc::ENOENT)),
            Tracing::Refused(_, error) => self.refused(&error, &[Capability::DacOverride]),
        }
    }

    fn outcome<T>(&self, tried: Tried<T>) -> Outcome {
        match tried {
            Tried::Works(_) => Outcome::WORKS,
            Tried::Blocked => Outcome::NotTried(NotTried::Blocked),
            Tried::NotNeeded => Outcome::NotTried(NotTried::NotNeeded),
            Tried::Fails(AttachError::NotPermitted { needs, source, .. }) => match self.settings.perf_event_paranoid {
                Some(level) if self.is_closed_to_perf(needs, &source) => {
                    Outcome::missing(Cause::PerfParanoid(level), &source)
                }
                _ => self.refused(&source, needs),
            },
            Tried::Fails(AttachError::NoUprobeEvents { source }) => self.without_events(source),
            Tried::Fails(error) => error.into(),
        }
    }

    /// Debian's kernels, and some others, know a level more than Linux does, and answer so: bpf(2) would say EPERM.
    fn is_closed_to_perf(&self, needs: &[Capability], error: &io::Error) -> bool {
        needs.contains(&Capability::Perfmon)
            && error.raw_os_error() == Some(libc::EACCES)
            && self.own.effective.lacking(needs).is_empty()
            && !self.own.effective.lacking(&[Capability::SysAdmin]).is_empty()
            && self.settings.perf_event_paranoid.is_some_and(|level| level > PERF_PARANOID_MOST)
    }

    /// The list of probes is not there: a kernel that was locked down when it started has not made it.
    fn without_events(&self, source: io::Error) -> Outcome {
        match &self.settings.lockdown {
            Some(mode) if mode != UNLOCKED => Outcome::missing(Cause::Lockdown(mode.clone()), &source),
            _ => AttachError::NoUprobeEvents { source }.into(),
        }
    }

    fn unread(&self, error: TrialError) -> Outcome {
        let (capability, source) = match error {
            TrialError::Target(TargetError::NotPermitted { capability, source, .. }) => (capability, source),
            TrialError::Memory(MemoryError::NotPermitted { capability, .. }) => {
                (capability, io::Error::from_raw_os_error(libc::EPERM))
            }
            TrialError::Target(error) => return SessionError::from(error).into(),
            TrialError::Memory(error) => {
                return SessionError::memory(crate::model::Pid(std::process::id()), error).into();
            }
            TrialError::Itself(source) => {
                return SessionError::System { what: "make a copy of this process", source }.into();
            }
        };
        // Nothing helps against the strictest setting, not even the capability.
        match self.settings.ptrace_scope {
            Some(3..) => Outcome::missing(Cause::Yama, &source),
            _ => self.refused(&source, &[capability]),
        }
    }

    /// The kernel said no where these are needed: because they are lacking, or in spite of them.
    fn refused(&self, error: &io::Error, needs: &[Capability]) -> Outcome {
        Outcome::missing(why(self.own.effective, needs, self), error)
    }
}

/// The highest `kernel.perf_event_paranoid` of Linux itself.
const PERF_PARANOID_MOST: i64 = 2;

/// The mode of a kernel that is not locked down.
const UNLOCKED: &str = "none";

/// Why the kernel says no.
fn why(has: CapabilitySet, needs: &[Capability], machine: &Machine) -> Cause {
    let lacking = has.lacking(needs);
    let modules = machine.settings.judging_modules();
    match &machine.settings.lockdown {
        _ if !lacking.is_empty() => Cause::Lacks(lacking),
        _ if !machine.first_user_namespace => Cause::UserNamespace(needs.to_vec()),
        _ if machine.own.seccomp == Some(Seccomp::Filter) => Cause::OwnFilter,
        Some(mode) if mode != UNLOCKED => Cause::Lockdown(mode.clone()),
        _ if !modules.is_empty() => Cause::SecurityModule(modules),
        _ => Cause::Unexplained,
    }
}

/// Starts this very program, and ends it before its first instruction has run.
fn launching() -> Outcome {
    match Launched::spawn(OsStr::new("/proc/self/exe"), &[OsString::from("--version")]) {
        Ok(_) => Outcome::WORKS,
        Err(error) => SessionError::from(error).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(effective: CapabilitySet) -> Machine {
        let own = Status { effective, seccomp: Some(Seccomp::Off), ..own_status().unwrap() };
        Machine {
            kernel: String::new(),
            own,
            first_user_namespace: true,
            settings: Settings::default(),
            mechanism: None,
            under_filter: None,
            prices: None,
            rows: Vec::new(),
        }
    }

    const NEEDS: &[Capability] = &[Capability::Bpf, Capability::Perfmon];

    #[test]
    fn what_is_lacking_is_named_and_what_is_there_is_not() {
        let machine = machine(CapabilitySet::of(&[Capability::Bpf]));
        let cause = why(machine.own.effective, NEEDS, &machine);
        assert!(matches!(&cause, Cause::Lacks(lacking) if *lacking == [Capability::Perfmon]), "{cause:?}");
    }

    #[test]
    fn a_paranoid_kernel_is_told_by_its_answer_and_only_to_those_it_refuses() {
        let told = |level, capabilities: &[Capability], errno| {
            let mut machine = machine(CapabilitySet::of(capabilities));
            machine.settings.perf_event_paranoid = Some(level);
            machine.is_closed_to_perf(NEEDS, &io::Error::from_raw_os_error(errno))
        };
        assert!(told(3, NEEDS, libc::EACCES));
        assert!(!told(2, NEEDS, libc::EACCES) && !told(3, NEEDS, libc::EPERM));
        assert!(!told(3, &[Capability::SysAdmin], libc::EACCES) && !told(3, &[Capability::Bpf], libc::EACCES));
    }

    #[test]
    fn a_refusal_in_spite_of_all_capabilities_is_laid_to_what_is_nearest() {
        let mut machine = machine(CapabilitySet::ALL);
        let cause = |machine: &Machine| why(machine.own.effective, NEEDS, machine);
        assert!(matches!(cause(&machine), Cause::Unexplained));
        machine.settings.security_modules = Some(vec!["capability".to_owned(), "selinux".to_owned()]);
        assert!(matches!(cause(&machine), Cause::SecurityModule(modules) if modules == ["selinux"]));
        machine.settings.lockdown = Some("confidentiality".to_owned());
        assert!(matches!(cause(&machine), Cause::Lockdown(mode) if mode == "confidentiality"));
        machine.own.seccomp = Some(Seccomp::Filter);
        assert!(matches!(cause(&machine), Cause::OwnFilter));
        machine.first_user_namespace = false;
        assert!(matches!(cause(&machine), Cause::UserNamespace(_)));
    }
}
