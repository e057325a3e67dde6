//! How much of a program's life the live stream tells, and what that costs the program.

use clap::ValueEnum;

use crate::model::EventSet;
use crate::session;

use super::values::{Span, parse_hz};

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
    /// Who runs and who blocks, by samples: nothing is planted, no hit at all
    Sampled,
    /// Refused: `ps` and `sweep` are it.
    #[value(hide = true)]
    Census,
}

impl Tier {
    /// As the one that a governed stream begins with. Samples and censuses are none of the stream's.
    pub(in crate::cli) fn top(self) -> session::Tier {
        match self {
            Self::Full => session::Tier::Full,
            Self::Polls => session::Tier::Polls,
            Self::Lifecycle => session::Tier::Lifecycle,
            Self::Spawns | Self::Sampled | Self::Census => session::Tier::Spawns,
        }
    }

    /// The events of it.
    pub(in crate::cli) fn events(self) -> EventSet {
        match self {
            Self::Full => EventSet::ALL,
            Self::Polls | Self::Lifecycle => EventSet { init: true, resolve: true, destroy: true, ..EventSet::NONE },
            Self::Spawns => EventSet { init: true, ..EventSet::NONE },
            Self::Sampled | Self::Census => EventSet::NONE,
        }
    }
}

/// What samples are counted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum By {
    /// By future type
    #[default]
    Type,
    /// By task, where the stack tells which; the others by type
    Task,
}

/// Options of `--tier sampled`; the interval is of `--tier polls`, too. Without these they are refused.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(next_help_heading = "With --tier sampled")]
pub(in crate::cli) struct Sampling {
    /// Samples a second of time on a CPU, 49 to 999 [default: 99]
    #[arg(long, value_name = "N", value_parser = parse_hz)]
    pub(in crate::cli) hz: Option<u32>,

    /// From one report to the next, with --tier polls, too, and with --max-overhead for the tier polls [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) interval: Option<Span>,

    /// Name a poll that goes on for so long, with its thread's calls [default: 10ms]. One that waits is named for certain;
    /// one on a CPU after four samples in a row (40ms at 99 a second), and never for certain. The same task once a second at most
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) blocking: Option<Span>,

    /// Count samples by this [default: type]
    #[arg(long, value_name = "WHAT")]
    pub(in crate::cli) by: Option<By>,
}

impl Sampling {
    /// The first option that was given and is of no use without samples, in a tier that sums polls up or not.
    pub(in crate::cli) fn misplaced(&self, may_sum: bool) -> Option<&'static str> {
        let Self { hz, interval, blocking, by } = self;
        let given = [
            ("--hz", hz.is_some()),
            ("--interval", interval.is_some() && !may_sum),
            ("--blocking", blocking.is_some()),
            ("--by", by.is_some()),
        ];
        given.into_iter().find_map(|(name, given)| given.then_some(name))
    }
}
