//! `ps` against what programs say of themselves: how many tasks live at each place, and how they stand there.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use tests::fixture::{Fixture, Scratch, path, write_program};
use tests::look::Look;
use tests::observer::Observer;
use tests::places::{LEAKS, Places};
use tests::stream::{number, word};
use tests::wait::until;

const CELLS: [&str; 3] = ["newest-release", "newest-fat", "1.23-release"];

fn ps(pids: &[u32], more: &[&str]) -> Look {
    let pids = pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]);
    let more = more.iter().map(|word| (*word).to_owned());
    Observer::run(["ps".to_owned(), "--json".to_owned()].into_iter().chain(pids).chain(more)).look()
}

/// The sites of the program's own futures, each under its place's name; the others are the runtime's closures.
fn sites(look: &Look, pid: u32, places: &Places) -> BTreeMap<String, Value> {
    let all: Vec<&Value> = look.of("site", pid).collect();
    for site in &all {
        let own = places.place_of(site).is_some();
        assert_eq!(word(site, "type"), if own { "TOKIO_TASK" } else { "TOKIO_BLOCKING" }, "{site}");
    }
    let by_place = places.by_place(all.into_iter());
    let only = |(name, sites): (String, Vec<&Value>)| match sites.as_slice() {
        [site] => (name, (*site).clone()),
        sites => panic!("{name} has {} sites", sites.len()),
    };
    by_place.into_iter().map(only).collect()
}

#[test]
fn each_place_has_as_many_tasks_as_the_program_says() {
    let mut fixtures: Vec<(&str, Fixture)> = Vec::new();
    for cell in CELLS {
        for program in ["leaks", "healthy"] {
            fixtures.push((cell, Fixture::start(cell, program, &["still"])));
        }
    }
    let pids: Vec<u32> = fixtures.iter().map(|(_, fixture)| fixture.pid()).collect();
    let look = ps(&pids, &[]);
    assert_eq!((look.total("targets"), look.total("unreadable")), (pids.len() as u64, 0));
    for (cell, mut fixture) in fixtures {
        let (pid, places) = (fixture.pid(), fixture.ask());
        let sites = sites(&look, pid, &places);
        for place in places.iter() {
            let name = &place.name;
            let site = sites.get(name).unwrap_or_else(|| panic!("{cell}: {name} is not there"));
            assert_eq!(number(site, "live"), place.live, "{cell}: live tasks of {name}: {site}");
            let standing: u64 = ["idle", "scheduled", "running"].iter().map(|state| number(site, state)).sum();
            assert_eq!(standing, place.live, "{cell}: states of {name} add up: {site}");
            let stuck = if place.right == "stuck" { place.live } else { 0 };
            assert_eq!(number(site, "stuck"), stuck, "{cell}: stuck tasks of {name}: {site}");
        }
        let all: u64 = look.of("site", pid).map(|site| number(site, "live")).sum();
        assert_eq!(look.live(pid), all, "{cell}: all tasks are in a site");
        let futures = &look.census(pid)["futures"];
        let told: u64 = places.iter().map(|place| place.live).sum();
        let bounds = (number(futures, "low"), number(futures, "high"));
        assert_eq!(bounds, (told, told), "{cell}: nothing comes or goes, so the bounds are the count");
    }
}

#[test]
fn counts_of_a_program_that_goes_on_lie_between_what_it_says_before_and_after() {
    let mut fixture = Fixture::start("newest-release", "leaks", &[]);
    // Each place has had a task, so that its type is known.
    let before = until("every place has tasks", || {
        let places = fixture.ask();
        places.all_known(LEAKS).then_some(places)
    });
    let look = ps(&[fixture.pid()], &[]);
    let after = fixture.ask();
    let sites = sites(&look, fixture.pid(), &after);
    let growing = after.iter().filter(|place| place.moves && place.live == place.born);
    let mut compared = 0;
    for place in growing {
        let (least, most) = (before.named(&place.name).live, place.live);
        let live = number(&sites[&place.name], "live");
        assert!((least..=most).contains(&live), "{}: {live} live, not {least} to {most}", place.name);
        compared += 1;
    }
    assert_eq!(compared, 8, "places that only grow");
    // Those that ended are cells that their handles keep, and no live tasks.
    let (ended_before, kept) = (before.named("unawaited_ending"), &sites["unawaited_ending"]);
    let (least, most) = (ended_before.born - ended_before.live, after.named("unawaited_ending").born);
    let complete = number(kept, "complete");
    assert!((least..=most).contains(&complete), "{complete} kept cells, not {least} to {most}: {kept}");
}

