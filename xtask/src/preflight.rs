//! What the commands need of the machine, checked before they begin, each with the next step.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Checks that live work can be done here; mounts what is missing and can be mounted.
pub fn check() -> Result<()> {
    if std::env::consts::ARCH != "x86_64" || std::env::consts::OS != "linux" {
        bail!("this is {} on {}: async-observer needs x86_64 Linux", std::env::consts::ARCH, std::env::consts::OS);
    }
    if !is_root()? {
        bail!(
            "probes need root here.\nNext step: run the same command as root, for example: sudo -E env \"PATH=$PATH\" cargo xtask demo"
        );
    }
    for (kind, place) in [("tracefs", "/sys/kernel/tracing"), ("bpf", "/sys/fs/bpf")] {
        mount(kind, place)?;
    }
    if !Path::new("/sys/bus/event_source/devices/uprobe").exists() {
        bail!("this kernel has no uprobes (CONFIG_UPROBE_EVENTS).\nNext step: use a kernel of a current distribution");
    }
    Ok(())
}

/// Checks that what the live tests start is here.
pub fn programs() -> Result<()> {
    for (program, package) in [("python3", "python3"), ("node", "nodejs"), ("unshare", "util-linux")] {
        if Command::new(program).arg("--version").output().is_err() {
            bail!("the tests start {program}, which is not here.\nNext step: apt-get install {package}");
        }
    }
    Ok(())
}

/// Runs cargo in this folder; its output goes where ours goes.
pub fn cargo(folder: &Path, arguments: &[&str]) -> Result<()> {
    cargo_with(folder, arguments, &[])
}

/// The same with these variables in its environment.
pub fn cargo_with(folder: &Path, arguments: &[&str], variables: &[(&str, &Path)]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(folder).envs(variables.iter().copied());
    let status = command.status().context("starting cargo")?;
    if !status.success() {
        bail!("cargo {} failed ({status}); its last lines say why", arguments.join(" "));
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).context("/proc/self/status has no Uid")?;
    Ok(uids.split_whitespace().nth(1) == Some("0"))
}

fn mount(kind: &str, place: &str) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind)) || !Path::new(place).is_dir() {
        return Ok(());
    }
    let status = Command::new("mount").args(["-t", kind, kind, place]).status().context("starting mount")?;
    if !status.success() {
        // Attaching works without these file systems on most kernels; who needs one says so later.
        eprintln!("note: {kind} could not be mounted at {place} ({status})");
    }
    Ok(())
}
