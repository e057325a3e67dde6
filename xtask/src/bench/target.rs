//! A program that is measured: started, set to work or waited for, and ended whatever happens.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A program that is observed. Dropping it ends it.
pub(super) struct Target(Child);

impl Target {
    /// Starts it.
    pub(super) fn spawn(program: &Path, arguments: &[String]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Self(command.spawn().with_context(|| format!("starting {}", program.display()))?))
    }

    /// Starts it and waits until it says that it is up.
    pub(super) fn start(program: &Path, arguments: &[String]) -> Result<Self> {
        let mut target = Self::spawn(program, arguments)?;
        let mut line = String::new();
        BufReader::new(target.0.stdout.take().context("is piped")?).read_line(&mut line)?;
        ensure!(line.contains("\"ready\":true"), "{} did not come up: {line}", program.display());
        Ok(target)
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Has it do its work, and gives what it says of it.
    pub(super) fn work(&mut self) -> Result<Value> {
        self.0.stdin.take().context("it works once")?.write_all(b"g")?;
        let mut said = String::new();
        self.0.stdout.take().context("is piped")?.read_to_string(&mut said)?;
        ensure!(self.0.wait()?.success(), "the load failed");
        serde_json::from_str(&said).context("the load's own figures")
    }

    /// Has a program that is up end by itself.
    pub(super) fn end(&mut self) -> Result<()> {
        self.0.stdin.take().context("it ends once")?.write_all(b"end\n")?;
        ensure!(self.0.wait()?.success(), "the program failed");
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It has ended by itself, or is not needed any more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
