//! `cargo xtask bench`: what the observer costs here, as one JSON object; the tiers' tables go into docs/performance.md, too.
//!
//! Compare ratios, not nanoseconds of different runs.

mod census;
mod consumer;
mod dump;
mod hold;
mod interrupt;
mod observer;
mod stream;
mod tail;
mod target;
mod tiers;

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
    #[command(flatten)]
    tiers: tiers::Wanted,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// What each tier costs the program that is looked at, beside empty probes and other tools; written into docs/performance.md
    Tiers,
    /// What the live stream and a sweep cost the program that is looked at
    Stream,
    /// How long a census takes, the first and later ones
    Census,
    /// How long a dump of a crowd's await stacks takes
    Dump,
    /// How many events a second one core decodes and renders; written into docs/performance.md
    Consumer,
    /// How long it takes to attach and detach, by points and processes, and until the first event
    Hold,
}

/// Measures and prints.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    preflight::check()?;
    preflight::cargo(root, &["build", "--quiet", "--locked", "--release", "--package", "observer"])?;
    let wanted = |part| options.only.is_none_or(|only| only == part);
    let mut report = json!({ "v": 1 });
    if wanted(Part::Tiers) {
        report["tiers"] = tiers::measure(root, options.rounds, &options.tiers)?;
    }
    if wanted(Part::Stream) {
        report["stream"] = stream::measure(root, options.rounds)?;
    }
    if wanted(Part::Census) {
        fixtures::run(&fixtures::Options::only(census::CELL))?;
        report["census"] = census::measure(root, options.rounds)?;
    }
    if wanted(Part::Dump) {
        fixtures::run(&fixtures::Options::only(dump::CELL))?;
        report["dump"] = dump::measure(root, options.rounds)?;
    }
    if wanted(Part::Consumer) {
        report["consumer"] = consumer::measure(root)?;
    }
    if wanted(Part::Hold) {
        fixtures::run(&fixtures::Options::only(hold::CELL))?;
        report["hold"] = hold::measure(root, options.rounds)?;
    }
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
