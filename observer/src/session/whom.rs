//! Who is followed: everyone, or those that are named.
//!
//! Does not know: what they run, nor what is heard of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{BY_PROCESS, Enclosure, Pid};
use crate::target::Process;

use super::held::Runner;
use super::{Selection, Within};

/// Whose news matter.
pub(super) enum Whom {
    /// Those within this, and not ourselves.
    Everyone(Within),
    /// With the slot of each.
    Named(HashMap<Pid, u16>),
}

impl Whom {
    /// Who was selected; where that is not everyone, these are they.
    pub(super) fn of(selection: &Selection, processes: &[Arc<Process>]) -> Self {
        match selection {
            Selection::Everyone(within) => Self::Everyone(within.clone()),
            Selection::Running { .. } | Selection::Launch(_) => {
                Self::Named(processes.iter().map(|process| process.pid()).zip(0..).collect())
            }
        }
    }

    /// Also those that begin later.
    pub(super) fn are_everyone(&self) -> bool {
        matches!(self, Self::Everyone(_))
    }

    /// Whether a process with this around it is one of them.
    pub(super) fn wants(&self, pid: Pid, enclosure: &Enclosure) -> bool {
        match self {
            Self::Everyone(within) => pid.0 != std::process::id() && within.holds(enclosure),
            Self::Named(slots) => slots.contains_key(&pid),
        }
    }

    /// Whether it may be one of them, as far as its number tells.
    pub(super) fn follows(&self, pid: Pid) -> bool {
        match self {
            Self::Everyone(_) => pid.0 != std::process::id(),
            Self::Named(slots) => slots.contains_key(&pid),
        }
    }

    /// How its hits are told from others'; `None` where it is none of them.
    pub(super) fn runner(&self, pid: Pid) -> Option<Runner> {
        match self {
            Self::Everyone(_) => Some(Runner { pid, slot: BY_PROCESS }),
            Self::Named(slots) => Some(Runner { pid, slot: *slots.get(&pid)? }),
        }
    }
}
