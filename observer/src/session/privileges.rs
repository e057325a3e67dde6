//! The rights of this program while it observes: what each kind of work needs, and giving up the rest.
//!
//! Does not know how the kernel is asked.

use crate::attach::Mechanism;
use crate::model::{Capability, CapabilitySet};
use crate::perf::more_cpus_may_come;
use crate::target::{keep_only, own_status};

/// How far an observation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Processes are read; nothing will be attached.
    Reading,
    /// Probes will be attached, in a way that is not known yet.
    Attaching,
    /// Probes are attached in this way; more may be, in images that come later.
    Attached(Mechanism),
    /// As that, and whoever wants to write to a probed file is held back meanwhile.
    Following(Mechanism),
}

/// Processes of other users, the very files that they have mapped, and files that this user may not read.
const READING: [Capability; 3] = [Capability::SysPtrace, Capability::CheckpointRestore, Capability::DacReadSearch];

impl Stage {
    /// What is needed from here on.
    fn needs(self) -> Vec<Capability> {
        use Capability::{Bpf, DacOverride, IpcLock, Lease, Perfmon, SysAdmin};
        let more: &[Capability] = match self {
            Self::Reading => &[],
            Self::Attaching => &[Bpf, Perfmon, IpcLock, SysAdmin, DacOverride],
            Self::Attached(Mechanism::UprobeMulti) => &[Bpf, Perfmon],
            Self::Attached(Mechanism::Tracefs) => &[Bpf, Perfmon, SysAdmin],
            Self::Following(Mechanism::UprobeMulti) => &[Bpf, Perfmon, Lease],
            Self::Following(Mechanism::Tracefs) => &[Bpf, Perfmon, Lease, SysAdmin],
        };
        [&READING, more].concat()
    }
}

/// Gives up what is not needed from here on. To be called while no other thread runs, and after a program that is observed was
/// launched, which keeps its own.
pub(super) fn keep(stage: Stage, say: &dyn Fn(u8, &str)) {
    let mut needed = stage.needs();
    // A CPU that comes online needs rings, whose memory is locked. Where nobody knows, none is expected: it is said if one comes.
    if matches!(stage, Stage::Attached(_) | Stage::Following(_)) && more_cpus_may_come().unwrap_or(false) {
        needed.push(Capability::IpcLock);
    }
    match keep_only(&needed) {
        Ok(left) => say(2, &format!("capabilities kept: {left}")),
        // Observing goes on with more rights than it needs, as it would if nothing had been tried.
        Err(error) => say(1, &format!("could not give up rights that are not needed any more: {error}")),
    }
}

/// Which of these this program lacks now.
pub fn lacking(needed: &[Capability]) -> Vec<Capability> {
    own_capabilities().lacking(needed)
}

/// What this program may do now; nothing, where the kernel does not tell.
pub fn own_capabilities() -> CapabilitySet {
    own_status().map(|status| status.effective).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_needs_no_more_than_the_one_before_it() {
        let all = |stages: [Stage; 3]| stages.map(|stage| CapabilitySet::of(&stage.needs()));
        for mechanism in [Mechanism::UprobeMulti, Mechanism::Tracefs] {
            let [attaching, attached, reading] = all([Stage::Attaching, Stage::Attached(mechanism), Stage::Reading]);
            assert_eq!(attached.and(attaching), attached);
            assert_eq!(reading.and(attached), reading);
            assert!(!reading.allows(Capability::Bpf));
            assert_eq!(attached.allows(Capability::SysAdmin), mechanism == Mechanism::Tracefs);
        }
    }
}
