//! How many events a second the observer decodes and renders on one core, without a kernel: `observer/examples/consumer` does it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::page::{Piece, Table, put};
use crate::preflight;

/// Where the table goes.
const PAGE: &str = "docs/performance.md";

/// Measures; writes the page's table.
pub(super) fn measure(root: &Path) -> Result<Value> {
    eprintln!("bench: building the consumer, then rendering records from memory");
    preflight::cargo(
        root,
        &["build", "--quiet", "--locked", "--release", "--package", "observer", "--example", "consumer"],
    )?;
    let output = Command::new(root.join("target/release/examples/consumer"))
        .stderr(Stdio::inherit())
        .output()
        .context("starting the consumer")?;
    ensure!(output.status.success(), "the consumer failed");
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let rows: Vec<Value> = lines.map(serde_json::from_slice).collect::<Result<_, _>>()?;
    let piece = Piece { name: "bench consumer", text: table(&rows)? };
    eprintln!("\n{}:\n{}", piece.name, piece.text);
    let path = root.join(PAGE);
    let page = std::fs::read_to_string(&path).context(PAGE)?;
    std::fs::write(&path, put(&page, &piece)?).context(PAGE)?;
    Ok(json!(rows))
}

/// Millions a second of one core, a row each.
fn table(rows: &[Value]) -> Result<String> {
    let mut table = Table::of(
        &["records of the load", "rendered to"],
        ["million events/s", "ns per event", "million polls/s", "bytes per event"],
    );
    for row in rows {
        let word = |name: &str| row[name].as_str().with_context(|| format!("a row has no {name}")).map(str::to_owned);
        let figure = |name: &str| row[name].as_f64().with_context(|| format!("a row has no {name}"));
        let (events, a_second) = (figure("events")?, figure("eventsPerSecond")?);
        table.row(vec![
            word("load")?,
            word("way")?,
            format!("{:.2}", a_second / 1e6),
            format!("{:.0}", 1e9 / a_second),
            format!("{:.2}", figure("pollsPerSecond")? / 1e6),
            format!("{:.0}", figure("bytes")? / events),
        ]);
    }
    Ok(table.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_one_core_does_in_a_second_and_what_one_event_costs() {
        let row = json!({
            "load": "polls", "way": "json", "events": 1_000_000, "eventsPerSecond": 2_500_000.0,
            "polls": 500_000, "pollsPerSecond": 1_250_000.0, "bytes": 91_000_000,
        });
        let text = table(&[row]).expect("all of it is there");
        assert!(text.ends_with("| polls | json | 2.50 | 400 | 1.25 | 91 |\n"), "{text}");
        assert!(table(&[json!({ "load": "polls" })]).is_err());
    }
}
