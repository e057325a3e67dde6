//! A load at work: it says that it is ready, works when it is told to, says what that cost, and lives until it is let go.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::load::{Load, built, on_one_cpu};
use super::process::Pid;

/// How many requests the client of the server makes while somebody looks.
pub(super) const REQUESTS: u64 = 48_000;
/// And before, and after, while nobody does.
pub(super) const BARE_REQUESTS: u64 = 24_000;
/// And before the measuring begins; the other loads warm up by themselves.
const WARM: u64 = 3_200;

/// What a load says of its work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// How often it did what it does.
    pub(super) count: u64,
    /// CPU time of its whole process.
    pub(super) cpu: Duration,
    /// Time on the clock.
    pub(super) elapsed: Duration,
}

/// A running load. Dropping it ends it.
pub(super) struct Steered {
    child: Child,
    load: Load,
    orders: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
    ready: Value,
}

impl Steered {
    /// Starts the program of this load, and waits until it is ready.
    pub(super) fn start(root: &Path, load: Load) -> Result<Self> {
        Self::run(load, &mut load.command(&load.program(root))?)
    }

    /// Runs a program that has this load, and waits until it is ready.
    pub(super) fn run(load: Load, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
        let says = BufReader::new(child.stdout.take().context("is piped")?);
        let orders = child.stdin.take();
        let mut steered = Self { child, load, orders, says, ready: Value::Null };
        steered.ready = steered.line()?;
        ensure!(steered.ready["ready"] == true, "the load {} is not ready: {}", load.word(), steered.ready);
        Ok(steered)
    }

    /// Its process.
    pub(super) fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    /// Has it do what it does before it is measured, if it does not so by itself; gives how often.
    pub(super) fn warm(&self, root: &Path) -> Result<u64> {
        if self.load != Load::Hello {
            return Ok(0);
        }
        self.ask(root, WARM)?;
        Ok(WARM)
    }

    /// Has it work; the server, answer so many requests. That can be asked of it again, and of the others once.
    pub(super) fn work(&mut self, root: &Path, requests: u64) -> Result<Work> {
        self.order()?;
        if self.load == Load::Hello {
            ensure!(self.line()?["measuring"] == true, "the server does not measure");
            self.ask(root, requests)?;
            self.order()?;
        }
        let said = self.line()?;
        let figure = |name: &str| said[name].as_u64().with_context(|| format!("the load does not tell {name}: {said}"));
        Ok(Work {
            count: figure("count")?,
            cpu: Duration::from_nanos(figure("cpuNs")?),
            elapsed: Duration::from_nanos(figure("elapsedNs")?),
        })
    }

    /// Lets it go.
    pub(super) fn end(mut self) -> Result<()> {
        drop(self.orders.take());
        ensure!(self.child.wait()?.success(), "the load {} failed", self.load.word());
        Ok(())
    }

    /// Has a client make this many requests.
    fn ask(&self, root: &Path, requests: u64) -> Result<()> {
        let port = self.ready["port"].as_u64().context("the server tells its port")?;
        let mut client = on_one_cpu(&built(root, "requests"))?;
        let client = client.args([port, requests].map(|n| n.to_string())).status().context("starting the client")?;
        ensure!(client.success(), "the client failed");
        Ok(())
    }

    fn order(&mut self) -> Result<()> {
        let orders = self.orders.as_mut().context("it has not been let go")?;
        orders.write_all(b"g").and_then(|()| orders.flush()).context("the load does not listen")
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the load {} said {line:?}", self.load.word()))
    }
}

impl Drop for Steered {
    fn drop(&mut self) {
        // It has ended by itself unless something failed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
