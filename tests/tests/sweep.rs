//! `sweep` against planted leaks and healthy look-alikes, and on processes that do not stand still for it.
//!
//! `UPDATE_VERDICTS=1 cargo test -p tests --test sweep verdicts` renews the table in docs/verdicts.md.

use std::process::Command;

use serde_json::Value;
use tests::fixture::{Fixture, path};
use tests::host::vitals::Vitals;
use tests::look::{Look, type_offset};
use tests::observer::Observer;
use tests::places::{LEAKS, Places};
use tests::stream::{number, word};
use tests::verdicts::{Mark, Seen, compared, seen, table};
use tests::wait::{fewer, until};

const CELLS: [&str; 3] = ["newest-release", "newest-fat", "1.23-release"];

fn sweep(pids: &[u32], more: &[&str]) -> Observer {
    let pids = pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]);
    let more = more.iter().map(|word| (*word).to_owned());
    Observer::run(["sweep".to_owned(), "--json".to_owned()].into_iter().chain(pids).chain(more))
}

/// Waits until the observer has read its targets for the first time.
fn has_begun(observer: &Observer) {
    let begun = observer.wait_for("the sweep has begun", |line| line.contains("\"event\":\"start\""));
    assert!(begun.is_some(), "the sweep ended before it began");
}

/// The places of a program that a verdict was found on, by name.
fn found(look: &Look, pid: u32, places: &Places, verdict: &str) -> Vec<String> {
    let findings = look.of("finding", pid).filter(|finding| finding["verdict"] == verdict);
    places.by_place(findings).into_keys().collect()
}

/// What stands still in `leaks` and is stuck.
const STUCK: [&str; 7] = [
    "pending_awaited",
    "pending_dropped",
    "pending_in_a_set",
    "pending_kept",
    "pending_locally",
    "pending_on_another",
    "waker_not_taken",
];

#[test]
fn verdicts_are_right_and_as_the_table_in_the_repository_says() {
    let mut fixtures: Vec<(&str, &str, Fixture)> = Vec::new();
    for cell in CELLS {
        for program in ["leaks", "healthy"] {
            fixtures.push((cell, program, Fixture::start(cell, program, &[])));
        }
    }
    let pids: Vec<u32> = fixtures.iter().map(|(.., fixture)| fixture.pid()).collect();
    // These programs are young; we know that they are not starting up, but for a ramp that is over in time.
    let look = sweep(&pids, &["--for", "5s", "--samples", "6", "--warm-up", "0s"]).look();
    assert_eq!((look.total("targets"), look.total("unreadable")), (pids.len() as u64, 0));
    let mut all: Vec<Seen> = Vec::new();
    for (cell, program, mut fixture) in fixtures {
        let (pid, places) = (fixture.pid(), fixture.ask());
        let of_places: usize = places.by_place(look.of("finding", pid)).values().map(Vec::len).sum();
        assert_eq!(look.of("finding", pid).count(), of_places, "{cell} {program}: findings on what is no place");
        all.extend(seen(cell, program, &look, pid, &places));
    }
    let marked = |mark: Mark| -> Vec<&Seen> { all.iter().filter(|one| one.mark() == mark).collect() };
    let false_ones = marked(Mark::False);
    assert!(false_ones.is_empty(), "false verdicts: {false_ones:#?}");
    let provable = |one: &&Seen| matches!(one.place.right.as_str(), "stuck" | "leaking");
    let missed: Vec<&Seen> = marked(Mark::Missed).into_iter().filter(provable).collect();
    assert!(missed.is_empty(), "missed: {missed:#?}");
    compare(&table(&all));
}

/// Compares with the table in the repository, or renews that.
fn compare(table: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verdicts.md");
    let committed = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    if std::env::var_os("UPDATE_VERDICTS").is_some() {
        let head = committed.split("| program |").next().unwrap_or_default();
        std::fs::write(path, format!("{head}{table}")).expect("the repository can be written");
        return;
    }
    assert_eq!(compared(table), compared(&committed), "docs/verdicts.md says otherwise; this run says\n{table}");
}

#[test]
fn a_busy_healthy_program_is_not_wronged_by_any_of_many_judgements() {
    let mut fixture = Fixture::start("newest-release", "healthy", &[]);
    until("its start-up is over", || (fixture.ask().named_if_there("ramp")?.born == 80).then_some(()));
    let options = ["--every", "100ms", "--duration", "4s", "--warm-up", "0s"];
    let look = sweep(&[fixture.pid()], &options).look();
    let (pid, places) = (fixture.pid(), fixture.ask());
    let readings = look.of("census", pid).count();
    assert!(readings > fewer(20), "only {readings} readings");
    for verdict in ["stuck", "leaking"] {
        assert_eq!(found(&look, pid, &places, verdict), Vec::<String>::new(), "{verdict} after one of {readings}");
    }
}

