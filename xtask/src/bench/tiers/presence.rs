//! Which rows can be measured here, found out before anything is: a tier that the binary does not know yet, or a peer that is not
//! installed, stays in the table with its reason.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::bpftrace::Job;
use super::rebuilt::Rebuilt;
use super::row::How;
use super::{bpftrace, strace};

/// How a row is measured here.
#[derive(Clone, Debug)]
pub(super) enum Presence {
    /// Nobody looks.
    Bare,
    /// Our binary with these arguments.
    Ours(&'static [&'static str]),
    /// bpftrace, what it is told to do, and its version.
    Bpftrace(Job, String),
    /// strace of this version.
    Strace(String),
    /// A rebuilt program, with or without a client.
    Rebuilt { peer: Rebuilt, client: bool },
    /// Not at all, for this reason.
    Missing(String),
}

impl Presence {
    /// Finds out.
    pub(super) fn of(root: &Path, how: How) -> Result<Self> {
        Ok(match how {
            How::Bare => Self::Bare,
            How::Ours(lines) => ours(root, lines)?,
            How::Bpftrace(job) => {
                installed(bpftrace::version().map(|version| Self::Bpftrace(job, version)), bpftrace::INSTALL)
            }
            How::Strace => installed(strace::version().map(Self::Strace), strace::INSTALL),
            How::Console { client } => rebuilt(root, Rebuilt::Console, client),
            How::Dial9 => rebuilt(root, Rebuilt::Dial9, false),
            How::Unobtainable(reason) => Self::Missing(format!("not measured: {reason}")),
        })
    }

    /// What is run, or why it is not.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Bare => "nobody looks".to_owned(),
            Self::Ours(line) => format!("`async-observer {}`", line.join(" ")),
            Self::Bpftrace(job, version) => {
                format!("{version}: entry and return of the same poll functions, {}", job.text())
            }
            Self::Strace(version) => format!("{version}: `strace -c -f -p PID`"),
            Self::Rebuilt { peer, client: false } => peer.text().to_owned(),
            Self::Rebuilt { peer, client: true } => format!("{}, and a client that reads all updates", peer.text()),
            Self::Missing(reason) => reason.clone(),
        }
    }
}

fn installed(found: Option<Presence>, install: &str) -> Presence {
    found.unwrap_or_else(|| Presence::Missing(format!("missing: not installed here ({install})")))
}

fn rebuilt(root: &Path, peer: Rebuilt, client: bool) -> Presence {
    match peer.build(root) {
        Ok(()) => Presence::Rebuilt { peer, client },
        Err(error) => Presence::Missing(format!("missing: could not be built here ({error:#})")),
    }
}

/// The first command line that the binary accepts.
fn ours(root: &Path, lines: &'static [&'static [&'static str]]) -> Result<Presence> {
    for line in lines {
        if accepts(root, line)? {
            return Ok(Presence::Ours(line));
        }
    }
    let newest = lines.first().context("a row of ours has a command line")?.join(" ");
    Ok(Presence::Missing(format!("not there: this async-observer does not know `{newest}`")))
}

/// Whether it understands these arguments: it is shown our own process, in which there is nothing to observe.
fn accepts(root: &Path, arguments: &[&str]) -> Result<bool> {
    /// The exit code for a usage error.
    const USAGE: i32 = 2;
    let status = Command::new(root.join("target/release/async-observer"))
        .args(arguments)
        .args(["--no-cache", "--pid", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("starting the observer")?;
    Ok(status.code() != Some(USAGE))
}
