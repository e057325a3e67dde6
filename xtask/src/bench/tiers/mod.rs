//! What observing costs a program, tier by tier and beside others who do the same: every load under every row, in turn, several
//! rounds in one run. It measures and writes down; what is promised stands in `goals`.

mod bpftrace;
mod goals;
mod load;
mod machine;
mod measure;
mod points;
mod presence;
mod process;
mod rebuilt;
mod report;
mod results;
mod row;
mod sample;
mod spread;
mod steered;
mod strace;
mod tables;
mod watcher;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::page::put;
use crate::preflight;
use load::Load;
use machine::Machine;
use presence::Presence;
use results::{Million, Results, RowResults};
use row::{BARE, FLOOR, FULL, How, ROWS, Row};
use sample::PollFunctions;
use steered::Steered;
use watcher::Ours;

/// Where the tables go.
const PAGE: &str = "docs/performance.md";

/// What to measure.
#[derive(clap::Args)]
pub(super) struct Wanted {
    /// Of the tiers only these rows (repeatable); bare, bare again and the floor are always there
    #[arg(long = "row", value_name = "NAME")]
    rows: Vec<String>,
    /// Of the tiers only these loads (repeatable)
    #[arg(long = "load", value_name = "LOAD")]
    loads: Vec<Load>,
    /// Do not write the tables into docs/performance.md
    #[arg(long)]
    no_page: bool,
}

/// A row that is measured in this run.
struct Measured {
    row: &'static Row,
    who: Presence,
    results: RowResults,
}

/// Measures; writes the page if all of it was measured.
pub(super) fn measure(root: &Path, rounds: usize, options: &Wanted) -> Result<Value> {
    preflight::cargo(&load::workspace(root), load::BUILD)?;
    let loads = options.loads();
    let mut rows = options.rows(root)?;
    let functions = poll_functions(root, &rows, &loads)?;
    let mut turn: Vec<usize> = (0..rows.len()).rev().collect();
    for round in 0..rounds {
        for load in loads.iter().flat_map(|&load| std::iter::repeat_n(load, load.times(round))) {
            eprintln!("bench: round {} of {rounds}, {}", round + 1, load.word());
            // Every other time in the other direction: who follows whom is not always the same.
            turn.reverse();
            for &at in &turn {
                rows[at].sample(root, load, &functions)?;
            }
        }
    }
    let full = rows.iter().find(|measured| measured.row.name == FULL).map(|full| &full.who);
    let million = match full {
        Some(Presence::Ours(arguments)) if loads.contains(&Load::Idle) => Some(million(root, arguments)?),
        _ => None,
    };
    let results = Results { rounds, rows: rows.into_iter().map(|measured| measured.results).collect(), million };
    let (goals, machine) = (goals::judge(&results), Machine::here()?);
    let pieces = tables::pieces(&results, &goals, &machine);
    for piece in &pieces {
        eprintln!("\n{}:\n{}", piece.name, piece.text);
    }
    if !options.no_page && options.everything() {
        let path = root.join(PAGE);
        let page = std::fs::read_to_string(&path).context(PAGE)?;
        let page = pieces.iter().try_fold(page, |page, piece| put(&page, piece))?;
        std::fs::write(&path, page).context(PAGE)?;
    }
    Ok(report::report(&results, &goals, &machine))
}

impl Wanted {
    fn everything(&self) -> bool {
        self.rows.is_empty() && self.loads.is_empty()
    }

    fn loads(&self) -> Vec<Load> {
        Load::ALL.into_iter().filter(|load| self.loads.is_empty() || self.loads.contains(load)).collect()
    }

    /// The rows that are wanted, each with whether it can be had.
    fn rows(&self, root: &Path) -> Result<Vec<Measured>> {
        if let Some(unknown) = self.rows.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
            let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            anyhow::bail!("no row is called {unknown}: there are {}", names.join(", "));
        }
        let always = |row: &Row| matches!(row.how, How::Bare) || row.name == FLOOR;
        let wanted = ROWS
            .iter()
            .filter(|row| self.rows.is_empty() || always(row) || self.rows.iter().any(|name| name == row.name));
        let rows: Vec<Measured> = wanted.map(|row| Measured::of(root, row)).collect::<Result<_>>()?;
        ensure!(
            rows.iter().any(|measured| measured.row.name == BARE),
            "nothing can be compared without the row {BARE}"
        );
        Ok(rows)
    }
}

impl Measured {
    fn of(root: &Path, row: &'static Row) -> Result<Self> {
        eprintln!("bench: is {} here?", row.name);
        let who = Presence::of(root, row.how)?;
        let there = !matches!(who, Presence::Missing(_));
        let (failed, samples) = (BTreeMap::new(), BTreeMap::new());
        let results = RowResults { name: row.name, text: who.text(), there, failed, samples };
        Ok(Self { row, who, results })
    }

    /// Runs it once. A peer that fails is tried once more, and under this load left out from then on if it fails again, with the
    /// reason; what is ours may not fail.
    fn sample(&mut self, root: &Path, load: Load, functions: &PollFunctions) -> Result<()> {
        if !self.results.there || self.results.failed.contains_key(&load) {
            return Ok(());
        }
        let began = Instant::now();
        let take = || sample::take(root, &self.who, load, functions);
        let taken = take().or_else(|error| {
            if self.row.is_ours() {
                return Err(error);
            }
            eprintln!("bench:   {} failed: {error:#}; once more", self.row.name);
            take()
        });
        eprintln!("bench:   {} took {:.1} s", self.row.name, began.elapsed().as_secs_f64());
        match taken {
            Ok(sample) => self.results.samples.entry(load).or_default().push(sample),
            Err(error) if self.row.is_ours() => {
                return Err(error.context(format!("{} under the load {}", self.row.name, load.word())));
            }
            Err(error) => {
                eprintln!("bench: {} failed again under the load {}: {error:#}", self.row.name, load.word());
                self.results.fail(load, format!("{error:#}"));
            }
        }
        Ok(())
    }
}

/// Where the poll functions of the loads stand, if anybody wants to be told.
fn poll_functions(root: &Path, rows: &[Measured], loads: &[Load]) -> Result<PollFunctions> {
    let mut functions = PollFunctions::new();
    if rows.iter().any(|measured| matches!(measured.who, Presence::Bpftrace(..))) {
        for &load in loads {
            let target = Steered::start(root, load)?;
            functions.insert(load, points::poll_functions(root, target.pid())?);
            target.end()?;
        }
    }
    Ok(functions)
}

/// Has a million idle tasks observed.
fn million(root: &Path, arguments: &[&str]) -> Result<Million> {
    const TASKS: u64 = 1_000_000;
    eprintln!("bench: a million idle tasks, {FULL}");
    let mut target = Steered::run(Load::Idle, Command::new(Load::Idle.program(root)).arg(TASKS.to_string()))?;
    let sample = sample::take_of(root, Load::Idle, &mut target, |target| {
        Ok(Some(Box::new(Ours::attach(root, target.pid(), arguments)?)))
    })?;
    target.end()?;
    let watched = sample.watched.context("somebody looked")?;
    Ok(Million {
        tasks: TASKS,
        live: watched.ended.live.context("an observer tells how many tasks live at its end")?,
        lost: watched.ended.lost.context("an observer tells what it lost")?,
        bytes_per_task: (watched.after.0 - watched.base.0) * 1024.0 / TASKS as f64,
    })
}
