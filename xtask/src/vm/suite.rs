//! What runs in a guest: programs of tests, built here, each with the tests of it that are wanted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde_json::Value;

use super::left_out::{LEFT_OUT, LeftOut};

/// Which of the tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// Every kernel program and each mechanism once, in minutes
    Small,
    /// Every program of live tests, in an hour or more
    All,
}

/// One program of tests and which of its tests: all whose names contain one of the words.
type Row = (&'static str, &'static [&'static str]);

const SMALL: &[Row] = &[
    OBSERVER,
    ("oracle", &["events_equal"]),
    ("tracefs", &["a_launched_program", "births_alone", "a_killed_observer"]),
    ("existing", &["in_a_release_build"]),
    ("ps", &["each_task_is_listed"]),
    ("sweep", &["findings_named_by_fail_on"]),
];

/// Every kernel program under the guest's verifier, by each mechanism that it has.
const OBSERVER: Row = (
    "observer",
    &[
        "attach::tests::records",
        "attach::tests::spawners",
        "attach::tests::trace_events",
        "attach::tests::audiences::only_those",
        "attach::tests::audiences::a_link_for_one",
        "attach::tests::audiences::calls_of_killed",
        "attach::tests::attaching::every_way",
        "attach::tests::attaching::uprobe_multi_is_taken",
        "attach::tests::attaching::links_take",
    ],
);

/// Programs whose tests are ignored elsewhere, because they need a kernel that is booted with these words.
const BOOTED_WITH: &[(&str, &str)] = &[
    ("confined", "apparmor=1"),
    ("hotplug", "maxcpus=1"),
    ("labelled", "security=selinux selinux=1"),
    ("locked_down", "lockdown=confidentiality"),
    ("paranoid", "sysctl.kernel.perf_event_paranoid=3"),
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
    pub name: String,
    /// The tests wanted of it; all where there is no word.
    pub words: Vec<String>,
    /// How many of them must run at least: one for each word of the suite's own.
    pub wanted: usize,
    /// The program.
    pub program: PathBuf,
    /// What the kernel must be booted with for it.
    pub booted_with: &'static str,
}

impl Run {
    /// What a kernel does not offer of it.
    pub fn left_out(&self, kernel: &str) -> impl Iterator<Item = &'static LeftOut> {
        LEFT_OUT.iter().filter(move |row| row.program == self.name && row.kernel == kernel)
    }

    /// Its arguments on this kernel.
    pub fn arguments(&self, kernel: &str) -> Vec<String> {
        let skipped = self.left_out(kernel).flat_map(|row| ["--skip".to_owned(), row.test.to_owned()]);
        let ignored = (!self.booted_with.is_empty()).then(|| "--ignored".to_owned());
        skipped.chain(ignored).chain(self.words.iter().cloned()).collect()
    }
}

/// Builds the observer and the tests. Live tests are optimised: an emulated processor has no time to waste.
pub fn build(root: &Path, which: Which, only: &[String], tests: &[String]) -> Result<Suite> {
    let rows: Vec<(String, &[&str])> = match which {
        Which::Small => SMALL.iter().map(|(name, words)| ((*name).to_owned(), *words)).collect(),
        Which::All => {
            let first = (OBSERVER.0.to_owned(), OBSERVER.1);
            [first].into_iter().chain(programs(root)?.into_iter().map(|name| (name, &[][..]))).collect()
        }
    };
    for name in only {
        ensure!(rows.iter().any(|(row, _)| row == name), "there is no program of tests that is called {name}");
    }
    let rows: Vec<_> = rows.into_iter().filter(|(name, _)| only.is_empty() || only.contains(name)).collect();
    let built = test_programs(root, rows.iter().map(|(name, _)| name.as_str()))?;
    let find = |kind: &str, name: &str| {
        let found = built.iter().find(|(of, called, _)| of == kind && called == name);
        found.map(|(_, _, program)| program.clone()).with_context(|| format!("cargo has built no {kind} {name}"))
    };
    let runs = rows
        .into_iter()
        .map(|(name, words)| {
            let program = find(if name == OBSERVER.0 { "lib" } else { "test" }, &name)?;
            let wanted = if tests.is_empty() { words.len() } else { 0 };
            let words =
                if tests.is_empty() { words.iter().map(|word| (*word).to_owned()).collect() } else { tests.to_vec() };
            let booted_with = BOOTED_WITH.iter().find(|(row, _)| *row == name).map_or("", |(_, words)| *words);
            Ok(Run { name, words, wanted, program, booted_with })
        })
        .collect::<Result<_>>()?;
    Ok(Suite { runs, init: find("bin", "vm-init")?, observer: find("bin", "async-observer")? })
}

/// Every program of live tests, by name.
fn programs(root: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(root.join("tests/tests")).context("the tests are in the repository")?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".rs")?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    Ok(names)
}

/// Kind, name and place of what cargo builds: the programs that every guest has, and these tests.
fn test_programs<'a>(root: &Path, names: impl Iterator<Item = &'a str>) -> Result<Vec<(String, String, PathBuf)>> {
    let (own, live): (Vec<&str>, Vec<&str>) = names.partition(|name| *name == OBSERVER.0);
    // At once, so that what they share is built once.
    let mut arguments = vec!["build", "--release", "--package", "observer", "--package", "tests"];
    arguments.extend(["--bin", "async-observer", "--bin", "vm-init"]);
    live.iter().for_each(|name| arguments.extend(["--test", name]));
    let mut programs = built(root, &arguments)?;
    if !own.is_empty() {
        // As for this machine: to optimise them takes longer than they run.
        programs.extend(built(root, &["test", "--no-run", "--package", "observer", "--lib"])?);
    }
    Ok(programs)
}

fn built(root: &Path, arguments: &[&str]) -> Result<Vec<(String, String, PathBuf)>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).args(["--locked", "--message-format=json-render-diagnostics"]);
    let output = command.current_dir(root).stderr(Stdio::inherit()).output().context("starting cargo")?;
    ensure!(output.status.success(), "it does not build; the lines above say why");
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line).context("cargo's messages are JSON")?;
        let Some(program) = message["executable"].as_str() else { continue };
        let text = |at: &str| message.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        programs.push((text("/target/kind/0"), text("/target/name"), program.into()));
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_of_a_kernel_is_a_test_of_the_program() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for row in LEFT_OUT {
            let file = root.join("tests/tests").join(row.program).with_extension("rs");
            let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(text.contains(&format!("fn {}()", row.test)), "{} has no test {}", row.program, row.test);
            assert!(row.why.len() > 20, "{}: {}", row.test, row.why);
        }
    }
}
