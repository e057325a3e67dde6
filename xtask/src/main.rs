//! `cargo xtask WORD`: a list of words, one file per word.

fn main() {}