#[test]
fn a_young_process_is_not_judged_for_growth_and_that_is_said() {
    let mut fixture = Fixture::start("newest-release", "healthy", &["young"]);
    // What was not there at the first reading does not grow from reading to reading.
    until("it starts up", || (fixture.ask().named_if_there("long_ramp")?.born > 0).then_some(()));
    let look = sweep(&[fixture.pid()], &["--for", "2s", "--samples", "4"]).look();
    let places = fixture.ask();
    assert_eq!(look.of("finding", fixture.pid()).count(), 0, "{:?}", look.lines);
    let undecided = places.by_place(look.of("undecided", fixture.pid()));
    let line = match undecided.get("long_ramp").map(Vec::as_slice) {
        Some([line]) => line,
        other => panic!("{other:?} of {:?}", look.lines),
    };
    assert_eq!(word(&line["reason"], "too"), "young", "{line}");
}

#[test]
fn too_few_readings_are_no_evidence_of_growth_and_that_is_said() {
    let mut fixture = Fixture::start("newest-release", "leaks", &[]);
    let look = sweep(&[fixture.pid()], &["--for", "1s", "--samples", "2", "--warm-up", "0s"]).look();
    let (pid, places) = (fixture.pid(), fixture.ask());
    assert_eq!(found(&look, pid, &places, "leaking"), Vec::<String>::new());
    let undecided = places.by_place(look.of("undecided", pid));
    assert_eq!(word(&undecided["session"][0]["reason"], "too"), "fewSamples", "{undecided:?}");
    // A proof needs no growth.
    let stuck = found(&look, pid, &places, "stuck");
    assert!(STUCK.iter().all(|name| stuck.iter().any(|found| found == name)), "{stuck:?}");
}

#[test]
fn findings_named_by_fail_on_give_exit_code_10_and_others_do_not() {
    let leaks = Fixture::start("newest-release", "leaks", &["still"]);
    let healthy = Fixture::start("newest-release", "healthy", &["still"]);
    let cases = [(&leaks, "stuck,leaking", 10), (&leaks, "leaking", 0), (&healthy, "stuck,leaking", 0)];
    for (fixture, on, code) in cases {
        let ended = sweep(&[fixture.pid()], &["--for", "500ms", "--samples", "3", "--fail-on", on]).ended();
        assert_eq!(ended.code, Some(code), "--fail-on {on}: {:?}", ended.stderr);
        // What was found is said all the same.
        ended.look();
    }
}

#[test]
fn a_stopped_process_is_swept_and_goes_on_afterwards() {
    let mut fixture = Fixture::start("newest-release", "leaks", &[]);
    let places = until("every place has tasks", || {
        let places = fixture.ask();
        places.all_known(LEAKS).then_some(places)
    });
    fixture.signal(libc::SIGSTOP);
    let look = sweep(&[fixture.pid()], &["--for", "1s", "--samples", "4", "--warm-up", "0s"]).look();
    fixture.signal(libc::SIGCONT);
    let stuck = found(&look, fixture.pid(), &places, "stuck");
    assert!(STUCK.iter().all(|name| stuck.iter().any(|found| found == name)), "{stuck:?}");
    assert_eq!(
        found(&look, fixture.pid(), &places, "leaking"),
        Vec::<String>::new(),
        "nothing grows in a stopped process"
    );
    let born = |places: &Places| places.named("pending_growing").born;
    until("it goes on", || (born(&fixture.ask()) > born(&places)).then_some(()));
}

#[test]
fn a_process_that_ends_during_the_sweep_is_said_and_the_others_are_judged() {
    let (ending, mut staying) = two();
    let observer = sweep(&[ending.pid(), staying.pid()], &["--for", "2s", "--samples", "4"]);
    has_begun(&observer);
    let gone = ending.pid();
    drop(ending);
    let look = observer.look();
    assert!(look.unreadable(gone).is_some(), "{:?}", look.lines);
    assert_eq!(look.total("unreadable"), 1);
    let (pid, places) = (staying.pid(), staying.ask());
    assert_eq!(found(&look, pid, &places, "stuck"), STUCK);
}

#[test]
fn a_process_that_becomes_another_program_is_not_judged_by_both() {
    let (mut becoming, mut staying) = two();
    let observer = sweep(&[becoming.pid(), staying.pid()], &["--for", "3s", "--samples", "4"]);
    has_begun(&observer);
    becoming.become_other(&path("newest-fat", "healthy"), "still");
    let look = observer.look();
    assert!(look.unreadable(becoming.pid()).is_some(), "{:?}", look.lines);
    assert_eq!(look.of("finding", becoming.pid()).count(), 0, "of a program that is gone: {:?}", look.lines);
    let (pid, places) = (staying.pid(), staying.ask());
    assert_eq!(found(&look, pid, &places, "stuck"), STUCK);
    assert!(becoming.is_running(), "the other program runs on");
}

