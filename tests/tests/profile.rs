//! Profiles of live tasks, read by the standard pprof tool and by the rule for folded stacks.

use std::process::Command;

use tests::fixture::{Fixture, Scratch, path};
use tests::observer::Observer;
use tests::stream::{number, word};

/// What `pprof -raw` says of the samples: their values, and the functions of their stacks.
struct Raw {
    types: Vec<String>,
    samples: Vec<(Vec<u64>, usize)>,
    text: String,
}

fn raw(profile: &std::path::Path) -> Raw {
    let output = Command::new(path("pprof", "pprof")).arg("-raw").arg(profile).output().expect("pprof starts");
    let text = String::from_utf8(output.stdout).expect("is text");
    assert!(output.status.success(), "pprof refused it: {}", String::from_utf8_lossy(&output.stderr));
    let body = text.split_once("Samples:\n").expect("pprof lists samples").1;
    let mut lines = body.lines().take_while(|line| !line.starts_with("Locations"));
    let types = lines.next().expect("a head").split_whitespace().map(String::from).collect();
    let sample = |line: &str| {
        let (values, stack) = line.split_once(':').unwrap_or_else(|| panic!("no sample: {line}"));
        let values = values.split_whitespace().map(|value| value.parse().expect("a number")).collect();
        (values, stack.split_whitespace().count())
    };
    Raw { types, samples: lines.map(sample).collect(), text: text.clone() }
}

#[test]
fn pprof_opens_the_live_tasks_of_ps_with_their_counts() {
    let fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let scratch = Scratch::new("profile");
    let file = scratch.path().join("tasks.pb.gz");
    let arguments = ["ps", "--json", "--no-waits", "--pid", &fixture.pid().to_string(), "-o", file.to_str().unwrap()];
    let look = Observer::run(arguments).look();
    let sites: Vec<_> = look.of("site", fixture.pid()).collect();
    let raw = raw(&file);
    assert_eq!(raw.types, ["tasks/count[dflt]", "stuck/count"]);
    for (n, member) in [(0, "live"), (1, "stuck")] {
        let in_profile: u64 = raw.samples.iter().map(|(values, _)| values[n]).sum();
        let in_ps: u64 = sites.iter().map(|site| number(site, member)).sum();
        assert!(in_ps > 0, "there is something {member}");
        assert_eq!(in_profile, in_ps, "{member}");
    }
    for site in sites.iter().filter(|site| number(site, "live") > 0 && !site["future"].is_null()) {
        assert!(raw.text.contains(word(site, "future")), "{site} has its function");
    }
}

#[test]
fn a_sweep_that_watches_spawns_puts_the_spawners_above_what_was_born() {
    let mut fixture = Fixture::start("newest-release", "leaks", &[]);
    let scratch = Scratch::new("spawners");
    let file = scratch.path().join("tasks.pb.gz");
    let pid = fixture.pid().to_string();
    let options = ["--for", "2s", "--samples", "4", "--warm-up", "0s", "--trace-spawns", "-o", file.to_str().unwrap()];
    let look = Observer::run(["sweep", "--json", "--pid", &pid].iter().chain(&options)).look();
    assert!(fixture.is_running(), "the program is well");
    let places = fixture.ask();
    let findings = places.by_place(look.of("finding", fixture.pid()));
    let session = findings["session"].iter().find(|finding| finding["verdict"] == "leaking").expect("it grows");
    let spawned = session["spawned"].as_array().expect("spawns were watched");
    let of: u64 = spawned.iter().map(|origin| number(origin, "tasks")).sum();
    let (born, live) = (number(&session["evidence"], "born"), number(session, "live"));
    // The probes were there before the first reading, and the last reading before the last look at the spawns.
    assert!((born..=live).contains(&of), "{of} of {live} with a spawner, {born} born between the readings");
    for origin in spawned {
        let stack = origin["stack"].as_array().expect("a list");
        let own = stack.iter().filter(|call| call["machinery"] == false).find_map(|call| call["function"].as_str());
        assert!(own.is_some_and(|name| name.contains("acceptor")), "spawned by the acceptor: {origin}");
        let by = &origin["ancestors"][0];
        assert!(by["future"].as_str().is_some_and(|future| future.contains("acceptor")), "in its task: {origin}");
        assert!(by["taskId"].is_string(), "which is known: {origin}");
    }
    let spawns = &look.end()["spawns"];
    assert_eq!((number(spawns, "lost"), number(spawns, "malformed")), (0, 0), "{spawns}");
    // The program goes on: it may have spawned between the last look at the records and that at the counter.
    let (hits, seen) = (number(spawns, "hits"), number(spawns, "seen"));
    assert!(seen > 0 && (seen..seen + seen / 2).contains(&hits), "one hit a spawn: {spawns}");
    let raw = raw(&file);
    assert!(raw.samples.iter().any(|(_, depth)| *depth > 2), "stacks with spawners: {}", raw.text);
}

#[test]
fn folded_stacks_add_up_to_the_live_tasks() {
    let fixture = Fixture::start("newest-release", "leaks", &["still"]);
    let scratch = Scratch::new("folded");
    let file = scratch.path().join("tasks.folded");
    let arguments = ["ps", "--json", "--no-waits", "--pid", &fixture.pid().to_string(), "-o", file.to_str().unwrap()];
    let look = Observer::run(arguments).look();
    let text = std::fs::read_to_string(&file).expect("it was written");
    let counts = text.lines().map(|line| {
        let (stack, count) = line.rsplit_once(' ').expect("a stack, a blank, a count");
        assert!(stack.split(';').count() >= 2, "{line}");
        count.parse::<u64>().expect("a number")
    });
    assert_eq!(counts.sum::<u64>(), look.live(fixture.pid()));
}
