//! `cargo xtask WORD`: a list of words, one file per word.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

mod bench;
mod coverage;
mod demo;
mod ebpf;
mod fixtures;
mod floors;
mod names;
mod page;
mod pip;
mod preflight;
mod stamp;
mod test;
mod vm;

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "The project's own commands", max_term_width = 120)]
struct Line {
    #[command(subcommand)]
    word: Word,
}

#[derive(Subcommand)]
enum Word {
    /// Measures what observing costs a program on this machine, as JSON
    Bench(bench::Options),
    /// Builds, starts a sample service that leaks, attaches to it and shows its life cycle
    Demo,
    /// Builds the kernel side and puts it where the observer embeds it
    Ebpf(ebpf::Options),
    /// Builds the programs that the live tests observe
    Fixtures(fixtures::Options),
    /// Counts what is told of types, places, spawns and waits, right and wrong, by build profile, and of images of others; written into
    /// docs/names.md
    Names,
    /// Runs the whole test suite; live tests run, or it fails
    Test,
    /// Runs live tests on other kernels, in virtual machines
    Vm(vm::Options),
    /// Checks that no import climbs a floor
    Floors,
}

fn main() -> ExitCode {
    match run(Line::parse().word) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(word: Word) -> Result<()> {
    let root = root()?;
    match word {
        Word::Bench(options) => bench::run(&root, &options),
        Word::Demo => demo::run(&root),
        Word::Ebpf(options) => ebpf::run(&options),
        Word::Fixtures(options) => fixtures::run(&options),
        Word::Names => names::run(&root),
        Word::Test => test::run(&root),
        Word::Vm(options) => vm::run(&root, &options),
        Word::Floors => floors::run(&root),
    }
}

/// The project's top folder.
fn root() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().map(Path::to_owned).context("xtask stands in the project's folder")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_word_can_be_parsed() {
        Line::command().debug_assert();
    }
}
