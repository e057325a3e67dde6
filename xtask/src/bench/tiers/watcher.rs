//! Somebody who looks at a process: attached, asked for what it costs itself, and taken out.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::process::Pid;
use crate::bench::interrupt::{interrupt, terminate};
use crate::bench::observer::Observer;
use crate::bench::tail::Tail;

/// Somebody who looks, attached.
pub(super) trait Watcher {
    /// Its own process.
    fn pid(&self) -> Pid;
    /// Takes it out, the target still living.
    fn end(self: Box<Self>) -> Result<Ended>;
}

/// What one who looked tells, or is told of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    /// What attaching alone took, if it says so.
    pub(super) attaching: Option<Duration>,
    /// What detaching alone took, if it says so.
    pub(super) detaching: Option<Duration>,
    /// Events that it told, if it tells any.
    pub(super) events: Option<u64>,
    /// What it says it lost.
    pub(super) lost: Option<u64>,
    /// Tasks that it says live at its end.
    pub(super) live: Option<u64>,
    /// CPU time that it says it has added to the target, if it says so.
    pub(super) estimated: Option<Duration>,
}

/// The async-observer, with the arguments of a row.
pub(super) struct Ours(Observer);

impl Ours {
    /// Attaches it.
    pub(super) fn attach(root: &Path, target: Pid, arguments: &[&str]) -> Result<Self> {
        Ok(Self(Observer::attach(root, &[target.0], &[arguments, &["--no-cache"]].concat())?))
    }
}

impl Watcher for Ours {
    fn pid(&self) -> Pid {
        Pid(self.0.pid())
    }

    fn end(mut self: Box<Self>) -> Result<Ended> {
        let (end, lines) = self.0.stop()?;
        let took = |of: &Value, name: &str| of[name].as_f64().map(|ms| Duration::from_secs_f64(ms / 1e3));
        Ok(Ended {
            attaching: took(self.0.start(), "attachMs"),
            detaching: took(&end, "detachMs"),
            // Its last line is no event.
            events: Some(lines.saturating_sub(1)),
            lost: end["totals"]["lost"].as_u64(),
            live: end["totals"]["live"].as_u64(),
            estimated: end["overhead"]["addedNs"].as_u64().map(Duration::from_nanos),
        })
    }
}

/// A child process that is ended whatever happens.
pub(super) struct Ending(pub(super) Child);

impl Ending {
    /// Ends it as ^C does, and waits.
    pub(super) fn interrupt(&mut self) -> Result<()> {
        interrupt(&mut self.0)
    }

    /// Ends one that does not listen to ^C, and waits.
    pub(super) fn terminate(&mut self) -> Result<()> {
        terminate(&mut self.0)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // It has ended unless something failed before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A tool that writes to a pipe and says there that it is attached.
pub(super) struct Peer {
    child: Ending,
    rest: Tail,
}

impl Peer {
    /// Waits until a line says that it is attached.
    pub(super) fn attached(
        name: &str,
        child: Ending,
        pipe: impl Read + Send + 'static,
        says_so: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let mut says = BufReader::new(pipe);
        let mut line = String::new();
        while !says_so(&line) {
            line.clear();
            ensure!(says.read_line(&mut line)? > 0, "{name} ended before it was attached");
        }
        Ok(Self { child, rest: Tail::of(says) })
    }
}

impl Watcher for Peer {
    fn pid(&self) -> Pid {
        Pid(self.child.0.id())
    }

    fn end(mut self: Box<Self>) -> Result<Ended> {
        self.child.interrupt()?;
        self.rest.end()?;
        Ok(Ended::default())
    }
}
