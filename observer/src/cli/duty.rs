//! `trace --duty PERCENT`: its options made ready.

use std::io::BufWriter;
use std::process::ExitCode;
use std::time::Duration;

use crate::model::Duty;
use crate::session::{DutyOptions, SampledOutput, Selection, Slow, duty};
use crate::sink::{SampledJson, SampledSink, SampledText};

use super::args::{By, Sampling, Trace};
use super::{Failure, Opened, open};

/// From one report to the next: enough windows for their error to be known.
const INTERVAL: Duration = Duration::from_secs(10);

/// Looks for a part of the time and says what it saw.
pub(super) fn run(args: Trace, part: Duty) -> Result<ExitCode, Failure> {
    let common = &args.common;
    if !args.command.is_empty() {
        return Err(Failure::SamplingLaunch);
    }
    let selection = common.selection().ok_or(Failure::NothingSelected)?;
    if matches!(selection, Selection::Everyone(_)) {
        return Err(Failure::SamplingAll);
    }
    let Sampling { hz, interval, blocking, by, .. } = args.sampling;
    let of_samples = [
        ("--hz", hz.is_some()),
        ("--blocking", blocking.is_some()),
        ("--attach-with", args.attach_with.is_some()),
        ("--empty-probes", args.empty_probes),
    ];
    if let Some((option, _)) = of_samples.into_iter().find(|(_, given)| *given) {
        return Err(Failure::NotWithDuty(option));
    }
    let options = DutyOptions {
        selection,
        duty: part,
        slow: if args.allow_slow { Slow::Allowed } else { Slow::LeftOut },
        interval: interval.map_or(INTERVAL, |span| span.0),
        by_task: by == Some(By::Task),
        duration: args.duration.map(|duration| duration.0),
        ring_pages: args.ring_pages,
        names: !common.no_names,
        caching: common.caching(),
        verbosity: common.verbosity(),
    };
    let Opened { out, colour } = open(common)?;
    let sink: Box<dyn SampledSink> =
        if common.json { Box::new(SampledJson) } else { Box::new(SampledText::new(colour)) };
    duty(&options, SampledOutput { sink, out: Box::new(BufWriter::new(out)) })?;
    Ok(ExitCode::SUCCESS)
}
