//! Options of the live stream.

use std::ffi::OsString;

use super::values::{EventList, How, Share, Span, parse_memory, parse_pages};
use super::{Common, Sampling, Tier};
use crate::session::Selection;

/// Options of `trace`.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Trace {
    #[command(flatten)]
    pub(in crate::cli) common: Common,

    /// Stop after this long: 500ms, 10s, 5m, 1h
    #[arg(short, long, value_name = "TIME")]
    pub(in crate::cli) duration: Option<Span>,

    /// How much is told, and so what it costs the program
    #[arg(long, value_name = "TIER", conflicts_with = "events")]
    pub(in crate::cli) tier: Option<Tier>,

    /// Keep the CPU time that observing adds to the programs under this part of what they use themselves, over a minute: 2%, 0.5%.
    /// Where more is added, less is told, in this order: full, polls, sampled (births, and who is busy), spawns, nothing;
    /// and more again as soon as that may be. Each step is said. Programs that use less than a hundredth of a CPU are left alone.
    /// Begins with --tier, and never tells more. The estimate is that of `overhead` (Linux 6.6 and later), which does not count what
    /// --allow-slow adds
    #[arg(long, value_name = "PERCENT", conflicts_with_all = ["events", "empty_probes", "allow_slow"])]
    pub(in crate::cli) max_overhead: Option<Share>,

    /// With --all: how long probes stay in a program that nobody runs any more. One that is started after that is not seen in
    /// its first moments
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(in crate::cli) keep_probes: Span,

    /// How often to say what observing costs (SIGUSR1 asks for it at once)
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(in crate::cli) overhead_every: Span,

    /// Only these events, and only the probes they need: init,before,after,resolve,destroy
    #[arg(long, value_name = "LIST")]
    pub(in crate::cli) events: Option<EventList>,

    /// Say with each birth the calls that spawned it, and those that spawned its spawner, and so on to the first. Each different stack is
    /// said once, as soon as its names are read. Takes one more probe at each place where a task takes its id, which copies up to
    /// 28 KiB of stack at each spawn: 2 to 6 us of the program's time. Places where the kernel must single-step are left out without
    /// --allow-slow. Needs births, and polls to tell the spawner; images that are
    /// loaded later bring none. Example: async-observer trace --pid 4711 --tier lifecycle --stacks
    #[arg(long, conflicts_with_all = ["all", "command", "max_overhead", "empty_probes"])]
    pub(in crate::cli) stacks: bool,

    /// Plant hot points also where the kernel must single-step the instruction: a hit there, at each poll or spawn, costs 10 to
    /// 35 times another in a virtual machine (5 to 16 us). Without it they are left out, and it is said what is missing; `doctor
    /// --pid` lists them. Example: async-observer trace --pid 4711 --allow-slow
    #[arg(long)]
    pub(in crate::cli) allow_slow: bool,

    /// How to attach; without it: uprobe-multi where the kernel has it
    #[arg(long, value_name = "HOW")]
    pub(in crate::cli) attach_with: Option<How>,

    /// Size of each CPU's ring in pages of 4 KiB, a power of two
    #[arg(long, value_name = "PAGES", default_value_t = 1024, value_parser = parse_pages)]
    pub(in crate::cli) ring_pages: usize,

    /// Memory that this program may use: 64M to 1024G. Near it, less is said, in this order: order (records are held back
    /// for a shorter time), processes (new ones are not observed), tasks (new ones are not followed). Not with --tier sampled
    /// [default: 1G]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub(in crate::cli) max_memory: Option<u64>,

    /// Attach probes that do nothing, to measure what the hits alone cost
    #[arg(long, hide = true)]
    pub(in crate::cli) empty_probes: bool,

    #[command(flatten)]
    pub(in crate::cli) sampling: Sampling,

    /// Launch this program and observe it from its first instruction
    #[arg(last = true, value_name = "CMD", conflicts_with_all = ["pid", "name", "all"])]
    pub(in crate::cli) command: Vec<OsString>,
}

impl Trace {
    /// Which processes; `None` where none was named.
    pub(in crate::cli) fn selection(&self) -> Option<Selection> {
        match self.command.is_empty() {
            true => self.common.selection(),
            false => Some(Selection::Launch(self.command.clone())),
        }
    }
}
