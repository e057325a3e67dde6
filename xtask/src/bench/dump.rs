//! How long `dump` takes of a crowd, from the command to its end, with what it reads of the program's debug information.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::stream::middle;
use super::target::Target;

/// The build of the fixture that is measured.
pub(super) const CELL: &str = "awaits-release";

/// How many tasks there are.
const CROWDS: [u64; 2] = [10_000, 100_000];

/// Measures.
pub(super) fn measure(root: &Path, rounds: usize) -> Result<Value> {
    let mut report = serde_json::Map::new();
    let program = root.join("tests/fixtures/target/bin").join(CELL).join("many");
    for tasks in CROWDS {
        let mut crowd = Target::start(&program, &[tasks.to_string()])?;
        let mut took = Vec::new();
        for round in 0..rounds {
            eprintln!("bench: round {} of {rounds}, a dump of {tasks} tasks", round + 1);
            took.push(one(root, crowd.pid(), tasks)?);
        }
        crowd.end()?;
        report.insert(format!("{tasks} tasks"), json!({ "ms": middle(took).round() }));
    }
    Ok(Value::Object(report))
}

/// The time of one, milliseconds; all tasks must have been told with their stacks.
fn one(root: &Path, pid: u32, tasks: u64) -> Result<f64> {
    let began = Instant::now();
    let output = Command::new(root.join("target/release/async-observer"))
        .args(["dump", "--json", "--quiet", "--pid", &pid.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("starting the observer")?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    ensure!(output.status.success(), "the observer failed");
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let objects: Vec<Value> = lines.map(serde_json::from_slice).collect::<Result<_, _>>()?;
    let has_frames = |object: &&Value| object["frames"].as_array().is_some_and(|frames| frames.len() > 4);
    let told = objects.iter().filter(|object| object["event"] == "stack").filter(has_frames);
    let told: u64 = told.filter_map(|object| object["tasks"].as_u64()).sum();
    ensure!(told == tasks, "the stacks of {told} of {tasks} tasks were told");
    Ok(took)
}
