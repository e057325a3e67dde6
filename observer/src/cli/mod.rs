//! The command line: arguments are text, options are ready objects, parsing does nothing.

mod args;
mod failure;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::model::EventSet;
use crate::session::{Options, Output, Selection, Work, trace};
use crate::sink::{Json, Sink, Text};

use args::{Args, Command, Trace};
pub use failure::Failure;

/// Runs the program with these arguments, the program's own name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            let wrong = error.use_stderr();
            // Nothing can be done about a closed output here.
            let _ = error.print();
            return if wrong { Failure::usage() } else { ExitCode::SUCCESS };
        }
    };
    let traced = match args.command {
        Some(Command::Trace(trace)) => trace,
        None => args.trace,
    };
    match run_trace(traced) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run_trace(args: Trace) -> Result<(), Failure> {
    let selection = if !args.command.is_empty() {
        Selection::Launch(args.command)
    } else if !args.pid.is_empty() || !args.name.is_empty() {
        Selection::Running { pids: args.pid, names: args.name }
    } else {
        return Err(Failure::NothingSelected);
    };
    let events: EventSet = args.events.map_or(EventSet::ALL, |list| list.0);
    let (out, terminal): (Box<dyn Write>, bool) = match args.output.as_deref() {
        None => standard_output(),
        Some(path) if path.as_os_str() == "-" => standard_output(),
        Some(path) => {
            let file = std::fs::File::create(path).map_err(|source| Failure::output(path, source))?;
            (Box::new(file), false)
        }
    };
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let sink: Box<dyn Sink> = if args.json { Box::new(Json::new(events)) } else { Box::new(Text::new(events, colour)) };
    let options = Options {
        selection,
        events,
        duration: args.duration.map(|duration| duration.0),
        mechanism: args.attach_with.map(Into::into),
        ring_pages: args.ring_pages,
        work: if args.empty_probes { Work::Nothing } else { Work::Report },
        names: !args.no_names,
        verbosity: if args.quiet { 0 } else { 1 + args.verbose },
    };
    trace(&options, Output { sink, out }).map_err(Failure::from)
}

fn standard_output() -> (Box<dyn Write>, bool) {
    let out = std::io::stdout();
    let terminal = out.is_terminal();
    (Box::new(out), terminal)
}
