//! What is left of ten thousand processes, in the observer and in the kernel: nothing.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tests::fixture::{Scratch, path};
use tests::host::director::Director;
use tests::host::observed::pid_of;
use tests::host::program::{Place, Program};
use tests::host::vitals::Vitals;
use tests::kernel::Objects;
use tests::observer::Observer;
use tests::stream::word;
use tests::wait::{fewer, until};

const LIVES: usize = 10_000;
/// After so many all that is made once is made, on a slow machine too after [`WARM_AT_LEAST`].
const WARM: usize = 2_000;
const WARM_AT_LEAST: usize = 1_000;
const AT_ONCE: usize = 8;
const GONE: &str = "\"event\":\"gone\"";
/// Tasks of one life.
const TASKS: usize = 3;
/// What may stay of one life in the observer: less than the shortest thing that must be known of a process while it lives, its
/// executable's path and its images.
const BYTES_A_LIFE: u64 = 256;
/// What an allocator keeps of one burst of news, KiB, which has nothing to do with the number of lives: where they are few (a slow guest, 1333 lives,
/// brought 600 on a busy machine) more would have to stay of each to be seen.
const KEPT_OF_A_BURST: u64 = 1024;

/// Each of these tests is a host's whole life: one at a time.
static HOST: Mutex<()> = Mutex::new(());

/// Runs this many short lives, [`AT_ONCE`] at a time; gives their processes.
fn live(lives: usize) -> Vec<u32> {
    let program = path("newest-release", "host");
    let mut running: Vec<Child> = Vec::new();
    let mut pids = Vec::with_capacity(lives);
    let reap = |child: Child| assert!(child.wait_with_output().expect("it is our child").status.success());
    for _ in 0..lives {
        if running.len() == AT_ONCE {
            reap(running.remove(0));
        }
        let child = Command::new(&program).arg("short").stdin(Stdio::null()).spawn().expect("the fixture starts");
        pids.push(child.id());
        running.push(child);
    }
    running.into_iter().for_each(reap);
    pids
}

/// `trace --all` into a file, with the fixture's program known: the short lives are over before an unknown one could be.
fn observe(name: &str, file: &Path) -> Observer {
    let arguments = [
        "trace",
        "--all",
        "-v",
        "--json",
        "--allow-slow",
        "--events",
        "init,destroy",
        "-o",
        file.to_str().expect("is text"),
    ];
    let observer = Observer::run(arguments);
    until("the observer is attached", || has_line(file, "\"event\":\"start\""));
    let mut director = Director::new(&format!("{name}-known"));
    director.hold(true);
    director.start("known", Program::Host("newest-release"), Place::Here, &["run=1".into()]);
    let pid = director.announced("known");
    until("the program is known", || has_line(file, &format!("\"pid\":{pid},")));
    until("all other images are known, too", || {
        observer.told().iter().any(|line| line.contains("images looked at")).then_some(())
    });
    director.hold(false);
    assert!(director.finish()["known"].success());
    observer
}

fn has_line(file: &Path, what: &str) -> Option<()> {
    let text = std::fs::read_to_string(file).ok()?;
    text.contains(what).then_some(())
}

/// Its own, the one that reads rings, the one that writes, the one that looks at images, four that read memory, and some that
/// take probes out: those come and go.
const MOST_THREADS: u64 = 12;

