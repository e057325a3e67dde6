//! `strace -c -f -p`: it stops the process at every system call, and is a mark on the scale, not a peer.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::process::Pid;
use super::watcher::{Ending, Peer};

/// What a machine without it should do.
pub(super) const INSTALL: &str = "apt-get install strace";

/// The version that is here.
pub(super) fn version() -> Option<String> {
    let said = Command::new("strace").arg("-V").output().ok()?;
    String::from_utf8_lossy(&said.stdout).lines().next().map(str::to_owned)
}

/// Attaches it.
pub(super) fn attach(target: Pid) -> Result<Peer> {
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-p", &target.0.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Ending(command.spawn().context("starting strace")?);
    let says = child.0.stderr.take().context("is piped")?;
    Peer::attached("strace", child, says, |line| line.contains("attached"))
}
