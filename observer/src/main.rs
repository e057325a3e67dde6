//! The `async-observer` program.

fn main() {}
