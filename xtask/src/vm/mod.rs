//! `cargo xtask vm`: the live tests on other kernels than this machine's, in virtual machines without hardware's help.
//!
//! A guest has a disk with the very programs and tests that run here, at the same paths; its first process is `vm-init`
//! of the tests. Does not know what the tests test.

mod disk;
mod guest;
mod left_out;
mod packages;
mod report;
mod suite;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};

use guest::{Guest, Heard, Machine};
use packages::Kernel;
use report::{Outcome, Report};
use suite::Suite;

/// What the tests read to know how slow the machine is.
const SLOWNESS: &str = "ASYNC_OBSERVER_SLOWNESS";

/// How often a kernel's guests may be failed by the emulator.
const RETRIES: u32 = 4;

/// Arguments of the word.
#[derive(Args)]
pub struct Options {
    /// Which kernel to boot: below and above the one that brought uprobe_multi
    #[arg(long, value_enum, default_value = "both")]
    kernel: Which,
    /// Which tests to run
    #[arg(long, value_enum, default_value = "small")]
    suite: suite::Which,
    /// Only these programs of tests (repeatable): `observer`, `oracle`, `tracefs`, ...
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only those of their tests whose names contain this (repeatable)
    #[arg(long, value_name = "WORD")]
    test: Vec<String>,
    /// How long one program of tests may run, in seconds; where it takes longer the next one runs in a new guest
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    limit: u64,
    /// How many times slower than a real machine a guest is: tests wait so much longer, and have so much smaller crowds
    #[arg(long, value_name = "TIMES", default_value_t = 4)]
    slowness: u32,
    /// A guest's memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    memory: u32,
    /// More for the guest's kernel, as in `lockdown=confidentiality`
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Linux 6.1: trace events
    #[value(name = "6.1")]
    Six1,
    /// Linux 6.12: uprobe_multi
    #[value(name = "6.12")]
    Six12,
    /// One after the other
    Both,
}

impl Which {
    /// Versions, with the package whose dependency is the kernel's.
    fn kernels(self) -> &'static [(&'static str, &'static str)] {
        const ALL: [(&str, &str); 2] = [("6.1", "linux-image-cloud-amd64"), ("6.12", "linux-image-6.12-cloud-amd64")];
        match self {
            Self::Six1 => &ALL[..1],
            Self::Six12 => &ALL[1..],
            Self::Both => &ALL,
        }
    }
}

/// Builds what goes in, boots each kernel, and fails unless every test of the suite ran and passed.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let folder = root.join("target/vm");
    std::fs::create_dir_all(&folder)?;
    packages::install_qemu()?;
    let kernels = options.kernel.kernels().iter();
    let kernels =
        kernels.map(|(version, package)| packages::kernel(&folder, version, package)).collect::<Result<Vec<_>>>()?;
    let tools = packages::tools(&folder)?;
    let suite = suite::build(root, options.suite, &options.only, &options.test)?;
    // Its own, so that two may run at once.
    let disk = folder.join(format!("disk-{}.ext4", std::process::id()));
    let size = disk::write(root, &suite, (&kernels, &tools), &disk)?;
    eprintln!("vm: a disk with {} MiB", size >> 20);
    let failed = kernels.iter().map(|kernel| on(kernel, &disk, &suite, options)).collect::<Result<Vec<_>>>();
    std::fs::remove_file(&disk)?;
    let failed = failed?.concat();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Runs the suite on one kernel, in as many guests as it takes; tells how it went and gives what is wrong.
fn on(kernel: &Kernel, disk: &Path, suite: &Suite, options: &Options) -> Result<Vec<String>> {
    let (began, version) = (Instant::now(), kernel.version);
    let (mut outcomes, mut release): (Vec<Outcome>, _) = (Vec::new(), String::new());
    let (mut boots, mut retries) = (0, 0);
    while outcomes.len() < suite.runs.len() {
        boots += 1;
        // All that follow and need the same boot.
        let (from, with) = (outcomes.len(), suite.runs[outcomes.len()].booted_with);
        let count = suite.runs[from..].iter().take_while(|run| run.booted_with == with).count();
        let append = format!("{SLOWNESS}={} {with} {}", options.slowness, options.append);
        let machine = Machine { kernel, disk, memory: options.memory, append: &append };
        let guest = machine.boot(&format!("{version} {from} {count}"))?;
        let mut report = listen(guest, Duration::from_secs(options.limit))?;
        if retries < RETRIES && report.take_back() {
            eprintln!("vm: the emulator has failed the guest's kernel: what it ran is run again in another guest");
            retries += 1;
        } else if report.programs.is_empty() {
            bail!("Linux {version}: the guest ran nothing: {}", report.failure.unwrap_or("see above".to_owned()));
        }
        release = report.release;
        outcomes.extend(report.programs);
    }
    let mut faults = Vec::new();
    let (mut passed, mut wrong) = (0, 0);
    println!("vm: Linux {version} ({release}), {} times slower than a real machine", options.slowness);
    for (run, outcome) in suite.runs.iter().zip(&outcomes) {
        println!("  {outcome}");
        passed += outcome.passed;
        wrong += outcome.failed.len();
        faults.extend(outcome.fault(run.wanted).map(|fault| format!("Linux {version}: {}: {fault}", run.name)));
        for row in run.left_out(version) {
            println!("    left out: {}: {}", row.test, row.why);
        }
    }
    let verdict = if faults.is_empty() { "ok" } else { "FAILED" };
    let took = began.elapsed().as_secs_f64();
    println!(
        "vm: Linux {version}: {verdict}, {passed} tests passed, {wrong} failed, {boots} boots, {retries} of them again, {took:.1} s"
    );
    Ok(faults)
}

/// Listens to a guest until it powers off, gives up, or takes too long for a program; passes on what it says.
fn listen(mut guest: Guest, limit: Duration) -> Result<Report> {
    let mut report = Report::default();
    let mut deadline = Instant::now() + limit;
    loop {
        match guest.hear(deadline)? {
            Heard::Line(line) => {
                eprintln!("  | {line}");
                if report.take(&line) {
                    deadline = Instant::now() + limit;
                }
            }
            Heard::Ended => return Ok(report),
            Heard::Late => {
                eprintln!("vm: not done after {limit:?}: the guest is ended");
                return Ok(report);
            }
        }
    }
}
