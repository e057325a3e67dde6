//! `cargo xtask demo`: builds, starts a sample service that leaks, attaches to it and shows its life cycle.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::preflight;

/// How long the observer watches.
const WATCH: &str = "6s";
/// How long the service lives at most: it stops by itself, also when the demo is killed.
const SERVICE_SECONDS: &str = "60";

/// Runs the demo.
pub fn run(root: &Path) -> Result<()> {
    preflight::check()?;
    eprintln!("demo: building the observer (release)");
    preflight::cargo(root, &["build", "--release", "--package", "observer"])?;
    let sample = root.join("tests/fixtures/leaky-service");
    eprintln!("demo: building the sample service (release, stripped)");
    preflight::cargo(&sample, &["build", "--release"])?;
    let mut service = Service::start(&sample)?;
    eprintln!(
        "demo: the sample service runs as pid {pid}; one in ten of its connections leaves a task behind\n\
         demo: async-observer --pid {pid} --duration {WATCH}\n",
        pid = service.child.id()
    );
    let status = Command::new(root.join("target/release/async-observer"))
        .args(["--pid", &service.child.id().to_string(), "--duration", WATCH])
        .status()
        .context("starting the observer")?;
    let alive = service.child.try_wait()?.is_none();
    drop(service);
    if !status.success() {
        bail!("the observer ended with {status}; its last lines say why");
    }
    if !alive {
        bail!("the sample service ended while it was observed: that must not happen, please report it");
    }
    eprintln!(
        "\ndemo: done. The last lines list what is alive: the tasks of src/main.rs:14 wait for an answer that nobody will send.\n\
         demo: on your own program: sudo target/release/async-observer --pid PID\n\
         demo: what is stuck or leaking in it, without attaching: sudo target/release/async-observer sweep --pid PID"
    );
    Ok(())
}

/// The sample service, ended when dropped.
struct Service {
    child: Child,
}

impl Service {
    fn start(sample: &Path) -> Result<Self> {
        let mut child = Command::new(sample.join("target/release/leaky-service"))
            .arg(SERVICE_SECONDS)
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the sample service")?;
        let out = child.stdout.take().context("its output is piped")?;
        let service = Self { child };
        let mut first = String::new();
        BufReader::new(out).read_line(&mut first)?;
        if !first.starts_with("serving") {
            bail!("the sample service did not start: it said {first:?}");
        }
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
