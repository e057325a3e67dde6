//! What a guest needs of Debian: the emulator, installed, and kernels, unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

const EMULATOR: &str = "qemu-system-x86_64";

/// Installs the emulator unless it is there.
pub fn install_qemu() -> Result<()> {
    if Command::new(EMULATOR).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok() {
        return Ok(());
    }
    eprintln!("vm: installing qemu-system-x86");
    run(Command::new("apt-get").args(["update", "--quiet"]))?;
    run(Command::new("apt-get").args(["install", "--yes", "--quiet", "--no-install-recommends", "qemu-system-x86"]))
}

/// The kernel that this package depends on, from its own package; kept for the next time.
pub fn kernel(folder: &Path, version: &str, package: &str) -> Result<PathBuf> {
    let unpacked = folder.join(version);
    if let Some(kernel) = in_boot(&unpacked)? {
        return Ok(kernel);
    }
    let name = match dependency(package)? {
        Some(name) => name,
        None => {
            run(Command::new("apt-get").args(["update", "--quiet"]))?;
            dependency(package)?.with_context(|| {
                format!("apt knows no package {package}.\nNext step: run this on Debian, with its backports or updates")
            })?
        }
    };
    eprintln!("vm: fetching {name}");
    let packages = folder.join("packages");
    fs::create_dir_all(&packages)?;
    let archive = match archive(&packages, &name)? {
        Some(archive) => archive,
        None => {
            run(Command::new("apt-get").args(["download", "--quiet", &name]).current_dir(&packages))?;
            archive(&packages, &name)?.with_context(|| format!("apt-get has brought no {name}"))?
        }
    };
    run(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&unpacked))?;
    // Modules are most of it, and none is needed.
    for rest in ["lib", "usr"] {
        let rest = unpacked.join(rest);
        if rest.exists() {
            fs::remove_dir_all(rest)?;
        }
    }
    in_boot(&unpacked)?.with_context(|| format!("{name} holds no kernel"))
}

fn in_boot(unpacked: &Path) -> Result<Option<PathBuf>> {
    find(&unpacked.join("boot"), |name| name.starts_with("vmlinuz"))
}

fn archive(packages: &Path, name: &str) -> Result<Option<PathBuf>> {
    find(packages, |file| file.starts_with(&format!("{name}_")) && file.ends_with(".deb"))
}

fn find(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    if !folder.exists() {
        return Ok(None);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&wanted) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// The kernel's package that a package without content depends on.
fn dependency(package: &str) -> Result<Option<String>> {
    let output = Command::new("apt-cache").args(["depends", package]).output().context("starting apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(names.map(str::trim).find(|name| name.starts_with("linux-image-")).map(str::to_owned))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status().with_context(|| format!("starting {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status}); its last lines say why");
    }
    Ok(())
}
