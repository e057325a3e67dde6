//! Whose hits are reported, where a link does not tell by itself.

/// Whose hits are reported: a constant of the programs (`AUDIENCE`), set when they are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Audience {
    /// Everybody's: each link is for one process only, and nobody is asked.
    #[default]
    Linked = 0,
    /// Those of processes that are [`Standing::Listed`].
    Listed = 1,
    /// Those of all processes but the [`Standing::Excluded`] ones.
    NotExcluded = 2,
}

/// What the map `PROCESSES` says of a process, by its number in the initial pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Standing {
    /// It is reported.
    Listed = 1,
    /// It is not.
    Excluded = 2,
}
