//! Whether something holds a process as a whole, so that nothing happens in it: a signal, or its control group's freezer.
//!
//! Does not know: who did it, nor single threads that wait.

use super::process::Process;

/// What holds a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standstill {
    /// A signal (SIGSTOP, ^Z), or a tracer.
    Stopped,
    /// Its control group is frozen.
    Frozen,
}

impl Standstill {
    /// `stopped`, `frozen`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Frozen => "frozen",
        }
    }
}

impl Process {
    /// What holds it now. `None` also where its control group cannot be looked at from here.
    pub fn standstill(&self) -> Option<Standstill> {
        if self.status().is_ok_and(|status| status.is_stopped()) {
            return Some(Standstill::Stopped);
        }
        self.is_frozen().then_some(Standstill::Frozen)
    }
}
