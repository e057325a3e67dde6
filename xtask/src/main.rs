//! `cargo xtask WORD`: a list of words, one file per word.

use clap::{Parser, Subcommand};

mod fixtures;

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "The project's own commands", max_term_width = 120)]
struct Line {
    #[command(subcommand)]
    word: Word,
}

#[derive(Subcommand)]
enum Word {
    /// Builds the programs that the live tests observe
    Fixtures(fixtures::Options),
}

fn main() -> anyhow::Result<()> {
    match Line::parse().word {
        Word::Fixtures(options) => fixtures::run(&options),
    }
}
