//! `cargo xtask ebpf`: builds the kernel side, or checks that the committed object is what the sources say.
//!
//! Does not know how a compiler is found or installed, see [`toolchain`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

mod strip;
mod toolchain;

use toolchain::{Toolchain, Which};

const TARGET: &str = "bpfel-unknown-none";
const OBJECT: &str = "observer/bpf/observer.bpf.o";
const SUM: &str = "observer/bpf/observer.bpf.o.sha256";
const COMPILER: &str = "observer/bpf/observer.bpf.o.compiler";

/// What to do.
#[derive(Args)]
pub struct Options {
    /// Install the Debian packages and the linker first (as root)
    #[arg(long)]
    install: bool,
    /// Write nothing: rebuild elsewhere and compare with the committed object, byte for byte
    #[arg(long)]
    check: bool,
    /// Use this toolchain; without it the Debian one, which makes the committed object, else nightly
    #[arg(long, value_enum)]
    toolchain: Option<Which>,
}

/// Runs the word.
pub fn run(options: &Options) -> Result<()> {
    let root = workspace_root()?;
    if options.install {
        toolchain::install()?;
    }
    let toolchain = Toolchain::find(options.toolchain)?;
    eprintln!("compiler: {}", toolchain.identity.replace('\n', ", "));
    let built = build(&root, &toolchain)?;
    if options.check { check(&root, &toolchain, &built) } else { commit(&root, &toolchain, &built) }
}

/// The place that holds every path this word names.
fn workspace_root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no folder above it")?;
    root.canonicalize().with_context(|| format!("{} is not there: run this in a checkout", root.display()))
}

/// Compiles and links; the object's path under `target`.
fn build(root: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
    let folder = root.join("observer-ebpf");
    let target_folder = root.join("target/ebpf");
    // First, so that `flags` sees where sources come to lie, on a machine without any, too.
    let fetched = Command::new("cargo").current_dir(&folder).args(["fetch", "--quiet", "--locked"]).status();
    ensure!(fetched.context("cargo did not start")?.success(), "the kernel side's dependencies could not be fetched");

    let mut cargo = Command::new("cargo");
    cargo.current_dir(&folder).args(["build", "--quiet", "--locked", "--release", "--target", TARGET]);
    cargo.arg("--target-dir").arg(&target_folder);
    // What the caller's own cargo passes on would change the object.
    for name in
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTUP_TOOLCHAIN"]
    {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.linker);
    cargo.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS", flags(root)?);
    toolchain.prepare(&mut cargo);
    let status = cargo.status().context("cargo did not start")?;
    ensure!(status.success(), "the kernel side did not compile with {}", toolchain.identity);
    let linked = target_folder.join(TARGET).join("release/observer");
    let object = target_folder.join("observer.bpf.o");
    fs::write(&object, strip::without_debug_sections(&fs::read(&linked)?)?)?;
    Ok(object)
}

/// Flags that make the object the same from every checkout and every cargo home.
fn flags(root: &Path) -> Result<String> {
    let mut flags = String::from("-Cdebuginfo=2 -Clink-arg=--btf --cfg bpf_target_arch=\"x86_64\"");
    let mut remap = |from: &Path, to: &str| -> Result<()> {
        let from = from.to_str().with_context(|| format!("{} is not UTF-8", from.display()))?;
        ensure!(!from.contains(char::is_whitespace), "{from}: cargo cannot pass on a path with a space in it");
        flags.push_str(&format!(" --remap-path-prefix={from}={to}"));
        Ok(())
    };
    remap(root, "async-observer")?;
    let sources = cargo_home()?.join("registry/src");
    for registry in fs::read_dir(&sources).with_context(|| format!("reading {}", sources.display()))? {
        remap(&registry?.path(), "registry")?;
    }
    Ok(flags)
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::home_dir().context("neither CARGO_HOME nor a home folder is known")?;
    Ok(home.join(".cargo"))
}

/// Writes object, sum and compiler.
fn commit(root: &Path, toolchain: &Toolchain, built: &Path) -> Result<()> {
    let object = root.join(OBJECT);
    fs::create_dir_all(object.parent().context("the object has no folder")?)?;
    fs::copy(built, &object).with_context(|| format!("copying {} to {OBJECT}", built.display()))?;
    let sum = sha256(&object)?;
    fs::write(root.join(SUM), format!("{sum}  observer.bpf.o\n"))?;
    fs::write(root.join(COMPILER), format!("{}\n", toolchain.identity))?;
    println!("{OBJECT}: {} bytes, sha256 {sum}", fs::metadata(&object)?.len());
    Ok(())
}

/// Compares; the error says what differs and the next step.
fn check(root: &Path, toolchain: &Toolchain, built: &Path) -> Result<()> {
    let read = |path: &str| {
        fs::read(root.join(path)).with_context(|| format!("{path} cannot be read; next: cargo xtask ebpf, and commit"))
    };
    let text = |path: &str| -> Result<String> { Ok(String::from_utf8(read(path)?)?.trim_end().to_owned()) };

    let sum = sha256(&root.join(OBJECT))?;
    if text(SUM)?.split_whitespace().next() != Some(sum.as_str()) {
        bail!("{SUM} is not the sum of {OBJECT} ({sum}); next: cargo xtask ebpf, and commit both");
    }
    if read(OBJECT)? == fs::read(built)? {
        println!("{OBJECT} is what the sources say (sha256 {sum})");
        return Ok(());
    }
    let made_by = text(COMPILER)?;
    if made_by != toolchain.identity {
        bail!(
            "cannot be checked here: the committed object was made by another compiler, so its bytes may differ\n  \
             committed: {}\n  here:      {}\n\
             next: cargo xtask ebpf --install --check (Debian), which brings the compiler that made it",
            made_by.replace('\n', ", "),
            toolchain.identity.replace('\n', ", "),
        );
    }
    bail!(
        "{OBJECT} is not what the sources say: the same compiler makes sha256 {} of them, {sum} is committed\n\
         next: cargo xtask ebpf, and commit observer/bpf",
        sha256(built)?
    );
}

fn sha256(path: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(path).output().context("sha256sum (coreutils) did not start")?;
    ensure!(output.status.success(), "sha256sum {}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().next().context("sha256sum said nothing")?.to_owned())
}
