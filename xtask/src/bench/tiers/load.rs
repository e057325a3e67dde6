//! The loads that are observed, one program each, and in which unit their cost is said.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::process;

/// A load of tests/fixtures/bench-load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Load {
    /// Many cheap polls
    Polls,
    /// Spawn and await
    Spawns,
    /// An HTTP server; the client is a process of its own
    Hello,
    /// 100 000 idle tasks; what is measured is memory
    Idle,
}

impl Load {
    /// In the order in which they run.
    pub(super) const ALL: [Self; 4] = [Self::Polls, Self::Spawns, Self::Hello, Self::Idle];
    /// Those whose cost is time.
    pub(super) const TIMED: [Self; 3] = [Self::Polls, Self::Spawns, Self::Hello];

    /// The name of its program, which is also its word for programs that hold all loads.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Polls => "polls",
            Self::Spawns => "spawns",
            Self::Hello => "hello",
            Self::Idle => "idle",
        }
    }

    /// How often a row runs it in this round, of rounds counted from 0.
    pub(super) fn times(self, round: usize) -> usize {
        match self {
            Self::Polls | Self::Spawns => 1,
            // What is asked is a hundredth of what a request costs, where what is asked of the others is a multiple.
            Self::Hello => 2,
            // Memory hardly differs from round to round, and some peers take long to fill it.
            Self::Idle => usize::from(round < 2),
        }
    }

    /// What its cost is told for.
    pub(super) fn thing(self) -> &'static str {
        match self {
            Self::Polls => "poll",
            Self::Spawns => "spawn + await",
            Self::Hello => "HTTP request",
            Self::Idle => "idle task",
        }
    }

    /// The unit that a table shows, and how many nanoseconds it has.
    pub(super) fn unit(self) -> (&'static str, f64) {
        match self {
            Self::Hello => ("us", 1e3),
            Self::Polls | Self::Spawns | Self::Idle => ("ns", 1.0),
        }
    }

    /// Its program, built.
    pub(super) fn program(self, root: &Path) -> PathBuf {
        built(root, self.word())
    }

    /// Runs a program that has this load.
    pub(super) fn command(self, program: &Path) -> Result<Command> {
        match self {
            Self::Hello => on_one_cpu(program),
            Self::Polls | Self::Spawns | Self::Idle => Ok(Command::new(program)),
        }
    }
}

/// Runs a program on the first CPU that we may use. The server and its client share one: so the client asks on all of its
/// connections before the server comes to answer. On two CPUs the faster of them would decide how many requests the server finds
/// at a time, and an observer that slows it down would seem to cost less than it does.
pub(super) fn on_one_cpu(program: &Path) -> Result<Command> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &process::first_cpu()?.to_string()]).arg(program);
    Ok(command)
}

/// A program of the loads' workspace.
pub(super) fn built(root: &Path, program: &str) -> PathBuf {
    workspace(root).join("target/release").join(program)
}

/// Where the loads stand.
pub(super) fn workspace(root: &Path) -> PathBuf {
    root.join("tests/fixtures/bench-load")
}

/// The arguments of cargo that build all of them and the client.
pub(super) const BUILD: &[&str] = &[
    "build",
    "--quiet",
    "--locked",
    "--release",
    "--bin",
    "polls",
    "--bin",
    "spawns",
    "--bin",
    "hello",
    "--bin",
    "idle",
    "--bin",
    "requests",
];
