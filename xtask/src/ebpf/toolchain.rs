//! Compilers that can make code for the kernel's virtual machine: which are here, and how the Debian one is installed.
//!
//! Does not know what is built with them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use super::TARGET;

/// Debian's rustc for web browsers: it comes with a core library compiled for the kernel's virtual machine.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev", "gcc"];
const LLVM: &str = "/usr/lib/llvm-22";
const LINKER_VERSION: &str = "0.13.0";

/// Where the compiler comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// `/usr/bin/rustc` with Debian's core library for eBPF
    Debian,
    /// rustup's nightly with rust-src, which compiles its own core library
    Nightly,
}

/// A compiler that was tried and found complete.
pub struct Toolchain {
    which: Which,
    /// bpf-linker.
    pub linker: PathBuf,
    /// What decides the object's bytes, as text of some lines: compiler, its LLVM, linker.
    pub identity: String,
}

impl Toolchain {
    /// The wanted one, or the best that is complete here. The error lists what each lacks.
    pub fn find(wanted: Option<Which>) -> Result<Self> {
        let mut lacks = String::new();
        for which in wanted.map_or(vec![Which::Debian, Which::Nightly], |which| vec![which]) {
            match Self::complete(which) {
                Ok(toolchain) => return Ok(toolchain),
                Err(lack) => lacks.push_str(&format!("\n  {which:?}: {lack:#}")),
            }
        }
        bail!(
            "no compiler for the kernel side is complete here:{lacks}\nnext: cargo xtask ebpf --install (Debian, as root)"
        )
    }

    fn complete(which: Which) -> Result<Self> {
        let linker = linker()?;
        let rustc = match which {
            Which::Debian => {
                let mut rustc = Command::new(DEBIAN_RUSTC);
                let libraries = said(rustc.args(["--print", "target-libdir", "--target", TARGET]))?;
                let has_core = Path::new(&libraries).read_dir().is_ok_and(|mut entries| {
                    entries.any(|entry| entry.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("libcore-")))
                });
                ensure!(has_core, "no core library for {TARGET} (package libstd-rust-web-dev-bpf)");
                said(Command::new(DEBIAN_RUSTC).arg("-vV"))?
            }
            Which::Nightly => {
                let sysroot = said(nightly_rustc().args(["--print", "sysroot"]))?;
                let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.lock");
                ensure!(source.exists(), "rust-src is missing (rustup component add rust-src --toolchain nightly)");
                said(nightly_rustc().arg("-vV"))?
            }
        };
        let line =
            |start: &str| rustc.lines().find(|line| line.starts_with(start)).unwrap_or("rustc of unknown version");
        let identity =
            format!("{}\n{}\n{}", line("rustc "), line("LLVM version"), said(Command::new(&linker).arg("--version"))?);
        Ok(Self { which, linker, identity })
    }

    /// Makes a cargo command use it.
    pub fn prepare(&self, cargo: &mut Command) {
        match self.which {
            // The allowance for unstable features that nightly has of its own: aya-ebpf needs inline assembly for eBPF.
            Which::Debian => cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1"),
            Which::Nightly => {
                cargo.env_remove("RUSTC").env("RUSTUP_TOOLCHAIN", "nightly").args(["-Z", "build-std=core"])
            }
        };
    }
}

/// Installs Debian's compiler and LLVM, and the linker built against that LLVM.
pub fn install() -> Result<()> {
    ensure!(
        Path::new("/usr/bin/apt-get").exists(),
        "--install needs Debian's apt-get; elsewhere install rustup's nightly, \
         its rust-src and bpf-linker {LINKER_VERSION}"
    );
    run(Command::new("apt-get").arg("update"))?;
    let install = ["install", "--yes", "--no-install-recommends"];
    run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(install).args(DEBIAN_PACKAGES))?;
    if linker()
        .and_then(|linker| said(Command::new(linker).arg("--version")))
        .is_ok_and(|is| is.ends_with(LINKER_VERSION))
    {
        return Ok(());
    }
    // With its default feature it links, but against another LLVM than that of the packages: it then fails on memset.
    let features = ["--no-default-features", "--features", "llvm-22"];
    run(Command::new("cargo")
        .env("LLVM_PREFIX", LLVM)
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"])
        .args(features))
}

fn linker() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push(super::cargo_home()?.join("bin"));
    let found = folders.into_iter().map(|folder| folder.join("bpf-linker")).find(|file| file.is_file());
    found.context("bpf-linker is missing")
}

fn nightly_rustc() -> Command {
    let mut rustc = Command::new("rustup");
    rustc.args(["run", "nightly", "rustc"]);
    rustc
}

/// What the command printed, without the newline at its end.
fn said(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("{} did not start", show(&name)))?;
    ensure!(output.status.success(), "{}: {}", show(&name), String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_owned();
    let status = command.status().with_context(|| format!("{} did not start", show(&name)))?;
    ensure!(status.success(), "{} ended with {status}", show(&name));
    Ok(())
}

fn show(name: &OsStr) -> std::borrow::Cow<'_, str> {
    name.to_string_lossy()
}
