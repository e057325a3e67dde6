//! Taking hold of programs and letting them go: by points, by processes, and how soon the first event is said.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::observer::Observer;
use super::stream::{middle, rounded};
use super::target::Target;
use crate::preflight;

/// The build of the fixture whose first event is waited for, and the program.
pub(super) const CELL: &str = "newest-release";
const BUSY: &str = "healthy";
/// How many processes of one program are named at once.
const CROWDS: [usize; 3] = [1, 20, 200];

/// Measures.
pub(super) fn measure(root: &Path, rounds: usize) -> Result<Value> {
    let load = root.join("tests/fixtures/bench-load");
    eprintln!("bench: building a program with a thousand kinds of tasks, which takes minutes the first time");
    preflight::cargo(&load, &["build", "--quiet", "--locked", "--release"])?;
    let caches = root.join("target/bench-caches");
    let caches = caches.to_str().context("the project's path is text")?;
    let mut processes = serde_json::Map::new();
    for count in CROWDS {
        processes.insert(count.to_string(), crowd(root, &load, count, rounds)?);
    }
    Ok(json!({
        "rounds": rounds,
        "firstEvent": first_event(root, caches, rounds)?,
        "kinds": kinds(root, &load, caches, rounds)?,
        "processes": processes,
    }))
}

/// From the command to the first event, of a program that is known from before.
fn first_event(root: &Path, caches: &str, rounds: usize) -> Result<Value> {
    let program = root.join("tests/fixtures/target/bin").join(CELL).join(BUSY);
    let target = Target::start(&program, &[])?;
    let see = || Observer::see_first(root, target.pid(), &["trace", "--cache-dir", caches]);
    see()?.interrupt()?;
    let mut took = Vec::new();
    for round in 0..rounds {
        eprintln!("bench: round {} of {rounds}, first event", round + 1);
        let mut observer = see()?;
        took.push(observer.first().context("it was waited for")?.as_secs_f64() * 1e3);
        observer.interrupt()?;
    }
    took.sort_by(f64::total_cmp);
    let most = took.last().copied().unwrap_or(f64::NAN);
    Ok(json!({ "ms": rounded(middle(took)), "mostMs": rounded(most) }))
}

/// A program with a thousand kinds of tasks.
fn kinds(root: &Path, load: &Path, caches: &str, rounds: usize) -> Result<Value> {
    let target = Target::start(&load.join("target/release/kinds"), &[])?;
    let (mut attach, mut detach, mut points) = (Vec::new(), Vec::new(), 0);
    for round in 0..=rounds {
        eprintln!("bench: round {round} of {rounds}, a thousand kinds of tasks");
        let mut observer = Observer::attach(root, &[target.pid()], &["trace", "--cache-dir", caches])?;
        let start = observer.start().clone();
        let end = observer.interrupt()?;
        // The first one only makes the program known.
        if round > 0 {
            attach.push(start["attachMs"].as_f64().context("a start tells how long attaching took")?);
            detach.push(end["detachMs"].as_f64().context("an end tells how long detaching took")?);
        }
        let images = start["targets"][0]["images"].as_array().context("a target has images")?;
        points = images.iter().filter_map(|image| image["points"].as_u64()).sum();
    }
    Ok(json!({ "points": points, "attachMs": rounded(middle(attach)), "detachMs": rounded(middle(detach)) }))
}

/// Processes of one program, all named; one of them works.
fn crowd(root: &Path, load: &Path, count: usize, rounds: usize) -> Result<Value> {
    let (mut poll, mut attach, mut detach, mut resident) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        eprintln!("bench: round {} of {rounds}, {count} processes", round + 1);
        let program = load.join("target/release/bench-load");
        let mut targets: Vec<Target> = (0..count).map(|_| Target::spawn(&program, &[])).collect::<Result<_>>()?;
        let pids: Vec<u32> = targets.iter().map(Target::pid).collect();
        let mut observer = Observer::attach(root, &pids, &["trace", "--no-cache"])?;
        attach.push(observer.start()["attachMs"].as_f64().context("a start tells how long attaching took")?);
        resident.push(resident_kib(observer.pid())?);
        let said = targets[0].work()?;
        let figure = |name: &str| said[name].as_f64().with_context(|| format!("the load does not tell {name}"));
        poll.push(figure("pollsCpuNs")? / figure("polls")?);
        let end = observer.interrupt()?;
        detach.push(end["detachMs"].as_f64().context("an end tells how long detaching took")?);
    }
    Ok(json!({
        "perPollNs": middle(poll).round(),
        "attachMs": rounded(middle(attach)),
        "detachMs": rounded(middle(detach)),
        "residentKiB": middle(resident),
    }))
}

fn resident_kib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("reading the observer's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a status has VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS is a number")
}
