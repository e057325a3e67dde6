//! What a guest needs of Debian: the emulator, installed, and kernels and what writes security modules' policies, unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

const EMULATOR: &str = "qemu-system-x86_64";
/// The one module that tests need and that is not built in: some programs are observed through an overlay.
const MODULE: &str = "overlay.ko";

/// A kernel, with what of its modules a guest needs.
pub struct Kernel {
    /// Its version, as in 6.12.
    pub version: &'static str,
    /// What is booted.
    pub image: PathBuf,
    /// The module, perhaps compressed.
    pub module: PathBuf,
}

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
pub fn kernel(folder: &Path, version: &'static str, package: &str) -> Result<Kernel> {
    let unpacked = folder.join(version);
    if let Some(kernel) = unpacked_kernel(&unpacked, version)? {
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
    let archive = fetched(folder, &name)?;
    let whole = folder.join("whole");
    for old in [&whole, &unpacked] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    run(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&whole))?;
    // Modules are most of it, and one is needed.
    fs::create_dir_all(&unpacked)?;
    let releases = whole.join("lib/modules");
    let release = find(&releases, |_| true)?.with_context(|| format!("{name} holds no modules"))?;
    for folder in [whole.join("boot"), release.join("kernel/fs/overlayfs")] {
        let wanted = find(&folder, |name| name.starts_with("vmlinuz") || name.starts_with(MODULE))?;
        let wanted = wanted.with_context(|| format!("{name} holds nothing that is needed in {}", folder.display()))?;
        fs::rename(&wanted, unpacked.join(wanted.file_name().context("it was found by its name")?))?;
    }
    fs::remove_dir_all(whole)?;
    unpacked_kernel(&unpacked, version)?.with_context(|| format!("{name} holds no kernel"))
}

/// A program for tests, unpacked from its package.
pub struct Tool {
    /// Where it is here.
    pub program: PathBuf,
    /// Where tests look for it.
    pub place: &'static str,
}

/// The programs that write the policies of AppArmor and SELinux, from their own packages; kept for the next time.
pub fn tools(folder: &Path) -> Result<Vec<Tool>> {
    const ALL: [(&str, &str, &str); 2] = [
        ("apparmor", "sbin/apparmor_parser", "/usr/sbin/apparmor_parser"),
        ("secilc", "usr/bin/secilc", "/usr/bin/secilc"),
    ];
    let tool = |(package, within, place)| {
        let unpacked = folder.join(package);
        let program = unpacked.join(within);
        if !program.exists() {
            run(Command::new("dpkg-deb").arg("--extract").arg(fetched(folder, package)?).arg(&unpacked))?;
        }
        Ok(Tool { program, place })
    };
    ALL.into_iter().map(tool).collect()
}

/// A package's archive.
fn fetched(folder: &Path, name: &str) -> Result<PathBuf> {
    let packages = folder.join("packages");
    fs::create_dir_all(&packages)?;
    if let Some(archive) = archive(&packages, name)? {
        return Ok(archive);
    }
    eprintln!("vm: fetching {name}");
    run(Command::new("apt-get").args(["download", "--quiet", name]).current_dir(&packages))?;
    archive(&packages, name)?.with_context(|| format!("apt-get has brought no {name}"))
}

fn unpacked_kernel(unpacked: &Path, version: &'static str) -> Result<Option<Kernel>> {
    let image = find(unpacked, |name| name.starts_with("vmlinuz"))?;
    let module = find(unpacked, |name| name.starts_with(MODULE))?;
    Ok(image.zip(module).map(|(image, module)| Kernel { version, image, module }))
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
