//! Packages from Python's index, as a list names them: each with its version and sha256.
//!
//! Does not know: what is in them.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Fetches all of a list into a folder; what has another sum is refused.
pub fn download(list: &Path, folder: &Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
    pip.arg("--dest").arg(folder).arg("--requirement").arg(list).stdin(Stdio::null());
    let status = pip.status().context("python3 could not start")?;
    ensure!(status.success(), "pip could not fetch {}: is there a network, and python3-pip?", list.display());
    Ok(())
}