#[test]
fn each_task_is_listed_with_its_state_references_and_handle() {
    for cell in CELLS {
        let mut leaks = Fixture::start(cell, "leaks", &["still"]);
        let mut healthy = Fixture::start(cell, "healthy", &["still"]);
        let look = ps(&[leaks.pid(), healthy.pid()], &["--tasks"]);
        // Place, references, join handle, stuck; as measured in the design notes and told by tokio's sources.
        let of_leaks: &[(&str, u64, bool, bool)] = &[
            ("pending_kept", 2, true, true),
            ("pending_dropped", 1, false, true),
            ("pending_awaited", 2, true, true),
            ("awaits_pending", 2, false, false),
            ("waker_not_taken", 2, true, true),
            ("pending_in_a_set", 2, true, true),
            ("pending_on_another", 1, false, true),
            ("pending_locally", 1, false, true),
            ("oneshot_forgotten", 2, false, false),
            ("request_side", 2, false, false),
            ("deadlock", 2, false, false),
        ];
        let of_healthy: &[(&str, u64, bool, bool)] = &[
            ("pool_worker", 2, false, false),
            ("hour_timer", 2, false, false),
            ("keep_alive", 2, false, false),
            ("abortable", 4, true, false),
            ("abortable_pending", 3, true, false),
        ];
        for (fixture, wanted) in [(&mut leaks, of_leaks), (&mut healthy, of_healthy)] {
            let (pid, places) = (fixture.pid(), fixture.ask());
            let tasks = places.by_place(look.of("task", pid));
            let ids: Vec<&str> = look.of("task", pid).map(|task| word(task, "taskId")).collect();
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{cell}: ids are told once");
            for place in places.iter() {
                assert_eq!(tasks[&place.name].len() as u64, place.live, "{cell}: tasks listed of {}", place.name);
            }
            for (name, references, handle, stuck) in wanted {
                for task in &tasks[*name] {
                    let said = (word(task, "state"), number(task, "references"), &task["joinHandle"], &task["stuck"]);
                    let wanted = ("idle", *references, &Value::Bool(*handle), &Value::Bool(*stuck));
                    assert_eq!(said, wanted, "{cell}: {name}: {task}");
                }
            }
        }
    }
}

#[test]
fn the_view_can_be_sorted_cut_and_filtered() {
    let mut fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let (pid, places) = (fixture.pid(), fixture.ask());
    let names = |look: &Look| -> Vec<String> {
        let own = look.of("site", pid).filter_map(|site| places.place_of(site));
        own.map(|place| place.name.clone()).collect()
    };
    let most = names(&ps(&[pid], &["--top", "1"]));
    assert_eq!(most, ["oneshot_forgotten"], "the default order is by count");
    let by_stuck = names(&ps(&[pid], &["--sort", "stuck", "--top", "2"]));
    assert_eq!(by_stuck, ["pending_dropped", "pending_on_another"]);
    // In this build some have a name, the others a place.
    let mut filtered = names(&ps(&[pid], &["--filter", "UNWOKEN"]));
    filtered.sort_unstable();
    assert_eq!(filtered, ["awaits_pending", "pending_awaited", "pending_dropped", "pending_kept", "waker_not_taken"]);
    let left = ps(&[pid], &["--top", "1", "--filter", "unanswered"]);
    let left: Vec<&Value> = left.of_any("left").collect();
    assert_eq!(left.iter().map(|line| (number(line, "sites"), number(line, "tasks"))).collect::<Vec<_>>(), [(3, 256)]);
}

