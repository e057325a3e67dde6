//! Peers that are built into the program they look at: the same loads in a workspace of their own, rebuilt for each.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::load::Load;
use super::process::Pid;
use super::steered::Steered;
use super::watcher::{Ended, Ending, Watcher};
use crate::preflight;

/// A peer that wants the program rebuilt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rebuilt {
    /// tokio-console's subscriber.
    Console,
    /// dial9's hooks.
    Dial9,
}

impl Rebuilt {
    /// Builds the loads with it.
    pub(super) fn build(self, root: &Path) -> Result<()> {
        preflight::cargo(&self.workspace(root), &["build", "--quiet", "--locked", "--release"])
    }

    /// Starts a load; its peer may be spoken to at this port.
    pub(super) fn start(self, root: &Path, load: Load, port: Port) -> Result<Steered> {
        let mut command = load.command(&self.program(root, self.name()))?;
        command.arg(load.word()).env("TOKIO_CONSOLE_BIND", format!("{}:{}", Ipv4Addr::LOCALHOST, port.0));
        Steered::run(load, &mut command)
    }

    /// What it is said to be in the table of rows.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Console => "the loads rebuilt with console-subscriber (tests/fixtures/bench-console)",
            Self::Dial9 => "the loads rebuilt with dial9-tokio-telemetry (tests/fixtures/bench-dial9)",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Console => "bench-console",
            Self::Dial9 => "bench-dial9",
        }
    }

    fn workspace(self, root: &Path) -> PathBuf {
        root.join("tests/fixtures").join(self.name())
    }

    fn program(self, root: &Path, program: &str) -> PathBuf {
        self.workspace(root).join("target/release").join(program)
    }
}

/// A port on loopback.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port(u16);

impl Port {
    /// One that nobody listens at now.
    pub(super) fn free() -> Result<Self> {
        Ok(Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port()))
    }
}

/// A client that listens to a console's subscriber, as `tokio-console` does, and shows nothing.
pub(super) struct Client(Ending);

impl Client {
    /// Connects it to the subscriber of a load that was started with this port.
    pub(super) fn attach(root: &Path, port: Port) -> Result<Self> {
        let mut command = Command::new(Rebuilt::Console.program(root, "console-client"));
        command.arg(port.0.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = Ending(command.spawn().context("starting the console's client")?);
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().context("is piped")?).read_line(&mut line)?;
        ensure!(line.trim() == "connected", "the console's client said {line:?}");
        Ok(Self(child))
    }
}

impl Watcher for Client {
    fn pid(&self) -> Pid {
        Pid(self.0.0.id())
    }

    fn end(mut self: Box<Self>) -> Result<Ended> {
        self.0.terminate()?;
        Ok(Ended::default())
    }
}
