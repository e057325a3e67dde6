//! What runs in a guest: programs of tests, built here, each with the tests of it that are wanted.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::preflight;

/// One program of tests and which of its tests: all whose names contain one of the words.
const RUNS: &[(&str, &[&str])] = &[
    // Every kernel program under the guest's verifier, by each mechanism that it has.
    (
        "observer",
        &[
            "attach::tests::records",
            "attach::tests::spawners",
            "attach::tests::trace_events",
            "attach::tests::audiences::only_those",
            "attach::tests::audiences::a_link_for_one",
            "attach::tests::audiences::calls_of_killed",
            "attach::tests::attaching::uprobe_multi_is_taken",
            "attach::tests::attaching::links_take",
        ],
    ),
    ("oracle", &["events_equal"]),
    ("tracefs", &["a_launched_program", "births_alone", "a_killed_observer"]),
    ("existing", &["in_a_release_build"]),
    ("ps", &["each_task_is_listed"]),
    ("sweep", &["findings_named_by_fail_on"]),
];

/// Programs to be observed.
pub const FIXTURES: &[(&str, &[&str])] = &[
    ("newest-release", &["matrix-glibc", "idle", "leaks", "healthy"]),
    ("newest-unstable", &["oracle"]),
    ("newest-fat", &["matrix-glibc", "leaks", "healthy"]),
    ("1.23-release", &["leaks", "healthy"]),
];

/// The suite, built.
pub struct Suite {
    /// Programs of tests, in their order.
    pub runs: Vec<Run>,
    /// The guest's first process.
    pub init: PathBuf,
    /// The program under test.
    pub observer: PathBuf,
}

/// One program of tests.
pub struct Run {
    /// Its name.
    pub name: &'static str,
    /// The tests wanted of it.
    pub tests: &'static [&'static str],
    /// The program.
    pub program: PathBuf,
}

/// Builds the observer and the tests.
pub fn build(root: &Path, only: &[String]) -> Result<Suite> {
    preflight::cargo(root, &["build", "--locked", "--release", "--package", "observer"])?;
    preflight::cargo(root, &["build", "--locked", "--package", "tests", "--bin", "vm-init"])?;
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let runs: Vec<_> = RUNS.iter().filter(|(name, _)| wanted(name)).collect();
    ensure!(!runs.is_empty(), "there is no such program of tests");
    let built = test_programs(root, runs.iter().map(|(name, _)| *name))?;
    let find = |kind: &str, name: &str| {
        let found = built.iter().find(|(of, called, _)| of == kind && called == name);
        found.map(|(_, _, program)| program.clone()).with_context(|| format!("cargo has built no {kind} {name}"))
    };
    let runs = runs
        .into_iter()
        .map(|(name, tests)| {
            let kind = if *name == "observer" { "lib" } else { "test" };
            Ok(Run { name, tests, program: find(kind, name)? })
        })
        .collect::<Result<_>>()?;
    let (init, observer) = (root.join("target/debug/vm-init"), root.join("target/release/async-observer"));
    Ok(Suite { runs, init, observer })
}

/// Kind, name and place of what cargo builds for testing.
fn test_programs<'a>(root: &Path, names: impl Iterator<Item = &'a str>) -> Result<Vec<(String, String, PathBuf)>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--locked", "--no-run", "--message-format=json", "--package", "tests"]);
    for name in names {
        match name {
            "observer" => command.args(["--package", "observer", "--lib"]),
            name => command.args(["--test", name]),
        };
    }
    let output = command.current_dir(root).stderr(Stdio::inherit()).output().context("starting cargo")?;
    ensure!(output.status.success(), "the tests do not build; the lines above say why");
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line).context("cargo's messages are JSON")?;
        let Some(program) = message["executable"].as_str() else { continue };
        let text = |at: &str| message.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        programs.push((text("/target/kind/0"), text("/target/name"), program.into()));
    }
    Ok(programs)
}
