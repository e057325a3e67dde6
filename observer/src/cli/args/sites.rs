//! Options of `ps`, `dump` and `sweep`.

use super::Common;
use crate::sink::Lineages;

use super::values::{SortBy, Span, VerdictList, parse_memory, parse_samples};

/// Which tasks are read, and what that may take.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Reading {
    /// Only tasks of types whose name, place, kind or id holds TEXT, whatever its case (repeatable: any of them)
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) filter: Vec<String>,

    /// Do not look for what idle tasks wait for (memory is read once less; sweep finds no deadlocks then)
    #[arg(long)]
    pub(in crate::cli) no_waits: bool,

    /// Memory that this program may use: 64M to 1024G. Near it, what is known of the last reading is not kept (each reading
    /// searches all memory then), and a reading that finds more tasks than there is room for says so
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_memory)]
    pub(in crate::cli) max_memory: u64,
}

/// Options of `ps`.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Ps {
    #[command(flatten)]
    pub(in crate::cli) common: Common,

    /// List each task under its type: id, state, references, join handle; with --tree: id and who spawned it
    #[arg(long)]
    pub(in crate::cli) tasks: bool,

    /// Show only so many types; with --tree: on each level; with --by-root: so many roots
    #[arg(long, value_name = "N")]
    pub(in crate::cli) top: Option<usize>,

    /// Sort the types by this
    #[arg(long, value_name = "COLUMN", default_value = "live")]
    pub(in crate::cli) sort: SortBy,

    #[command(flatten)]
    pub(in crate::cli) reading: Reading,

    #[command(flatten)]
    pub(in crate::cli) lineage: Lineage,
}

/// Who spawned whom, which memory does not tell: it is watched for a while.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Lineage {
    /// Watch for a while (--for), then show each type below the one whose tasks spawned it, with tasks, polls and busy time. Who spawned
    /// what was there before is not known. Puts probes on spawns and polls, as `trace --tier polls` does (what that costs is
    /// said at the end)
    #[arg(long, group = "watched", conflicts_with_all = ["no_waits", "sort", "filter"])]
    pub(in crate::cli) tree: bool,

    /// Watch for a while (--for), then show for each root all that it led to: tasks, polls and busy time. A root is the outermost task
    /// that is known to have led to others, one by spawning the other. Puts probes on spawns and polls, as `trace --tier polls` does
    #[arg(long, group = "watched", conflicts_with_all = ["no_waits", "sort", "filter", "tasks"])]
    pub(in crate::cli) by_root: bool,

    /// With --tree or --by-root: for so long: 500ms, 10s, 5m, 1h; ^C shows what there is so far
    #[arg(long = "for", value_name = "TIME", default_value = "10s", requires = "watched")]
    pub(in crate::cli) during: Span,

    /// With --tree or --by-root: plant hot points also where the kernel must single-step the instruction: see trace
    #[arg(long, requires = "watched")]
    pub(in crate::cli) allow_slow: bool,
}

impl Lineage {
    /// What is wanted of it, if anything.
    pub(in crate::cli) fn what(&self, tasks: bool) -> Option<Lineages> {
        match (self.tree, self.by_root) {
            (true, _) => Some(Lineages::Tree { tasks }),
            (false, true) => Some(Lineages::Roots),
            (false, false) => None,
        }
    }
}

/// Options of `dump`.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Dump {
    #[command(flatten)]
    pub(in crate::cli) common: Common,

    /// Each task by itself; otherwise those that wait in the same way stand together
    #[arg(long)]
    pub(in crate::cli) tasks: bool,

    /// Show only so many groups, the largest
    #[arg(long, value_name = "N")]
    pub(in crate::cli) top: Option<usize>,

    #[command(flatten)]
    pub(in crate::cli) reading: Reading,
}

/// Options of `sweep`.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Sweep {
    #[command(flatten)]
    pub(in crate::cli) common: Common,

    /// From the first reading to the last: 500ms, 10s, 5m, 1h
    #[arg(long = "for", value_name = "TIME", default_value = "10s", conflicts_with = "every")]
    pub(in crate::cli) during: Span,

    /// Readings that are judged together; stuck needs 2, leaking 3, a leak inside a busy place 4
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = parse_samples)]
    pub(in crate::cli) samples: usize,

    /// Go on for ever, one reading each TIME, and say what arises and what vanishes
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) every: Option<Span>,

    /// With --every: stop after this long
    #[arg(short, long, value_name = "TIME", requires = "every")]
    pub(in crate::cli) duration: Option<Span>,

    /// Do not judge the growth of a process that is younger: it may be starting up
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(in crate::cli) warm_up: Span,

    #[command(flatten)]
    pub(in crate::cli) reading: Reading,

    /// Put probes where tasks take their ids, and nowhere else: findings then name the calls and the tasks that spawned what was born
    /// since (needs what the live stream needs; each spawn costs the target one hit, see README)
    #[arg(long)]
    pub(in crate::cli) trace_spawns: bool,

    /// With --trace-spawns: put probes also where the kernel must single-step the instruction: see trace
    #[arg(long, requires = "trace_spawns")]
    pub(in crate::cli) allow_slow: bool,

    /// Exit with 10 if one of these was found: stuck,leaking,suspect
    #[arg(long, value_name = "LIST")]
    pub(in crate::cli) fail_on: Option<VerdictList>,
}