#[test]
fn ten_thousand_lives_leave_nothing_in_the_observer_nor_in_the_kernel() {
    let _alone = HOST.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new("lives");
    let file = scratch.path().join("events.jsonl");
    let before = Objects::all();
    let observer = observe("lives", &file);
    let warm = fewer(WARM).max(WARM_AT_LEAST);
    let mut pids = live(warm);
    wait_for_the_ends(&file, &pids);
    let (early, held) = (Vitals::of(observer.pid()), Objects::held_by(observer.pid()));
    let began = std::time::Instant::now();
    pids.extend(live(fewer(LIVES - WARM)));
    println!("{} lives in {:.1} s", fewer(LIVES - WARM), began.elapsed().as_secs_f32());
    wait_for_the_ends(&file, &pids);
    let late = Vitals::of(observer.pid());
    println!("observer after {warm} lives: {early:?}, after {}: {late:?}", pids.len());
    let objects = Objects::held_by(observer.pid());
    println!("links, programs, maps while it ran: {:?}", objects.counts());
    assert!(!held.is_empty(), "it has something in the kernel");
    assert_eq!(objects, held, "no life costs the kernel anything");
    assert!(late.descriptors <= early.descriptors, "{early:?} became {late:?}");
    assert!(late.threads <= MOST_THREADS, "{early:?} became {late:?}");
    let allowed = (fewer(LIVES - WARM) as u64 * BYTES_A_LIFE / 1024).max(KEPT_OF_A_BURST);
    assert!(late.resident <= early.resident + allowed, "{early:?} became {late:?}, more than {allowed} KiB more");
    drop(observer.ended_well());
    until("nothing of it is left in the kernel", || Objects::all().and(&objects).is_empty().then_some(()));
    // Others may have begun to observe in the meantime: what is new is theirs, and they run.
    until("all that is new in the kernel is held by somebody who runs", || {
        Objects::all().without(&before).without(&Objects::held_by_anyone()).is_empty().then_some(())
    });
    println!("links, programs, maps before {:?}, after {:?}", before.counts(), Objects::all().counts());

    // Each life was told, and each of its tasks.
    let mut by_pid: BTreeMap<u32, BTreeMap<String, usize>> = BTreeMap::new();
    let text = std::fs::read_to_string(&file).expect("the observer wrote it");
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("is JSON");
        if line["pid"].is_u64() {
            *by_pid.entry(pid_of(&line)).or_default().entry(word(&line, "event").to_owned()).or_default() += 1;
        }
    }
    let mut wanted: BTreeMap<u32, usize> = BTreeMap::new();
    pids.iter().for_each(|pid| *wanted.entry(*pid).or_default() += 1);
    let mut wrong = Vec::new();
    for (pid, lives) in wanted {
        let said = |event: &str| by_pid.get(&pid).and_then(|said| said.get(event)).copied().unwrap_or(0);
        let all = ["init", "destroy", "gone"].map(said);
        if all != [TASKS * lives, TASKS * lives, lives] {
            wrong.push(format!("{pid}: init, destroy, gone: {all:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", tests::life::summary(&wrong));
}

/// Waits until each of these is said to be gone.
fn wait_for_the_ends(file: &Path, pids: &[u32]) {
    let mut unsaid: HashSet<u32> = pids.iter().copied().collect();
    let mut lines = BufReader::new(File::open(file).expect("the observer made it"));
    let mut line = String::new();
    until("each life is gone", || {
        // What is not a whole line yet is read on the next time.
        while lines.read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
            if line.contains(GONE) {
                unsaid.remove(&pid_of(&serde_json::from_str(&line).expect("is JSON")));
            }
            line.clear();
        }
        unsaid.is_empty().then_some(())
    });
}

/// Nobody waits here until their ends are told: the observer is asked to end as soon as they have.
#[test]
fn whoever_ends_just_before_the_observer_is_told_to_be_gone() {
    let _alone = HOST.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new("last");
    let file = scratch.path().join("events.jsonl");
    let observer = observe("last", &file);
    let pids = live(50);
    drop(observer.ended_well());
    let text = std::fs::read_to_string(&file).expect("the observer wrote it");
    let gone: Vec<&str> = text.lines().filter(|line| line.contains(GONE)).collect();
    let is_told = |pid: &u32| gone.iter().any(|line| line.contains(&format!("\"pid\":{pid},")));
    let untold: Vec<&u32> = pids.iter().filter(|pid| !is_told(pid)).collect();
    assert!(untold.is_empty(), "{} of {} are not said to be gone: {untold:?}", untold.len(), pids.len());
}

#[test]
fn an_observer_of_all_that_is_killed_leaves_nothing_in_the_kernel() {
    let _alone = HOST.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new("killed");
    let file = scratch.path().join("events.jsonl");
    let mut observer = observe("killed", &file);
    wait_for_the_ends(&file, &live(50));
    let held = Objects::held_by(observer.pid());
    assert!(!held.is_empty() && Objects::all().and(&held) == held, "it has something in the kernel: {held:?}");
    observer.signal(libc::SIGKILL);
    assert_eq!(observer.ended().code, None, "it was killed");
    until("nothing of it is left in the kernel", || Objects::all().and(&held).is_empty().then_some(()));
    // A program that was under observation runs on as if nothing had been.
    live(50);
}
