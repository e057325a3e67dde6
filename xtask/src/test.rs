//! `cargo xtask test`: the whole test suite. Live tests run, or it fails.

use std::path::Path;

use anyhow::Result;

use crate::{fixtures, preflight};

/// Builds what the tests need and runs them all.
pub fn run(root: &Path) -> Result<()> {
    preflight::check()?;
    preflight::programs()?;
    eprintln!("test: offline and own-process tests");
    preflight::cargo(
        root,
        &["test", "--locked", "--package", "observer", "--package", "observer-common", "--package", "xtask"],
    )?;
    eprintln!("test: building the observer (release) and the fixtures");
    preflight::cargo(root, &["build", "--locked", "--release", "--package", "observer"])?;
    fixtures::run(&fixtures::Options::default())?;
    eprintln!("test: live tests on real programs");
    preflight::cargo(root, &["test", "--locked", "--package", "tests", "--", "--test-threads=2"])
}
