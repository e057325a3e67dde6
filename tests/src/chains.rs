//! What the program `chains` tells of its own spawns.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fixture::Fixture;
use crate::stream::{number, word};
use crate::wait::until;

/// What it tells of one spawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The task that made it; `None` outside of tasks.
    pub parent: Option<u64>,
    /// The function that made it.
    pub by: String,
    /// The task that made it goes on.
    pub stays: bool,
}

/// Waits until it has made all its spawns, and gives them by the new tasks' ids.
pub fn told(fixture: &Fixture) -> BTreeMap<u64, Told> {
    until("all is spawned", || fixture.said().iter().any(|line| line.contains("\"spawned\":true")).then_some(()));
    spawns(&lines(fixture))
}

/// Its lines so far.
pub fn lines(fixture: &Fixture) -> Vec<Value> {
    fixture.said().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The spawns that these lines tell of.
pub fn spawns(lines: &[Value]) -> BTreeMap<u64, Told> {
    let spawns = lines.iter().filter(|line| line["task"].is_u64());
    let told = spawns.map(|line| {
        let (parent, by) = (line["parent"].as_u64(), word(line, "by").to_owned());
        (number(line, "task"), Told { parent, by, stays: line["stays"] == true })
    });
    told.collect()
}

/// The outermost task that led to this one.
pub fn root(told: &BTreeMap<u64, Told>, task: u64) -> u64 {
    told.get(&task).and_then(|of| of.parent).map_or(task, |parent| root(told, parent))
}
