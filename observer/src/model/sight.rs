//! How much of a program's life is watched at a moment, as far as probes are in place.

use super::Program;

/// From less to more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// Nothing: no probe is in place.
    Nothing,
    /// That tasks are born.
    Births,
    /// All that is wanted.
    #[default]
    All,
}

impl Sight {
    /// Whether this program is in place.
    pub fn has(self, program: Program) -> bool {
        match self {
            Self::Nothing => false,
            Self::Births => matches!(program, Program::Mint | Program::Birth),
            Self::All => true,
        }
    }
}
