//! One guest: booted, listened to, and ended, whatever it does.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::suite::Suite;

/// What the guest's first process begins its lines with.
const SAYS: &str = "vm-init:";
const KERNEL_LINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on";
const MEMORY: &str = "2048";
/// As many as tests of several threads need.
const CPUS: &str = "2";

/// A running guest. Dropping it kills it.
pub struct Guest {
    emulator: Child,
    lines: Receiver<String>,
}

/// What a guest has said.
#[derive(Debug, Default)]
pub struct Report {
    /// Its kernel's release.
    pub kernel: String,
    /// Tests that passed.
    pub passed: u32,
    /// By run: whether its tests all passed, and how many there were.
    runs: Vec<(bool, u32)>,
    done: bool,
    failure: Option<String>,
}

impl Guest {
    /// Boots a kernel with this initramfs.
    pub fn boot(kernel: &Path, initramfs: &Path) -> Result<Self> {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", MEMORY, "-smp", CPUS]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]);
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs).args(["-append", KERNEL_LINE]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut emulator = command.spawn().context("starting qemu-system-x86_64")?;
        let console = emulator.stdout.take().context("the console is piped")?;
        let (say, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { emulator, lines })
    }

    /// Listens until it powers off; passes on what it says.
    pub fn watch(mut self, limit: Duration) -> Result<Report> {
        let deadline = Instant::now() + limit;
        let mut report = Report::default();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    eprintln!("  | {line}");
                    report.take(&line);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let began = report.runs.len();
                    bail!("the guest was not done after {limit:?}, {began} runs of tests had ended");
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.emulator.wait().context("waiting for the emulator")?;
                    return Ok(report);
                }
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        self.emulator.kill().ok();
        self.emulator.wait().ok();
    }
}

impl Report {
    fn take(&mut self, line: &str) {
        if let Some(said) = line.strip_prefix(SAYS).map(str::trim) {
            match said.split_once(' ') {
                Some(("kernel", release)) => self.kernel = release.to_owned(),
                Some(("failed:", reason)) => self.failure = Some(reason.to_owned()),
                None if said == "done" => self.done = true,
                _ => {}
            }
        } else if let Some(result) = line.strip_prefix("test result: ") {
            let passed = result.split_once(" passed").and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
            let passed = passed.unwrap_or(0);
            self.passed += passed;
            self.runs.push((result.starts_with("ok."), passed));
        }
    }

    /// Why it is not as it should be: every run must have ended well and have run at least a test for each word.
    pub fn faults(&self, suite: &Suite) -> Vec<String> {
        let mut faults: Vec<String> = self.failure.iter().map(|reason| format!("the guest failed: {reason}")).collect();
        for (n, run) in suite.runs.iter().enumerate() {
            match self.runs.get(n) {
                Some((true, passed)) if *passed as usize >= run.tests.len() => {}
                Some((true, passed)) => {
                    faults.push(format!("{}: {passed} tests ran, {} were wanted", run.name, run.tests.len()));
                }
                Some((false, _)) => faults.push(format!("{}: tests failed, see above", run.name)),
                None => faults.push(format!("{}: did not end", run.name)),
            }
        }
        if !self.done {
            faults.push("the guest did not say that it was done".to_owned());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::suite::Run;
    use super::*;

    fn suite() -> Suite {
        let run = |name, tests| Run { name, tests, program: PathBuf::new() };
        Suite { runs: vec![run("a", &["x", "y"]), run("b", &["z"])], init: PathBuf::new(), observer: PathBuf::new() }
    }

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        lines.iter().for_each(|line| report.take(line));
        report
    }

    #[test]
    fn a_guest_is_well_if_every_run_ended_well_with_the_tests_that_were_wanted() {
        let lines = [
            "vm-init: kernel 6.1.0-56-cloud-amd64",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.21s",
            "vm-init: /tests/a: exit status: 0 in 1.2 s",
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.21s",
            "vm-init: done",
        ];
        let well = report(&lines);
        assert_eq!((well.kernel.as_str(), well.passed), ("6.1.0-56-cloud-amd64", 3));
        assert_eq!(well.faults(&suite()), Vec::<String>::new());
        assert_eq!(report(&lines[..4]).faults(&suite()), ["the guest did not say that it was done"]);
    }

    #[test]
    fn runs_that_failed_are_missing_or_ran_too_little_are_faults() {
        let faults = report(&["test result: ok. 1 passed; 0 failed", "vm-init: done"]).faults(&suite());
        assert_eq!(faults, ["a: 1 tests ran, 2 were wanted", "b: did not end"]);
        let faults = report(&["test result: FAILED. 2 passed; 1 failed", "vm-init: failed: no proc"]).faults(&suite());
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
