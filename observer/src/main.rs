//! The `async-observer` program: all of it stands in the library, so that tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    observer::cli::run(std::env::args_os())
}
