//! How long reading a process's tasks takes: the first census, which searches all memory, and later ones.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::stream::middle;
use super::target::Target;

/// The build of the fixture that is measured.
pub(super) const CELL: &str = "newest-release";

/// Crowds: a name, tasks, bytes of heap besides that are touched.
const CROWDS: [(&str, u64, u64); 4] = [
    ("10000 tasks", 10_000, 0),
    ("100000 tasks", 100_000, 0),
    ("1000000 tasks", 1_000_000, 0),
    ("1000 tasks in 4 GiB", 1000, 4 << 30),
];

/// Measures.
pub(super) fn measure(root: &Path, rounds: usize) -> Result<Value> {
    let mut report = serde_json::Map::new();
    for (name, tasks, heap) in CROWDS {
        let program = root.join("tests/fixtures/target/bin").join(CELL).join("crowd-glibc");
        let mut crowd = Target::start(&program, &[format!("tasks={tasks}"), format!("heap={heap}")])?;
        let (mut first, mut later, mut bytes) = (Vec::new(), Vec::new(), 0);
        for round in 0..rounds {
            eprintln!("bench: round {} of {rounds}, {name}", round + 1);
            let censuses = sweep(root, crowd.pid())?;
            let took = |census: &Value| census["tookMs"].as_f64().context("a census tells how long it took");
            let (scan, walks) = censuses.split_first().context("a sweep has censuses")?;
            ensure!(scan["live"].as_u64() >= Some(tasks), "only {} of {tasks} tasks were found", scan["live"]);
            bytes = scan["bytesRead"].as_u64().unwrap_or(0);
            first.push(took(scan)?);
            for walk in walks {
                later.push(took(walk)?);
            }
        }
        crowd.end()?;
        let (first, later) = (middle(first), middle(later));
        let ratio = (later / first * 1000.0).round() / 1000.0;
        let of = json!({ "firstMs": first, "laterMs": later, "laterToFirst": ratio, "firstReadMiB": bytes >> 20 });
        report.insert(name.to_owned(), of);
    }
    Ok(Value::Object(report))
}

/// The census lines of one sweep of six readings.
fn sweep(root: &Path, pid: u32) -> Result<Vec<Value>> {
    let output = Command::new(root.join("target/release/async-observer"))
        .args(["sweep", "--json", "--quiet", "--no-cache", "--samples", "6", "--for", "1s", "--pid", &pid.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("starting the observer")?;
    ensure!(output.status.success(), "the observer failed");
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let objects: Vec<Value> = lines.map(serde_json::from_slice).collect::<Result<_, _>>()?;
    Ok(objects.into_iter().filter(|object| object["event"] == "census").collect())
}
