//! What idle tasks wait for, in programs of which each place is known to wait for one thing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tests::fixture::Fixture;
use tests::observer::Observer;
use tests::stream::{number, word};

const CELLS: [&str; 3] = ["newest-release", "newest-fat", "1.23-release"];

/// What the tasks of a place wait for. A select over nothing: each of these waits for one thing only.
const LEAKS: [(&str, &str); 12] = [
    ("pending_kept", "nobody"),
    ("pending_dropped", "nobody"),
    ("pending_awaited", "nobody"),
    ("pending_in_a_set", "nobody"),
    ("pending_on_another", "nobody"),
    ("pending_locally", "nobody"),
    ("waker_not_taken", "nobody"),
    ("awaits_pending", "join"),
    ("oneshot_forgotten", "object"),
    ("request_side", "object"),
    ("reply_side", "object"),
    ("deadlock", "semaphore"),
];
const HEALTHY: [(&str, &str); 6] = [
    ("pool_worker", "object"),
    ("hour_timer", "timer"),
    ("accept_loop", "io"),
    ("keep_alive", "io"),
    ("ticker", "timer"),
    // Only an abort handle refers to it, and that is no waker.
    ("abortable_pending", "unknown"),
];

/// The tasks of a program by place.
struct Tasks(BTreeMap<String, Vec<Value>>);

impl Tasks {
    fn of(cell: &str, program: &str) -> Self {
        let mut fixture = Fixture::start(cell, program, &["still"]);
        let pid = fixture.pid();
        let look = Observer::run(["ps", "--json", "--tasks", "--pid", &pid.to_string()]).look();
        let by_place = fixture.ask().by_place(look.of("task", pid));
        let owned = |(name, tasks): (String, Vec<&Value>)| (name, tasks.into_iter().cloned().collect());
        Self(by_place.into_iter().map(owned).collect())
    }

    fn ids(&self, place: &str) -> BTreeSet<&str> {
        self.0[place].iter().map(|task| word(task, "taskId")).collect()
    }

    /// For each task of a place: its id, and the one thing it waits for.
    fn waits(&self, place: &str) -> Vec<(&str, &Value)> {
        let tasks = &self.0[place];
        for task in tasks {
            assert_eq!(task["waits"].as_array().map(Vec::len), Some(1), "a {place} waits for one thing: {task}");
        }
        tasks.iter().map(|task| (word(task, "taskId"), &task["waits"][0])).collect()
    }
}

#[test]
fn what_each_place_waits_for_is_said() {
    let mut wrong = Vec::new();
    for cell in CELLS {
        for (program, wanted) in [("leaks", &LEAKS[..]), ("healthy", &HEALTHY[..])] {
            let tasks = Tasks::of(cell, program);
            for (place, on) in wanted {
                let of_place = &tasks.0[*place];
                // A ticker may have been met at its tick.
                let idle = of_place.iter().filter(|task| task["state"] == "idle");
                for task in idle {
                    let said: Vec<&str> =
                        task["waits"].as_array().into_iter().flatten().map(|wait| word(wait, "on")).collect();
                    if said != [*on] {
                        wrong.push(format!("{cell}: a {place} waits for {said:?}, not {on}: {}", task["waits"]));
                    }
                }
            }
        }
    }
    let few: Vec<&String> = wrong.iter().take(20).collect();
    assert!(wrong.is_empty(), "{} are wrong: {few:#?}", wrong.len());
}

#[test]
fn who_must_act_is_named() {
    for cell in CELLS {
        let tasks = Tasks::of(cell, "leaks");
        // Each awaits its own inner task.
        let awaited: BTreeSet<&str> = tasks.waits("awaits_pending").iter().map(|(_, on)| word(on, "taskId")).collect();
        assert_eq!(awaited, tasks.ids("pending_awaited"), "{cell}");
        // Both sides of a pair name each other: that is the circle they are caught in. A few holders are named, the rest is
        // counted: old addresses in unused room of other futures can take the places of the few.
        for (place, other) in [("request_side", "reply_side"), ("reply_side", "request_side"), ("deadlock", "deadlock")]
        {
            let peers: BTreeMap<&str, (Vec<&str>, u64)> = [place, other]
                .iter()
                .flat_map(|place| tasks.waits(place))
                .map(|(id, on)| {
                    let named = on["peers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                    (id, (named, number(on, "morePeers")))
                })
                .collect();
            let (of_place, of_other) = (tasks.ids(place), tasks.ids(other));
            let mut pairs = 0;
            for id in &of_place {
                let (named, more) = &peers[id];
                let named: Vec<&str> = named.iter().copied().filter(|peer| of_other.contains(peer)).collect();
                match named.as_slice() {
                    [] if *more > 0 => continue,
                    [peer] => {
                        let (back, more) = &peers[peer];
                        assert!(
                            back.contains(id) || *more > 0,
                            "{cell}: {place} {id} names {peer}, which names {back:?}"
                        );
                        pairs += usize::from(back.contains(id));
                    }
                    _ => panic!("{cell}: {place} {id} names {:?}", peers[id]),
                }
            }
            assert!(
                pairs * 10 >= of_place.len() * 8,
                "{cell}: {place}: only {pairs} of {} name each other",
                of_place.len()
            );
        }
    }
}

#[test]
fn each_connection_is_named_by_its_own_descriptor() {
    for cell in CELLS {
        let tasks = Tasks::of(cell, "healthy");
        let fds =
            |place: &str| -> BTreeSet<u64> { tasks.waits(place).iter().map(|(_, on)| number(on, "fd")).collect() };
        let (connections, listeners) = (fds("keep_alive"), fds("accept_loop"));
        assert_eq!((connections.len(), listeners.len()), (40, 3), "{cell}");
        assert!(connections.is_disjoint(&listeners), "{cell}");
    }
}