#[test]
fn processes_are_found_by_their_name() {
    let place = Scratch::new("by-name");
    // Its own file name is the process's name.
    let copy = place.path().join("zoo-by-name");
    write_program(&path("newest-release", "leaks"), &copy);
    let fixtures = [0, 1].map(|_| Fixture::spawn("a copy", Command::new(&copy).arg("still")));
    for fixture in &fixtures {
        fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    }
    let look = Observer::run(["ps", "--json", "--name", "zoo-by-name"]).look();
    assert_eq!(look.total("targets"), 2);
    let lives = fixtures.each_ref().map(|fixture| look.live(fixture.pid()));
    assert_eq!(lives[0], lives[1]);
}

#[test]
fn without_json_people_read_places_with_their_counts() {
    let fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let mut observer = Observer::run(["ps", "--pid", &fixture.pid().to_string()]);
    let ended = observer.ended();
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    let row = ended.stdout.iter().find(|line| line.contains("oneshot_forgotten"));
    let row = row.unwrap_or_else(|| panic!("no row for oneshot_forgotten: {:#?}", ended.stdout));
    assert!(row.split_whitespace().any(|word| word == "150"), "{row}");
    assert!(!ended.stdout.iter().any(|line| line.contains('\u{1b}')), "no colour where it is no terminal");
}

#[test]
fn a_process_that_is_stopped_is_read_as_any_other() {
    let mut fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let places = fixture.ask();
    fixture.signal(libc::SIGSTOP);
    let look = ps(&[fixture.pid()], &[]);
    let state = std::fs::read_to_string(format!("/proc/{}/stat", fixture.pid())).expect("it is there");
    assert!(state.contains(") T "), "it is still stopped: {state}");
    fixture.signal(libc::SIGCONT);
    let sites = sites(&look, fixture.pid(), &places);
    for place in places.iter() {
        assert_eq!(number(&sites[&place.name], "live"), place.live, "{}", place.name);
    }
    // It goes on as if nothing had been.
    fixture.ask();
}

#[test]
fn what_cannot_be_read_is_said_and_the_others_are_shown() {
    let fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let mut gone = Command::new("true").spawn().expect("true starts");
    gone.wait().expect("true ends");
    let bare = Fixture::start("bare", "no-runtime", &[]);
    let look = ps(&[fixture.pid(), gone.id(), bare.pid()], &[]);
    assert_eq!((look.total("targets"), look.total("unreadable")), (1, 2));
    assert!(look.of("site", fixture.pid()).count() > 5);
    for pid in [gone.id(), bare.pid()] {
        assert!(look.unreadable(pid).is_some(), "{pid} is not said to be unreadable: {:?}", look.lines);
    }
}

#[test]
fn a_look_at_nothing_that_can_be_read_fails_as_attaching_to_it_does() {
    let mut gone = Command::new("true").spawn().expect("true starts");
    gone.wait().expect("true ends");
    let bare = Fixture::start("bare", "no-runtime", &[]);
    for (pid, code) in [(gone.id(), 3), (bare.pid(), 5)] {
        for command in ["ps", "sweep"] {
            let mut observer = Observer::run([command, "--json", "--pid", &pid.to_string()]);
            let ended = observer.ended();
            assert_eq!(ended.code, Some(code), "{command} of {pid}: {:?}", ended.stderr);
            assert!(ended.stderr.last().is_some_and(|line| line.starts_with("next step: ")), "{:?}", ended.stderr);
        }
    }
}

#[test]
fn another_program_in_the_same_process_is_told_by_its_own_tasks() {
    let mut fixture = Fixture::start("newest-release", "leaks", &["still"]);
    fixture.become_other(&path("newest-fat", "healthy"), "still");
    let places = fixture.ask();
    let look = ps(&[fixture.pid()], &[]);
    let sites = sites(&look, fixture.pid(), &places);
    assert_eq!(number(&sites["hour_timer"], "live"), 150);
}