#[test]
fn a_process_that_is_not_there_is_said_and_does_not_stop_the_sweep() {
    let mut fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let mut gone = Command::new("true").spawn().expect("true starts");
    gone.wait().expect("true ends");
    let look = sweep(&[gone.id(), fixture.pid()], &["--for", "500ms", "--samples", "2"]).look();
    assert_eq!((look.total("targets"), look.total("unreadable")), (1, 1));
    assert!(look.unreadable(gone.id()).is_some(), "{:?}", look.lines);
    let (pid, places) = (fixture.pid(), fixture.ask());
    assert_eq!(found(&look, pid, &places, "stuck"), STUCK);
}

fn two() -> (Fixture, Fixture) {
    let start = || Fixture::start("newest-release", "leaks", &["still"]);
    (start(), start())
}

#[test]
fn sweeping_on_says_findings_as_they_arise_and_vanish_until_it_is_interrupted() {
    let mut fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let observer = sweep(&[fixture.pid()], &["--every", "1s"]);
    let pid = fixture.pid();
    let said = |observer: &Observer, event: &str, wanted: &dyn Fn(&Value) -> bool| {
        let line = observer.wait_for(event, |line| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            line["event"] == event && line["pid"] == pid && wanted(&line)
        });
        assert!(line.is_some(), "the sweep ended by itself before it said `{event}`");
    };
    said(&observer, "finding", &|line| line["verdict"] == "stuck");
    let planted = {
        fixture.tell("plant");
        until("the planted ones wait", || {
            let offset = fixture.ask().named("planted").offset;
            (offset > 0).then_some(offset)
        })
    };
    said(&observer, "finding", &|line| type_offset(line) == planted && line["verdict"] == "stuck");
    fixture.tell("pull");
    said(&observer, "vanished", &|line| type_offset(line) == planted);
    observer.signal(libc::SIGINT);
    let look = observer.look();
    let places = fixture.ask();
    let arisen = places.by_place(look.of("finding", pid).filter(|line| line["verdict"] == "stuck"));
    for name in STUCK.iter().chain(&["planted"]) {
        assert_eq!(arisen[*name].len(), 1, "what goes on holding is said once: {name}");
    }
    let holding = look.of("finding", pid).count() - look.of("vanished", pid).count();
    assert_eq!(look.total("findings"), holding as u64, "findings that hold at the end");
}

#[test]
fn without_json_people_read_the_verdict_the_place_and_why() {
    let fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let pid = fixture.pid().to_string();
    let ended =
        Observer::run(["sweep", "--for", "300ms", "--samples", "2", "--filter", "notTaken", "--pid", &pid]).ended();
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    let at = ended.stdout.iter().position(|line| line.starts_with("STUCK") && line.contains("WakerNotTaken"));
    let at = at.unwrap_or_else(|| panic!("it is not said to be stuck: {:#?}", ended.stdout));
    assert!(ended.stdout[at + 1].contains("4 of 4 live"), "{:#?}", ended.stdout);
    assert_eq!(ended.stdout.iter().filter(|line| line.starts_with("STUCK")).count(), 1, "the others are filtered out");
}

#[test]
fn the_target_is_only_read() {
    let mut fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let pid = fixture.pid();
    fixture.ask();
    let before = resident(pid);
    let mut observer = sweep(&[pid], &["--for", "1s", "--samples", "4"]);
    let mut looked = 0;
    let ended = until("the sweep ends", || {
        let fds = descriptors(observer.pid());
        looked += usize::from(!fds.is_empty());
        let kernel: Vec<&String> = fds.iter().filter(|fd| fd.contains("bpf") || fd.contains("perf_event")).collect();
        assert!(kernel.is_empty(), "a sweep holds {kernel:?}");
        observer.has_ended()
    });
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    assert!(looked > 10, "its descriptors were looked at only {looked} times");
    assert_eq!(resident(pid), before, "the target's resident memory in KiB");
    assert_eq!(number(ended.look().end(), "targets"), 1);
    fixture.ask();
}

/// What a process's descriptors are; nothing once it is gone.
fn descriptors(pid: u32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned())).collect()
}

/// Resident memory in KiB, page by page: the counters in `status` are approximate.
fn resident(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the fixture runs");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("the kernel says it");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number of KiB")
}

#[test]
fn a_sweep_keeps_to_its_memory_bound_and_says_what_it_does_without() {
    let crowd = Fixture::start("newest-release", "crowd-glibc", &["tasks=1000000"]);
    let observer = sweep(&[crowd.pid()], &["--max-memory", "64M", "--every", "100ms", "--quiet", "--no-waits"]);
    let told = until("a third reading", || {
        let said = observer.said();
        let told = said.iter().filter(|line| line.contains("\"event\":\"census\""));
        let told: Vec<Value> = told.map(|line| serde_json::from_str(line).expect("it says JSON")).collect();
        (told.len() >= 3).then_some(told)
    });
    let peak = Vitals::of(observer.pid()).peak >> 10;
    assert!(peak <= 64, "{peak} MiB were resident");
    for census in told {
        assert!(census["doubt"].as_str().is_some_and(|doubt| doubt.contains("--max-memory")), "{census}");
        assert_eq!(census["futures"]["high"], Value::Null, "there may be any number: {census}");
    }
    observer.ended_well();
}
