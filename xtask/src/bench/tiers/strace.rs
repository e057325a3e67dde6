//! `strace -c -f -p`: it stops the process at every system call, and is a mark on the scale, not a peer.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::process::Pid;
use super::watcher::{Ended, Ending, Watcher};
use crate::bench::tail::Tail;

/// What a machine without it should do.
pub(super) const INSTALL: &str = "apt-get install strace";

/// The version that is here.
pub(super) fn version() -> Option<String> {
    let said = Command::new("strace").arg("-V").output().ok()?;
    String::from_utf8_lossy(&said.stdout).lines().next().map(str::to_owned)
}

/// strace, attached.
pub(super) struct Strace {
    child: Ending,
    rest: Tail,
}

impl Strace {
    /// Attaches it.
    pub(super) fn attach(target: Pid) -> Result<Self> {
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-p", &target.0.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Ending(command.spawn().context("starting strace")?);
        let mut says = BufReader::new(child.0.stderr.take().context("is piped")?);
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            ensure!(says.read_line(&mut line)? > 0, "strace ended before it was attached");
        }
        Ok(Self { child, rest: Tail::of(says) })
    }
}

impl Watcher for Strace {
    fn pid(&self) -> Pid {
        Pid(self.child.0.id())
    }

    fn end(mut self: Box<Self>) -> Result<Ended> {
        self.child.interrupt()?;
        self.rest.end()?;
        Ok(Ended::default())
    }
}
