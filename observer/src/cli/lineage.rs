//! `ps --tree` and `ps --by-root`: their options made ready. A stream is watched of which only the sum is said.

use std::process::ExitCode;
use std::time::Duration;

use crate::session::{Bound, Options, Output, Work, trace};
use crate::sink::{Lineage, Lineages, Sink};

use super::args::{Ps, Tier};
use super::sampled::INTERVAL;
use super::{Failure, Opened, manner, open, slow};

/// As the live stream has them.
const RING_PAGES: usize = 1024;
const KEEP_PROBES: Duration = Duration::from_secs(10);

/// Watches, and says it.
pub(super) fn run(args: &Ps, what: Lineages) -> Result<ExitCode, Failure> {
    let common = &args.common;
    let selection = common.selection().ok_or(Failure::NothingSelected)?;
    let Opened { out, colour } = open(common)?;
    let sink: Box<dyn Sink> = match common.json {
        true => Box::new(Lineage::json(what)),
        false => Box::new(Lineage::text(what, args.top, manner(common, colour))),
    };
    let duration = args.lineage.during.0;
    let options = Options {
        selection,
        events: Tier::Polls.events(),
        slow: slow(args.lineage.allow_slow),
        sums: Some(INTERVAL),
        stacks: false,
        governed: None,
        keep_probes: KEEP_PROBES,
        // What all of it has cost is said at the end.
        overhead_every: duration,
        duration: Some(duration),
        mechanism: None,
        ring_pages: RING_PAGES,
        bound: Bound(args.reading.max_memory),
        work: Work::Report,
        names: common.names(),
        caching: common.caching(),
        verbosity: common.verbosity(),
    };
    trace(&options, Output { sink, out, samples: None })?;
    Ok(ExitCode::SUCCESS)
}
