//! The stream of a whole host, taken apart by process life: from `target` (or `start`) to `gone`.
//!
//! | rule | broken |
//! |---|---|
//! | a process's events stand between its `target` and its `gone` | `7: init before it is a target` |
//! | an id belongs to one process life | `7: after of id 3, which is of 9` |
//! | what must hold for every resource's life (`crate::life`) | as there |

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use crate::life::Lives;
use crate::stream::{number, word};

/// A process life as the stream tells it.
#[derive(Debug)]
pub struct Seen {
    /// The process.
    pub pid: u32,
    /// What was said of it: the target of `start`, then each `target` line.
    pub said: Vec<Value>,
    /// Its resources.
    pub lives: Lives,
    /// Its `gone` line.
    pub gone: Option<Value>,
}

/// All process lives, those of one process in their order.
#[derive(Debug, Default)]
pub struct Observed {
    /// By process.
    pub by_pid: BTreeMap<u32, Vec<Seen>>,
    /// Every rule that was broken.
    pub faults: Vec<String>,
}

struct Open {
    said: Vec<Value>,
    lines: Vec<Value>,
}

impl Observed {
    /// Takes a stream apart; its lines may be cut off anywhere.
    pub fn of(lines: &[Value]) -> Self {
        let mut observed = Self::default();
        let mut open: HashMap<u32, Open> = HashMap::new();
        let mut owners: HashMap<u64, u32> = HashMap::new();
        for line in lines {
            match word(line, "event") {
                "start" => {
                    for target in line["targets"].as_array().map_or(&[][..], Vec::as_slice) {
                        open.insert(pid_of(target), Open { said: vec![target.clone()], lines: Vec::new() });
                    }
                }
                "target" => {
                    let place = open.entry(pid_of(line));
                    place.or_insert_with(|| Open { said: Vec::new(), lines: Vec::new() }).said.push(line.clone());
                }
                "gone" => match open.remove(&pid_of(line)) {
                    Some(ended) => observed.close(pid_of(line), ended, Some(line.clone())),
                    None => observed.faults.push(format!("{}: gone before it is a target", pid_of(line))),
                },
                "end" | "lost" | "degraded" | "overhead" => {}
                event => {
                    let (pid, id) = (pid_of(line), number(line, "asyncId"));
                    let owner = *owners.entry(id).or_insert(pid);
                    if owner != pid {
                        observed.faults.push(format!("{pid}: {event} of id {id}, which is of {owner}"));
                    }
                    match open.get_mut(&pid) {
                        Some(open) => open.lines.push(line.clone()),
                        None => observed.faults.push(format!("{pid}: {event} before it is a target")),
                    }
                }
            }
        }
        let mut left: Vec<(u32, Open)> = open.into_iter().collect();
        left.sort_by_key(|(pid, _)| *pid);
        left.into_iter().for_each(|(pid, open)| observed.close(pid, open, None));
        observed
    }

    fn close(&mut self, pid: u32, open: Open, gone: Option<Value>) {
        let lives = Lives::of_process(&open.lines);
        self.faults.extend(lives.faults.iter().map(|fault| format!("{pid}: {fault}")));
        self.by_pid.entry(pid).or_default().push(Seen { pid, said: open.said, lives, gone });
    }

    /// Paths of all images that were said, each with how many points it was said to have.
    pub fn images(&self) -> BTreeMap<(String, String), BTreeSet<u64>> {
        let mut images: BTreeMap<(String, String), BTreeSet<u64>> = BTreeMap::new();
        for seen in self.by_pid.values().flatten() {
            for image in seen.images() {
                let key = (word(image, "buildId").to_owned(), word(image, "path").to_owned());
                images.entry(key).or_default().insert(number(image, "points"));
            }
        }
        images
    }
}

impl Seen {
    /// Every image that was said of it.
    pub fn images(&self) -> impl Iterator<Item = &Value> {
        self.said.iter().filter_map(|said| said["images"].as_array()).flatten()
    }

