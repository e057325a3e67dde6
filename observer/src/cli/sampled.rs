//! `trace --tier sampled`: its options made ready.

use std::io::BufWriter;
use std::process::ExitCode;
use std::time::Duration;

use crate::session::{LEAST_RING_PAGES, SampledLook, SampledOptions, SampledOutput, Selection, sampled};
use crate::sink::{Manner, SampledJson, SampledSink, SampledText};

use super::args::{By, Sampling, Trace};
use super::{Failure, Opened, manner, open};

/// Samples a second; not a whole part of a second's usual ones, so that what a program does at each tick of a clock is not
/// met each time.
const HZ: u32 = 99;
/// From one report to the next.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// From when on a poll is named.
const BLOCKING: Duration = Duration::from_millis(10);

/// Samples and says it.
pub(super) fn run(args: Trace) -> Result<ExitCode, Failure> {
    let common = &args.common;
    let selection = args.selection().ok_or(Failure::NothingSelected)?;
    if args.attach_with.is_some() || args.empty_probes || args.allow_slow {
        return Err(Failure::NothingAttached);
    }
    if args.max_memory.is_some() {
        return Err(Failure::SamplesAreNotBounded);
    }
    if args.ring_pages < LEAST_RING_PAGES {
        return Err(Failure::RingHoldsNoSample);
    }
    let options = options(&args, selection);
    let Opened { out, colour } = open(common)?;
    let sink: Box<dyn SampledSink> =
        if common.json { Box::new(SampledJson) } else { Box::new(SampledText::new(manner(common, colour))) };
    sampled(&options, SampledOutput { sink, out: Box::new(BufWriter::new(out)) })?;
    Ok(ExitCode::SUCCESS)
}

/// How samples are taken, as far as it is asked for.
pub(super) fn options(args: &Trace, selection: Selection) -> SampledOptions {
    let (common, Sampling { hz, interval, blocking, by }) = (&args.common, args.sampling);
    SampledOptions {
        selection,
        hz: hz.unwrap_or(HZ),
        interval: interval.map_or(INTERVAL, |span| span.0),
        blocking: blocking.map_or(BLOCKING, |span| span.0),
        overhead_every: args.overhead_every.0,
        by_task: by == Some(By::Task),
        duration: args.duration.map(|duration| duration.0),
        ring_pages: args.ring_pages,
        names: common.names(),
        caching: common.caching(),
        verbosity: common.verbosity(),
    }
}

/// How they look between the events of a stream that began at a moment.
pub(super) fn look(json: bool, manner: Manner) -> SampledLook {
    Box::new(move |began| match json {
        true => Box::new(SampledJson),
        false => Box::new(SampledText::new(manner).since(began)),
    })
}
