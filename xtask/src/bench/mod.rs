//! `cargo xtask bench`: what the observer costs here, as one JSON object. It reports, it does not judge.
//!
//! Compare ratios, not nanoseconds of different runs.

mod census;
mod hold;
mod observer;
mod stream;
mod target;

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::{fixtures, preflight};

/// What to do.
#[derive(clap::Args)]
pub struct Options {
    /// Rounds of each way
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only this part
    #[arg(long)]
    only: Option<Part>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// What the live stream and a sweep cost the program that is looked at
    Stream,
    /// How long a census takes, the first and later ones
    Census,
    /// How long it takes to attach and detach, by points and processes, and until the first event
    Hold,
}

/// Measures and prints.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    preflight::check()?;
    preflight::cargo(root, &["build", "--quiet", "--locked", "--release", "--package", "observer"])?;
    let wanted = |part| options.only.is_none_or(|only| only == part);
    let mut report = json!({ "v": 1 });
    if wanted(Part::Stream) {
        report["stream"] = stream::measure(root, options.rounds)?;
    }
    if wanted(Part::Census) {
        fixtures::run(&fixtures::Options::only(census::CELL))?;
        report["census"] = census::measure(root, options.rounds)?;
    }
    if wanted(Part::Hold) {
        fixtures::run(&fixtures::Options::only(hold::CELL))?;
        report["hold"] = hold::measure(root, options.rounds)?;
    }
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
