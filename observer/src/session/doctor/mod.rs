//! What works here, what is missing and why: each real system call tried, no version compared, nothing attached to others.
//!
//! Does not know what the user is to do about it: a cause is a type, the command line has its words.

mod expected;
mod machine;
mod need;
mod slow;
mod target;

use crate::model::Pid;

use super::images::Images;
use super::{Caching, Names, SessionError, progress};

pub use crate::attach::Prices;
pub use expected::{Expected, Span};
pub use machine::Machine;
pub use need::{Cause, Detail, Missing, Need, NotTried, Outcome, Risk, Row};
pub use slow::SlowPoint;
pub use target::{Observed, Points, Target};

/// What is examined besides the machine.
#[derive(Clone, Debug, Default)]
pub struct DoctorOptions {
    /// These processes.
    pub pids: Vec<Pid>,
    /// Diagnostics on standard error: 0 none, 1 progress, 2 details.
    pub verbosity: u8,
}

/// What was found.
#[derive(Debug)]
pub struct Diagnosis {
    /// The machine.
    pub machine: Machine,
    /// The processes that were named.
    pub targets: Vec<Target>,
    /// Whose processes can be read, for `ps` and `sweep`.
    pub reads: Reads,
}

/// Whose processes can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Everyone's.
    Everyones,
    /// Those of this user.
    ThisUsers,
    /// Nobody's.
    Nobodys,
}

/// Examines the machine, and the processes that are named.
pub fn doctor(options: &DoctorOptions) -> Result<Diagnosis, SessionError> {
    let machine = Machine::examine()?;
    let say = progress(options.verbosity);
    // Types are counted, not named.
    let mut images = Images::new(Names::Unwanted, &Caching::Off, &say);
    let targets = options.pids.iter().map(|pid| Target::examine(*pid, &machine, &mut images)).collect();
    let reads = match (machine.meets(Need::OtherUsers), machine.meets(Need::SameUser)) {
        (true, _) => Reads::Everyones,
        (false, true) => Reads::ThisUsers,
        (false, false) => Reads::Nobodys,
    };
    Ok(Diagnosis { machine, targets, reads })
}

impl Diagnosis {
    /// What stands in the way of any observation at all: `None` if something works. With processes named, of those.
    pub fn refusal(&self) -> Option<&Outcome> {
        if self.machine.mechanism.is_none() && self.reads == Reads::Nobodys {
            let needed = self.machine.rows.iter().filter(|row| !row.optional).map(|row| &row.outcome);
            return needed.into_iter().find(|outcome| matches!(outcome, Outcome::Missing(_)));
        }
        let refused: Vec<&Outcome> = self.targets.iter().filter_map(Target::refusal).collect();
        refused.first().copied().filter(|_| refused.len() == self.targets.len())
    }
}
