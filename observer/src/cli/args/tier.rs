//! How much of a program's life the live stream tells, and what that costs the program.

use clap::ValueEnum;

use crate::model::EventSet;

/// A tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Tier {
    /// Every event: init, before, after, resolve, destroy. Each poll costs the program two hits and a record
    #[default]
    Full,
    /// init, resolve, destroy, and each task's polls summed up: how many, how long, the longest
    Polls,
    /// init, resolve, destroy: each poll costs two hits, and a record only where something begins or ends in it
    Lifecycle,
    /// init alone: one hit a spawn
    Spawns,
}

impl Tier {
    /// The events of it.
    pub(in crate::cli) fn events(self) -> EventSet {
        match self {
            Self::Full => EventSet::ALL,
            Self::Polls | Self::Lifecycle => EventSet { init: true, resolve: true, destroy: true, ..EventSet::NONE },
            Self::Spawns => EventSet { init: true, ..EventSet::NONE },
        }
    }
}
