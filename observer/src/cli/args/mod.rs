//! What can be said on the command line, and how it is explained.

mod common;
mod doctor;
mod sites;
mod tier;
mod trace;
mod values;

use clap::{Parser, Subcommand};

pub(super) use common::Common;
pub(super) use doctor::Doctor;
pub(super) use sites::{Dump, Ps, Reading, Sweep};
pub(super) use tier::{By, Sampling, Tier};
pub(super) use trace::Trace;

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
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(Trace),
    /// List the tasks that live now, by type and place; no probe is attached (but with --tree and --by-root)
    #[command(after_help = PS_EXAMPLES)]
    Ps(Ps),
    /// Say where each task waits: its await stack, from the outermost future to the innermost; no probe is attached
    #[command(after_help = DUMP_EXAMPLES)]
    Dump(Dump),
    /// Find stuck, leaking and suspect tasks, with evidence; no probe is attached
    #[command(after_help = SWEEP_EXAMPLES)]
    Sweep(Sweep),
    /// Try what observing needs, each real system call: what works, what is missing, the next step for each
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Doctor),
}

const EXAMPLES: &str = "\
Examples:
  sudo async-observer --pid 4242              every event of process 4242, until ^C
  sudo async-observer ps --pid 4242           which tasks live in it now, by type and place
  sudo async-observer dump --pid 4242         where each of them waits, future by future
  sudo async-observer sweep --pid 4242        which of them are stuck or leaking, with evidence
  sudo async-observer doctor                  what works on this machine, and what is missing

Exit codes:
  0 done (also when the target ends)   1 run-time error   2 usage   3 no such process, or it is gone
  4 not permitted   5 nothing to observe in it   6 this kernel cannot   10 found what --fail-on names";

const TRACE_EXAMPLES: &str = "\
Examples:
  sudo async-observer --pid 4242                      every event of process 4242, until ^C
  sudo async-observer --pid 4242 --json -d 10s -o t.jsonl   ten seconds of JSON Lines into a file
  sudo async-observer --name my-server --events init,destroy   births and deaths only, and only their probes
  sudo async-observer trace --pid 4242 --max-overhead 2%   less is told while more than 2 % would be added to its CPU time
  sudo async-observer trace --pid 4242 --tier sampled who runs and who blocks, second by second; nothing is planted
  sudo async-observer trace --pid 4242 --tier sampled --by task --hz 499 --blocking 50ms
  sudo async-observer trace --all --tier sampled       the same of all processes, also of those that start later
  sudo async-observer -- ./my-server --port 80        launch it and observe from the first instruction";

const PS_EXAMPLES: &str = "\
Examples:
  sudo async-observer ps --pid 4242                   types by number of live tasks
  sudo async-observer ps --pid 4242 --top 5 --sort stuck
  sudo async-observer ps --name my-server --tasks --filter src/conn.rs   each task of one file
  sudo async-observer ps --pid 4242 --tree --for 30s  which types spawn which, and what they take, in half a minute
  sudo async-observer ps --pid 4242 --by-root --top 10   the requests (or whatever began it all) that are busiest
  sudo async-observer ps --pid 4242 --json            one JSON object a line";

const DUMP_EXAMPLES: &str = "\
Examples:
  sudo async-observer dump --pid 4242                 where the tasks wait, those that wait in the same way together
  sudo async-observer dump --pid 4242 --top 10
  sudo async-observer dump --name my-server --tasks --filter src/conn.rs   each task of one file
  sudo async-observer dump --pid 4242 --json          one JSON object a group

Await stacks are read from the futures' own state in memory, by the debug information of their types: the program must have been
built with debug = 2 (or \"full\"). Without it, what each task waits for is told as far as its waker's holder tells it.";

const SWEEP_EXAMPLES: &str = "\
Examples:
  sudo async-observer sweep --pid 4242                five readings in ten seconds, then the verdicts
  sudo async-observer sweep --pid 4242 --for 10m --samples 20   slow leaks need more time
  sudo async-observer sweep --name my-server --every 30s        go on, say what arises and vanishes
  sudo async-observer sweep --pid 4242 --trace-spawns           and where the growing ones are spawned
  sudo async-observer sweep --pid 4242 --fail-on stuck,leaking  exit code 10 if found, for pipelines
  sudo async-observer sweep --pid 4242 -o leaks.pb.gz && go tool pprof -top leaks.pb.gz";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  sudo async-observer doctor                          what works on this machine, and the next step for what does not
  sudo async-observer doctor --pid 4242               and what would be observed in process 4242
  async-observer doctor --json                        one JSON object a line

Nothing is attached to any process but copies of the doctor itself, which it ends.
The exit code is 0 if anything can be observed (of the processes named, if any are), else that of observing: 3, 4, 5 or 6.";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use super::values::Span;
    use super::*;
    use crate::model::Pid;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_bare_pid_is_the_live_stream() {
        let args = Args::try_parse_from(["async-observer", "--pid", "42", "-d", "1500ms"]).expect("valid");
        assert_eq!(
            (args.trace.common.pid, args.trace.duration),
            (vec![Pid(42)], Some(Span(Duration::from_millis(1500))))
        );
    }

    #[test]
    fn a_command_to_launch_keeps_its_own_options() {
        let args = Args::try_parse_from(["async-observer", "trace", "--json", "--", "server", "--pid", "x"]);
        let Some(Command::Trace(trace)) = args.expect("valid").command else { panic!("is trace") };
        assert_eq!(trace.command, ["server", "--pid", "x"]);
    }

    #[test]
    fn a_pid_to_attach_and_a_command_to_launch_exclude_each_other() {
        assert!(Args::try_parse_from(["async-observer", "--pid", "1", "--", "true"]).is_err());
    }
}
