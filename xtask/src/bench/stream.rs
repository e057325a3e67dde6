//! What observing costs a program here: CPU time per poll and per spawn of one load, bare, under empty probes at the same
//! points, observed, and swept, in turn, several rounds in one run.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::observer::Observer;
use super::target::Target;
use crate::preflight;

/// The ways in which the load runs.
const WAYS: [(&str, Option<&[&str]>); 4] = [
    ("bare", None),
    ("emptyProbes", Some(&["trace", "--empty-probes"])),
    ("observed", Some(&["trace"])),
    // Nothing is attached: memory is read ten times a second.
    ("swept", Some(&["sweep", "--quiet", "--every", "100ms"])),
];

/// One run of the load.
#[derive(Clone, Debug)]
struct Run {
    poll_ns: f64,
    spawn_ns: f64,
    attach_ms: Option<f64>,
    detach_ms: Option<f64>,
    events: u64,
    lost: u64,
    elapsed_ns: f64,
}

/// Measures.
pub(super) fn measure(root: &Path, rounds: usize) -> Result<Value> {
    let load = root.join("tests/fixtures/bench-load");
    preflight::cargo(&load, &["build", "--quiet", "--locked", "--release", "--bin", "bench-load"])?;
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); WAYS.len()];
    for round in 0..rounds {
        for (way, (name, arguments)) in WAYS.iter().enumerate() {
            eprintln!("bench: round {} of {}, {name}", round + 1, rounds);
            runs[way].push(one(root, &load, *arguments)?);
        }
    }
    let mut ways = serde_json::Map::new();
    for ((name, _), runs) in WAYS.iter().zip(&runs) {
        ways.insert((*name).to_owned(), way(runs));
    }
    let median = |way: usize, of: fn(&Run) -> f64| middle(runs[way].iter().map(of).collect());
    Ok(json!({
        "rounds": rounds,
        "unit": "ns of the target's own CPU time, median of the rounds",
        "ways": ways,
        "addedByObserving": {
            "perPollNs": (median(2, |r| r.poll_ns) - median(0, |r| r.poll_ns)).round(),
            "perSpawnNs": (median(2, |r| r.spawn_ns) - median(0, |r| r.spawn_ns)).round(),
            "pollRatioToEmptyProbes": ratio(median(2, |r| r.poll_ns), median(1, |r| r.poll_ns)),
            "spawnRatioToEmptyProbes": ratio(median(2, |r| r.spawn_ns), median(1, |r| r.spawn_ns)),
            "pollRatioSweptToBare": ratio(median(3, |r| r.poll_ns), median(0, |r| r.poll_ns)),
            "spawnRatioSweptToBare": ratio(median(3, |r| r.spawn_ns), median(0, |r| r.spawn_ns)),
        },
    }))
}

fn way(runs: &[Run]) -> Value {
    let all = |of: fn(&Run) -> f64| middle(runs.iter().map(of).collect());
    let seen = |of: fn(&Run) -> Option<f64>| {
        let figures: Vec<f64> = runs.iter().filter_map(of).collect();
        if figures.is_empty() { None } else { Some(middle(figures)) }
    };
    json!({
        "perPollNs": all(|r| r.poll_ns).round(),
        "perSpawnNs": all(|r| r.spawn_ns).round(),
        "attachMs": seen(|r| r.attach_ms),
        "detachMs": seen(|r| r.detach_ms),
        "eventsPerSecond": all(|r| r.events as f64 * 1e9 / r.elapsed_ns).round(),
        "lost": runs.iter().map(|r| r.lost).sum::<u64>(),
    })
}

fn one(root: &Path, load: &Path, observer: Option<&[&str]>) -> Result<Run> {
    let mut target = Target::spawn(&load.join("target/release/bench-load"), &[])?;
    let mut observing = match observer {
        Some(arguments) => Some(Observer::attach(root, &[target.pid()], &[arguments, &["--no-cache"]].concat())?),
        None => None,
    };
    let said = target.work()?;
    let figure = |name: &str| said[name].as_f64().with_context(|| format!("the load does not tell {name}"));
    let end = observing.as_mut().map(Observer::end).transpose()?;
    let total = |name: &str| end.as_ref().map_or(0, |end| end["totals"][name].as_u64().unwrap_or(0));
    Ok(Run {
        poll_ns: figure("pollsCpuNs")? / figure("polls")?,
        spawn_ns: figure("spawnsCpuNs")? / figure("spawns")?,
        attach_ms: observing.as_ref().and_then(|observer| observer.start()["attachMs"].as_f64()),
        detach_ms: end.as_ref().and_then(|end| end["detachMs"].as_f64()),
        events: ["init", "before", "after", "resolve", "destroy"].into_iter().map(total).sum(),
        lost: total("lost"),
        elapsed_ns: figure("elapsedNs")?,
    })
}

/// The median; of an even number the mean of the two in the middle.
pub(super) fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => figures[n / 2],
        n => (figures[n / 2 - 1] + figures[n / 2]) / 2.0,
    }
}

/// To a tenth.
pub(super) fn rounded(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

fn ratio(one: f64, other: f64) -> f64 {
    (one / other * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(middle(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(middle(vec![9.0, 1.0, 3.0]), 3.0);
    }
}