    /// The program, as it was said last.
    pub fn exe(&self) -> &str {
        self.said.last().map_or("", |said| said["exe"].as_str().unwrap_or(""))
    }

    /// Births of its own, by future type: those that were there before it was a target are not among them.
    pub fn born(&self, kind: &str) -> BTreeMap<String, u64> {
        let mut born: BTreeMap<String, u64> = BTreeMap::new();
        for life in self.lives.kind(kind).filter(|life| !life.existing()) {
            let of = life.init["resource"]["typeId"].as_str().unwrap_or("unknown").to_owned();
            *born.entry(of).or_default() += 1;
        }
        born
    }

    /// Births of its own that ended.
    pub fn died(&self, kind: &str) -> u64 {
        self.lives.kind(kind).filter(|life| !life.existing() && life.destroy.is_some()).count() as u64
    }

    /// How many of those that did not end may have: their memory could not be read when they were last seen.
    pub fn unsure(&self) -> u64 {
        self.gone.as_ref().map_or(0, |gone| number(gone, "unsure"))
    }

    /// What is said of those that were not destroyed, one by one: what to look at where there are too many of them.
    pub fn left(&self) -> String {
        let gone = self.gone.as_ref().map(|gone| number(gone, "ts"));
        let told = |(id, life): (&u64, &crate::life::Life)| {
            let end = life.polls.last().map(|poll| poll.to.map_or("inside a poll", |_| "polled"));
            let since = life.polls.last().map_or(number(&life.init, "ts"), |poll| poll.to.unwrap_or(poll.from));
            let before = gone.map(|gone| gone as i64 - since as i64);
            format!(
                "{id} {} {} {before:?} ns before its end",
                end.unwrap_or("born"),
                life.outcome().unwrap_or("pending")
            )
        };
        let left = self.lives.by_id.iter().filter(|(_, life)| life.destroy.is_none());
        format!("{} [{}]", self.exe(), left.map(told).collect::<Vec<_>>().join(", "))
    }

    /// What was there before it was a target.
    pub fn existing(&self) -> u64 {
        self.lives.by_id.values().filter(|life| life.existing()).count() as u64
    }
}

/// The process of a line that has one.
pub fn pid_of(line: &Value) -> u32 {
    u32::try_from(number(line, "pid")).unwrap_or_else(|_| panic!("no process: {line}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(event: &str, pid: u32, id: u64) -> Value {
        json!({"event": event, "ts": id + 10, "pid": pid, "tid": pid, "asyncId": id, "rootAsyncId": id, "triggerAsyncId": 0, "type": "TOKIO_TASK",
            "executionAsyncId": 0, "existing": false, "resource": {"taskId": "1", "typeId": "ab+0x10"}})
    }

    fn target(pid: u32) -> Value {
        json!({"event": "target", "ts": 1, "pid": pid, "exe": "/bin/app", "images": []})
    }

    #[test]
    fn two_lives_of_one_process_are_told_apart() {
        let gone = json!({"event": "gone", "ts": 50, "pid": 7, "reason": "exec", "live": 1});
        let lines = [target(7), event("init", 7, 1), gone, target(7), event("init", 7, 2), event("destroy", 7, 2)];
        let observed = Observed::of(&lines);
        assert_eq!(observed.faults, Vec::<String>::new());
        let [first, second] = observed.by_pid[&7].as_slice() else { panic!("two lives: {observed:?}") };
        assert_eq!((first.died("TOKIO_TASK"), second.died("TOKIO_TASK")), (0, 1));
        assert_eq!(second.born("TOKIO_TASK"), BTreeMap::from([("ab+0x10".into(), 1)]));
        assert!(first.gone.is_some() && second.gone.is_none());
    }

    #[test]
    fn events_of_a_process_that_is_no_target_and_ids_of_another_are_faults() {
        let observed = Observed::of(&[target(7), event("init", 7, 1), event("init", 8, 2), event("destroy", 7, 2)]);
        assert_eq!(
            observed.faults,
            ["8: init before it is a target", "7: destroy of id 2, which is of 8", "7: id 2: destroy without init"]
        );
    }
}
