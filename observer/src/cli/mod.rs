//! The command line: arguments are text, options are ready objects, parsing does nothing.

mod advice;
mod args;
mod doctor;
mod failure;
mod lineage;
mod sampled;

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::model::EventSet;
use crate::session::{
    self, Bound, Cap, Course, DumpOptions, Filter, Governed, InspectionOptions, Options, Output, ProfileKind,
    PsOptions, SitesOutput, Slow, SweepOptions, View, Work,
};
use crate::session::{dump, ps, sweep, trace};
use crate::sink::{Json, Manner, Shows, Sink, SiteSink, SitesJson, SitesText, Spelling, Text};

use args::{Args, Command, Common, Dump, Ps, Reading, Sweep, Tier, Trace};
pub use failure::Failure;

/// Memory that the live stream may use.
const MEMORY: u64 = 1 << 30;

/// Runs the program with these arguments, the program's own name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Who asks what observing costs before there is an answer, or where there is none, must not end it.
    session::take_questions();
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            let wrong = error.use_stderr();
            // Nothing can be done about a closed output here.
            let _ = error.print();
            return if wrong { Failure::usage() } else { ExitCode::SUCCESS };
        }
    };
    let ran = match args.command.unwrap_or(Command::Trace(args.trace)) {
        Command::Trace(args) => run_trace(args),
        Command::Ps(args) => run_ps(&args),
        Command::Dump(args) => run_dump(&args),
        Command::Sweep(args) => run_sweep(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    ran.unwrap_or_else(|failure| failure.report())
}

fn run_trace(args: Trace) -> Result<ExitCode, Failure> {
    match args.tier {
        Some(Tier::Sampled) if args.max_overhead.is_some() => return Err(Failure::SamplesAreNotGoverned),
        Some(Tier::Sampled) if args.stacks => return Err(Failure::StacksNeedBirths),
        Some(Tier::Sampled) => return sampled::run(args),
        Some(Tier::Census) => return Err(Failure::TierIsCensus),
        Some(Tier::Full | Tier::Polls | Tier::Lifecycle | Tier::Spawns) | None => {}
    }
    let tier = args.tier.unwrap_or_default();
    let governed = args.max_overhead.map(|share| Governed { cap: Cap(share.0), top: tier.top() });
    let may_sum = tier == Tier::Polls || governed.is_some_and(|governed| governed.top == session::Tier::Full);
    if let Some(option) = args.sampling.misplaced(may_sum) {
        return Err(Failure::OnlySampled(option));
    }
    let Common { json, .. } = args.common;
    let selection = args.selection().ok_or(Failure::NothingSelected)?;
    let events: EventSet = args.events.map_or(tier.events(), |list| list.0);
    if args.stacks && !events.init {
        return Err(Failure::StacksNeedBirths);
    }
    let sums = may_sum.then(|| args.sampling.interval.map_or(sampled::INTERVAL, |every| every.0));
    let samples = governed.map(|_| sampled::options(&args, selection.clone()));
    let Opened { out, colour } = open(&args.common)?;
    let manner = manner(&args.common, colour);
    let samples = samples.map(|options| (options, sampled::look(json, manner)));
    let sink: Box<dyn Sink> = if json { Box::new(Json::new(events)) } else { Box::new(Text::new(events, manner)) };
    let options = Options {
        selection,
        events,
        slow: slow(args.allow_slow),
        sums,
        stacks: args.stacks,
        governed,
        keep_probes: args.keep_probes.0,
        overhead_every: args.overhead_every.0,
        duration: args.duration.map(|duration| duration.0),
        mechanism: args.attach_with.map(Into::into),
        ring_pages: args.ring_pages,
        bound: Bound(args.max_memory.unwrap_or(MEMORY)),
        work: if args.empty_probes { Work::Nothing } else { Work::Report },
        names: args.common.names(),
        caching: args.common.caching(),
        verbosity: args.common.verbosity(),
    };
    trace(&options, Output { sink, out, samples })?;
    Ok(ExitCode::SUCCESS)
}

fn run_ps(args: &Ps) -> Result<ExitCode, Failure> {
    if let Some(what) = args.lineage.what(args.tasks) {
        return lineage::run(args, what);
    }
    let options = PsOptions {
        inspection: inspection(&args.common, &args.reading)?,
        view: View { filter: filters(&args.reading), sort: args.sort.into(), top: args.top },
        tasks: args.tasks,
    };
    ps(&options, sites_output(&args.common, Shows::Tables)?)?;
    Ok(ExitCode::SUCCESS)
}

fn run_dump(args: &Dump) -> Result<ExitCode, Failure> {
    let options = DumpOptions {
        inspection: inspection(&args.common, &args.reading)?,
        view: View { filter: filters(&args.reading), top: args.top, ..View::default() },
        tasks: args.tasks,
    };
    dump(&options, sites_output(&args.common, Shows::Tables)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether hot points are planted where the kernel must single-step.
fn slow(allowed: bool) -> Slow {
    if allowed { Slow::Allowed } else { Slow::LeftOut }
}

fn run_sweep(args: &Sweep) -> Result<ExitCode, Failure> {
    let course = match &args.every {
        Some(step) => Course::Every { step: step.0, duration: args.duration.map(|duration| duration.0) },
        None => Course::Once { during: args.during.0 },
    };
    let options = SweepOptions {
        inspection: inspection(&args.common, &args.reading)?,
        view: View { filter: filters(&args.reading), ..View::default() },
        samples: args.samples,
        course,
        warm_up: args.warm_up.0,
        trace_spawns: args.trace_spawns,
        slow: slow(args.allow_slow),
    };
    let found = sweep(&options, sites_output(&args.common, Shows::Findings)?)?;
    let fails = args.fail_on.as_ref().is_some_and(|list| list.0.iter().any(|verdict| found.contains(verdict)));
    Ok(if fails { Failure::found() } else { ExitCode::SUCCESS })
}

fn inspection(common: &Common, reading: &Reading) -> Result<InspectionOptions, Failure> {
    Ok(InspectionOptions {
        selection: common.selection().ok_or(Failure::NothingSelected)?,
        names: common.names(),
        caching: common.caching(),
        waits: !reading.no_waits,
        bound: Bound(reading.max_memory),
        verbosity: common.verbosity(),
    })
}

fn filters(reading: &Reading) -> Vec<Filter> {
    reading.filter.iter().map(|text| Filter::new(text)).collect()
}

fn sites_output(common: &Common, shows: Shows) -> Result<SitesOutput, Failure> {
    let profile = common.output.as_deref().and_then(|path| Some((profile_kind(path)?, path)));
    let (Opened { out, colour }, profile) = match profile {
        Some((kind, path)) => (standard_output(), Some((kind, create(path)? as Box<dyn Write>))),
        None => (open(common)?, None),
    };
    let sink: Box<dyn SiteSink> =
        if common.json { Box::new(SitesJson) } else { Box::new(SitesText::new(shows, manner(common, colour))) };
    Ok(SitesOutput { sink, out: Box::new(BufWriter::new(out)), profile })
}

/// What the name of a file asks for.
fn profile_kind(path: &Path) -> Option<ProfileKind> {
    let name = path.file_name()?.to_str()?;
    match name {
        _ if name.ends_with(".pb.gz") => Some(ProfileKind::Pprof),
        _ if name.ends_with(".folded") => Some(ProfileKind::Folded),
        _ => None,
    }
}

/// Where output goes.
struct Opened {
    out: Box<dyn Write + Send>,
    /// It is a terminal, and colours are not refused.
    colour: bool,
}

/// How text looks: with `-v`, names as the compiler spells them.
fn manner(common: &Common, colour: bool) -> Manner {
    let spelling = if common.verbose > 0 { Spelling::Compiler } else { Spelling::Person };
    Manner { colour, spelling }
}

fn open(common: &Common) -> Result<Opened, Failure> {
    match common.output.as_deref().filter(|path| path.as_os_str() != "-") {
        None => Ok(standard_output()),
        Some(path) => Ok(Opened { out: create(path)?, colour: false }),
    }
}

fn standard_output() -> Opened {
    let out = std::io::stdout();
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Opened { out: Box::new(out), colour }
}

fn create(path: &Path) -> Result<Box<dyn Write + Send>, Failure> {
    Ok(Box::new(File::create(path).map_err(|source| Failure::output(path, source))?))
}
