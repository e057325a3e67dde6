//! `cargo xtask vm`: the live tests on other kernels than this machine's, in a virtual machine without hardware's help.
//!
//! The guest has an initramfs with the very programs and tests that run here, at the same paths; its first process is
//! `vm-init` of the tests. Does not know what the tests test.

mod guest;
mod image;
mod packages;
mod suite;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use guest::Guest;

/// Arguments of the word.
#[derive(Args)]
pub struct Options {
    /// Which kernel to boot: below and above the one that brought uprobe_multi
    #[arg(long, value_enum, default_value = "both")]
    kernel: Which,
    /// Only these programs of tests (repeatable): `observer`, `oracle`, `tracefs`, ...
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How long one guest may run, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 240)]
    limit: u64,
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
    let kernels = options
        .kernel
        .kernels()
        .iter()
        .map(|(version, package)| Ok((*version, packages::kernel(&folder, version, package)?)))
        .collect::<Result<Vec<_>>>()?;
    let suite = suite::build(root, &options.only)?;
    let initramfs = folder.join("initramfs.cpio");
    let size = image::write(root, &suite, &initramfs)?;
    eprintln!("vm: initramfs of {} MiB", size >> 20);
    let mut failed = Vec::new();
    for (version, kernel) in kernels {
        let began = Instant::now();
        let report = Guest::boot(&kernel, &initramfs)?.watch(Duration::from_secs(options.limit))?;
        let faults = report.faults(&suite);
        let verdict = if faults.is_empty() { "ok" } else { "FAILED" };
        println!(
            "vm: Linux {version} ({}): {verdict}, {} tests in {:.1} s",
            report.kernel,
            report.passed,
            began.elapsed().as_secs_f64()
        );
        failed.extend(faults.into_iter().map(|fault| format!("Linux {version}: {fault}")));
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
