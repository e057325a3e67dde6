//! The observer at work, of which only a few lines are kept.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::interrupt::interrupt;
use super::tail::Tail;

/// A running observer of which only the first and the last line are kept. A thread reads what it writes all the time:
/// an observer whose reader does not read loses records.
pub(super) struct Observer {
    child: Child,
    rest: Option<Tail>,
    start: Value,
    first: Option<Duration>,
}

impl Observer {
    /// Starts it with these arguments and waits for its `start` line.
    pub(super) fn attach(root: &Path, pids: &[u32], arguments: &[&str]) -> Result<Self> {
        Self::begin(root, pids, arguments, false)
    }

    /// As [`Self::attach`]; waits for the first event of a task, too.
    pub(super) fn see_first(root: &Path, pid: u32, arguments: &[&str]) -> Result<Self> {
        Self::begin(root, &[pid], arguments, true)
    }

    fn begin(root: &Path, pids: &[u32], arguments: &[&str], until_event: bool) -> Result<Self> {
        let began = Instant::now();
        let mut child = Command::new(root.join("target/release/async-observer"))
            .args(arguments)
            .arg("--json")
            .args(pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]))
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the observer")?;
        let mut lines = BufReader::new(child.stdout.take().context("is piped")?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let start = serde_json::from_str(&line).context("the observer did not start; its last words say why")?;
        let first = if until_event { Some(first_event(&mut lines, began)?) } else { None };
        Ok(Self { child, rest: Some(Tail::of(lines)), start, first })
    }

    /// Its first line.
    pub(super) fn start(&self) -> &Value {
        &self.start
    }

    /// From its start to the first event it printed, if that was waited for.
    pub(super) fn first(&self) -> Option<Duration> {
        self.first
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it, as ^C does; gives its last line.
    pub(super) fn interrupt(&mut self) -> Result<Value> {
        Ok(self.stop()?.0)
    }

    /// Ends it, as ^C does; gives its last line, and how many there were after the first.
    pub(super) fn stop(&mut self) -> Result<(Value, u64)> {
        interrupt(&mut self.child).context("the observer")?;
        self.ended()
    }

    /// Waits for its end; gives its last line.
    pub(super) fn end(&mut self) -> Result<Value> {
        Ok(self.ended()?.0)
    }

    fn ended(&mut self) -> Result<(Value, u64)> {
        let rest = self.rest.take().context("the end is read once")?.end()?;
        ensure!(self.child.wait()?.success(), "the observer failed");
        Ok((serde_json::from_str(&rest.last).context("the observer's last line")?, rest.lines))
    }
}

/// How long it took until something was seen to happen. What was there before is no event.
fn first_event(lines: &mut BufReader<ChildStdout>, began: Instant) -> Result<Duration> {
    let mut line = String::new();
    loop {
        line.clear();
        ensure!(lines.read_line(&mut line)? > 0, "the observer ended without an event");
        let is = |event: &str| line.contains(&format!("\"event\":\"{event}\""));
        if is("before") || is("after") || (is("init") && line.contains("\"existing\":false")) {
            return Ok(began.elapsed());
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // It has ended by itself unless something failed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
