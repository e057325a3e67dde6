//! What can be said on the command line, and how it is explained.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::model::{EventSet, Pid};
use crate::session::Attaching;

/// Shows the life of every async task in a running, unmodified Tokio program.
#[derive(Debug, Parser)]
#[command(name = "async-observer", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) trace: Trace,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Stream init, before, after, resolve and destroy of every task (the same as no command)
    #[command(after_help = EXAMPLES)]
    Trace(Trace),
}

const EXAMPLES: &str = "\
Examples:
  sudo async-observer --pid 4242                      every event of process 4242, until ^C
  sudo async-observer --pid 4242 --json -d 10s -o t.jsonl   ten seconds of JSON Lines into a file
  sudo async-observer --name my-server --events init,destroy   births and deaths only, and only their probes
  sudo async-observer -- ./my-server --port 80        launch it and observe from the first instruction

Exit codes:
  0 done (also when the target ends)   1 run-time error   2 usage   3 no such process, or it is gone
  4 not permitted   5 nothing to observe in it   6 this kernel cannot";

/// Options of `trace`.
#[derive(Debug, clap::Args)]
pub(super) struct Trace {
    /// Observe this process (repeatable)
    #[arg(short, long, value_name = "PID", value_parser = parse_pid)]
    pub(super) pid: Vec<Pid>,

    /// Observe the processes whose name is NAME, as `ps -o comm` shows it (repeatable)
    #[arg(short, long, value_name = "NAME")]
    pub(super) name: Vec<String>,

    /// Stop after this long: 500ms, 10s, 5m, 1h
    #[arg(short, long, value_name = "TIME")]
    pub(super) duration: Option<Span>,

    /// Write the events there; - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,

    /// JSON Lines instead of text
    #[arg(long)]
    pub(super) json: bool,

    /// Only these events, and only the probes they need: init,before,after,resolve,destroy
    #[arg(long, value_name = "LIST")]
    pub(super) events: Option<EventList>,

    /// Do not look for the names of future types (faster on very large images)
    #[arg(long)]
    pub(super) no_names: bool,

    /// How to attach; without it: uprobe-multi where the kernel has it
    #[arg(long, value_name = "HOW")]
    pub(super) attach_with: Option<How>,

    /// Size of each CPU's ring in pages of 4 KiB, a power of two
    #[arg(long, value_name = "PAGES", default_value_t = 1024, value_parser = parse_pages)]
    pub(super) ring_pages: usize,

    /// Attach probes that do nothing, to measure what the hits alone cost
    #[arg(long, hide = true)]
    pub(super) empty_probes: bool,

    /// Say less on standard error
    #[arg(short, long, conflicts_with = "verbose")]
    pub(super) quiet: bool,

    /// Say more on standard error; twice: what the kernel side logs, too
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,

    /// Launch this program and observe it from its first instruction
    #[arg(last = true, value_name = "CMD", conflicts_with_all = ["pid", "name"])]
    pub(super) command: Vec<OsString>,
}

/// How probes are attached.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum How {
    /// One link per program and image (Linux 6.6 and later)
    UprobeMulti,
    /// One perf event per point: slow to detach, works everywhere
    Uprobes,
}

impl From<How> for Attaching {
    fn from(how: How) -> Self {
        match how {
            How::UprobeMulti => Self::UprobeMulti,
            How::Uprobes => Self::PlainUprobes,
        }
    }
}

/// A list of event words.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventList(pub(super) EventSet);

impl FromStr for EventList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut set = EventSet::NONE;
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let flag = match word {
                "init" => &mut set.init,
                "before" => &mut set.before,
                "after" => &mut set.after,
                "resolve" => &mut set.resolve,
                "destroy" => &mut set.destroy,
                _ => return Err(format!("`{word}` is none of init, before, after, resolve, destroy")),
            };
            *flag = true;
        }
        if set == EventSet::NONE { Err("no event named".to_owned()) } else { Ok(Self(set)) }
    }
}

/// A span of time with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A bare number is seconds, as with sleep(1) and timeout(1).
        if let Ok(seconds) = text.parse::<u32>() {
            return Ok(Self(Duration::from_secs(seconds.into())));
        }
        humantime::parse_duration(text).map(Self).map_err(|error| format!("{error} (for example 500ms, 10s, 5m)"))
    }
}

fn parse_pid(text: &str) -> Result<Pid, String> {
    match text.parse::<u32>() {
        Ok(0) | Err(_) => Err("a process id is a number above 0".to_owned()),
        Ok(pid) => Ok(Pid(pid)),
    }
}

/// Largest ring: 1 GiB a CPU.
const MOST_PAGES: usize = 1 << 18;

fn parse_pages(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(pages) if pages.is_power_of_two() && pages <= MOST_PAGES => Ok(pages),
        _ => Err(format!("a power of two from 1 to {MOST_PAGES}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_bare_pid_is_the_live_stream() {
        let args = Args::try_parse_from(["async-observer", "--pid", "42", "-d", "1500ms"]).expect("valid");
        assert_eq!((args.trace.pid, args.trace.duration), (vec![Pid(42)], Some(Span(Duration::from_millis(1500)))));
    }

    #[test]
    fn a_command_to_launch_keeps_its_own_options() {
        let args = Args::try_parse_from(["async-observer", "trace", "--json", "--", "server", "--pid", "x"]);
        let Some(Command::Trace(trace)) = args.expect("valid").command else { panic!("is trace") };
        assert_eq!(trace.command, ["server", "--pid", "x"]);
    }

    #[test]
    fn what_is_no_event_is_refused_by_name() {
        let error = "init,birth".parse::<EventList>().expect_err("birth is no event");
        assert!(error.contains("`birth`"), "{error}");
    }

    #[test]
    fn a_pid_to_attach_and_a_command_to_launch_exclude_each_other() {
        assert!(Args::try_parse_from(["async-observer", "--pid", "1", "--", "true"]).is_err());
    }
}
