//! `cargo xtask WORD`: a list of words, one file per word.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod ebpf;

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "The project's own commands", max_term_width = 120)]
struct Line {
    #[command(subcommand)]
    word: Word,
}

#[derive(Subcommand)]
enum Word {
    /// Builds the kernel side and puts it where the observer embeds it
    Ebpf(ebpf::Options),
}

fn main() -> ExitCode {
    let done = match Line::parse().word {
        Word::Ebpf(options) => ebpf::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
