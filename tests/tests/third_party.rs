//! A stripped program that others built: uv, as its makers ship it, on a bounded workload without a network.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tests::fixture::{Scratch, path};
use tests::life::Lives;
use tests::observer::{Observer, program};
use tests::stream::Stream;

/// Packages to install, each depending on the next three.
const PACKAGES: usize = 24;

/// uv's installation of all packages into an empty folder from an empty cache.
fn install(place: &Path) -> Command {
    let mut uv = Command::new(path("uv", "uv"));
    arguments(&mut uv, place);
    uv
}

fn arguments(uv: &mut Command, place: &Path) {
    uv.args([
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-index",
        "--no-config",
        "--python",
        "/usr/bin/python3",
        "part0",
    ])
    .arg("--find-links")
    .arg(place.join("wheels"))
    .arg("--cache-dir")
    .arg(place.join("cache"))
    .arg("--target")
    .arg(place.join("installed"))
    .current_dir(place);
}

/// A folder with the wheels to install.
fn prepared(name: &str) -> Scratch {
    let place = Scratch::new(name);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/third_party/wheels.py");
    let made = Command::new("python3").arg(script).arg(place.path().join("wheels")).arg(PACKAGES.to_string()).status();
    assert!(made.expect("python3 starts").success(), "the wheels were not written");
    place
}

/// What is installed, by file.
fn installed(place: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(place.join("installed")).expect("something was installed");
    entries.map(|entry| entry.expect("it can be listed").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_task_of_a_stripped_uv_is_seen_from_birth_to_death() {
    let bare = prepared("uv-bare");
    let status = install(bare.path()).status().expect("uv starts");
    assert!(status.success(), "uv does its work without us: {status}");
    assert!(installed(bare.path()).len() >= PACKAGES, "{:?}", installed(bare.path()));

    let observed = prepared("uv-observed");
    let file = observed.path().join("events.jsonl");
    let mut command = Command::new(program());
    command.args(["--json", "--allow-slow", "--output"]).arg(&file).arg("--").arg(path("uv", "uv"));
    arguments(&mut command, observed.path());
    let ended = Observer::run_as(&mut command).ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr.join("\n"));
    assert_eq!(installed(observed.path()), installed(bare.path()), "uv installs the same under observation");

    let text = std::fs::read_to_string(&file).expect("the observer wrote its output");
    let lines: Vec<String> = text.lines().map(String::from).collect();
    let stream = Stream::parse(&lines).unwrap_or_else(|wrong| panic!("the observer's output: {wrong}"));
    let image = &stream.images()[0];
    assert_eq!((stream.images().len(), &image["stripped"]), (1, &true.into()), "{image}");
    assert_eq!((stream.total("lost"), stream.total("malformed")), (0, 0));
    let lives = Lives::of(&stream);
    lives.assert_sane("uv");

    let born: BTreeSet<u64> = lives.by_id.keys().copied().collect();
    let polled: BTreeSet<u64> =
        lives.by_id.iter().filter(|(_, life)| !life.polls.is_empty()).map(|(id, _)| *id).collect();
    assert!(born.len() > PACKAGES, "uv works with tasks: {} were born", born.len());
    assert_eq!(born, polled, "every task that was born was polled, and every one that was polled was born");
    for (id, life) in &lives.by_id {
        assert!(!life.existing() && life.init["inferred"] == false, "id {id} was met and not born: {}", life.init);
        assert!(life.task_id().is_some(), "id {id} has no task id: {}", life.init);
    }
}
