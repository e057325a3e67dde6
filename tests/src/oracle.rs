//! The oracle's log, and how a stream differs from it, task by task.
//!
//! The log has two voices: the runtime's hooks (spawn, before poll, after poll, terminate) and the program's own record (who
//! called spawn while polling whom, how each task was made to end, when its block was freed, and for tasks that call no
//! hooks the polls of their futures). Neither knows the observer.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::life::{Life, Lives, Poll};
use crate::stream::{number, word};

/// What the log tells of one task.
#[derive(Debug, Default)]
pub struct Told {
    /// The spawn call that returned its id; `None` for the runtime's own workers.
    pub spawned: Option<Spawned>,
    /// The spawn hook named it.
    pub hooked: bool,
    /// Polls by the hooks.
    pub polls: Vec<Poll>,
    /// Polls of its future by itself, where it calls no hooks.
    pub own_polls: Vec<Poll>,
    /// The terminate hook named it.
    pub terminated: bool,
    /// What its handle said, where somebody asked.
    pub joined: Option<String>,
    /// Only its stored output tells how it ended, and that may be gone at once.
    pub ambiguous: bool,
    /// Its block was freed.
    pub freed: bool,
}

/// One spawn call.
#[derive(Debug)]
pub struct Spawned {
    /// `TOKIO_TASK` or `TOKIO_BLOCKING`.
    pub kind: String,
    /// The innermost task being polled on the calling thread.
    pub parent: Option<u64>,
    /// How the task is made to end.
    pub end: String,
    /// Before the call.
    pub from: u64,
    /// After it.
    pub to: u64,
    /// The calling thread.
    pub tid: u64,
}

/// The whole log, by task id.
#[derive(Debug, Default)]
pub struct Log {
    /// What is told of each task.
    pub tasks: BTreeMap<u64, Told>,
}

impl Log {
    /// Reads the log's lines.
    pub fn parse(text: &str) -> Self {
        let mut log = Self::default();
        for text in text.lines() {
            let line: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("the log: {error}: {text}"));
            let told = log.tasks.entry(number(&line, "id")).or_default();
            let seen = || (number(&line, "tid"), number(&line, "at"));
            match word(&line, "what") {
                "spawned" => {
                    told.spawned = Some(Spawned {
                        kind: word(&line, "kind").to_owned(),
                        parent: line["parent"].as_u64(),
                        end: word(&line, "end").to_owned(),
                        from: number(&line, "from"),
                        to: number(&line, "to"),
                        tid: number(&line, "tid"),
                    });
                }
                "spawn" => told.hooked = true,
                "before" => begin(&mut told.polls, seen()),
                "after" => finish(&mut told.polls, seen()),
                "own-before" => begin(&mut told.own_polls, seen()),
                "own-after" => finish(&mut told.own_polls, seen()),
                "terminate" => told.terminated = true,
                "joined" => told.joined = Some(word(&line, "end").to_owned()),
                "ambiguous" => told.ambiguous = true,
                "freed" => told.freed = true,
                other => panic!("the log says {other}: {text}"),
            }
        }
        log
    }

    /// How many workers of the runtimes' own it tells of: they terminate, and nobody spawned them.
    pub fn workers(&self) -> u64 {
        self.tasks.values().filter(|told| told.spawned.is_none()).count() as u64
    }

    /// How the stream's lives differ from the log; nothing where they agree.
    pub fn differences(&self, lives: &Lives) -> Vec<String> {
        self.differ(lives, true)
    }

    /// The same for a stream that does not say polls.
    pub fn differences_but_for_polls(&self, lives: &Lives) -> Vec<String> {
        self.differ(lives, false)
    }

    fn differ(&self, lives: &Lives, polls: bool) -> Vec<String> {
        let mut differences = Vec::new();
        let seen: BTreeMap<u64, (u64, &Life)> =
            lives.by_id.iter().filter_map(|(id, life)| Some((life.task_id()?, (*id, life)))).collect();
        for (id, life) in &lives.by_id {
            match life.task_id() {
                None => differences.push(format!("id {id} has no task id")),
                Some(task) if !self.tasks.contains_key(&task) => differences.push(format!("task {task} is nobody's")),
                Some(_) => {}
            }
        }
        for (task, told) in &self.tasks {
            let Some((_, life)) = seen.get(task) else {
                differences.push(format!("task {task} was never said"));
                continue;
            };
            let mut faults = Vec::new();
            match &told.spawned {
                Some(spawned) => {
                    told.compare_birth(spawned, life, &seen, &mut faults);
                    if polls {
                        told.compare_polls(spawned, life, &mut faults);
                    }
                    told.compare_end(spawned, life, &mut faults);
                }
                None => compare_worker(life, &mut faults),
            }
            differences.extend(faults.into_iter().map(|fault| format!("task {task}: {fault}")));
        }
        differences
    }
}

impl Told {
    fn compare_birth(
        &self,
        spawned: &Spawned,
        life: &Life,
        seen: &BTreeMap<u64, (u64, &Life)>,
        faults: &mut Vec<String>,
    ) {
        let init = &life.init;
        if life.kind() != spawned.kind {
            faults.push(format!("is {}, was spawned as {}", life.kind(), spawned.kind));
        }
        if life.existing() || init["inferred"] == true {
            faults.push("its init says existing or inferred, and it was born under our eyes".into());
        }
        let (at, tid) = (number(init, "ts"), init["tid"].as_u64());
        if at < spawned.from || at > spawned.to {
            faults.push(format!("init at {at}, spawned between {} and {}", spawned.from, spawned.to));
        }
        if tid != Some(spawned.tid) {
            faults.push(format!("init on thread {tid:?}, spawned on {}", spawned.tid));
        }
        let parent = match spawned.parent {
            None => Some(0),
            Some(parent) => seen.get(&parent).map(|(id, _)| *id),
        };
        for member in ["triggerAsyncId", "executionAsyncId"] {
            let said = &init[member];
            if said.as_u64() != parent {
                let by = spawned.parent.map_or("no task".into(), |parent| format!("task {parent}"));
                faults.push(format!("{member} is {said}, spawned by {by}, whose async id is {parent:?}"));
            }
        }
    }

    fn compare_polls(&self, spawned: &Spawned, life: &Life, faults: &mut Vec<String>) {
        if self.hooked {
            // Every poll of the task, in order, each inside its two hooks.
            if life.polls.len() != self.polls.len() {
                faults.push(format!("{} polls, the hooks saw {}", life.polls.len(), self.polls.len()));
            } else if let Some(n) = (0..self.polls.len()).find(|n| !inside(&life.polls[*n], &self.polls[*n])) {
                faults.push(format!("poll {n} is {:?}, the hooks saw {:?}", life.polls[n], self.polls[n]));
            }
            return;
        }
        // Polls of the future, in order, each inside a poll of the task; one more poll where that one only cancels.
        let extra = life.polls.len().checked_sub(self.own_polls.len());
        let allowed = usize::from(spawned.end == "cancelled");
        if extra.is_none_or(|extra| extra > allowed) {
            faults.push(format!("{} polls, its future was polled {} times", life.polls.len(), self.own_polls.len()));
        } else if let Some(n) = (0..self.own_polls.len()).find(|n| !inside(&self.own_polls[*n], &life.polls[*n])) {
            faults.push(format!("poll {n} is {:?}, its future was polled at {:?}", life.polls[n], self.own_polls[n]));
        }
    }

    fn compare_end(&self, spawned: &Spawned, life: &Life, faults: &mut Vec<String>) {
        if let Some(joined) = self.joined.as_ref().filter(|joined| **joined != spawned.end) {
            faults.push(format!("the log contradicts itself: {joined} and {}", spawned.end));
        }
        match &life.resolve {
            None => faults.push(format!("was never resolved, ended {}", spawned.end)),
            // Where nothing that stays tells, "unknown" is honest, and so is a conclusion that says it is one.
            Some(resolve) if self.ambiguous && (resolve.outcome == "unknown" || resolve.inferred) => {}
            Some(resolve) if resolve.outcome != spawned.end => {
                faults.push(format!("resolved {}, ended {}", resolve.outcome, spawned.end));
            }
            Some(_) => {}
        }
        if self.hooked && !self.terminated {
            faults.push("the log contradicts itself: never terminated".into());
        }
        if life.destroy.is_some() != self.freed {
            let (said, told) = (life.destroy.is_some(), self.freed);
            faults.push(format!("destroyed: {said}, freed: {told}"));
        }
    }
}

fn compare_worker(life: &Life, faults: &mut Vec<String>) {
    if life.kind() != "TOKIO_BLOCKING" {
        faults.push(format!("a worker is TOKIO_BLOCKING, not {}", life.kind()));
    }
    if life.destroy.is_none() {
        faults.push("a worker that ended was not destroyed".into());
    }
}

/// Whether `inner` lies in `outer`, on the same thread.
fn inside(inner: &Poll, outer: &Poll) -> bool {
    inner.tid == outer.tid
        && outer.from <= inner.from
        && matches!((inner.to, outer.to), (Some(inner), Some(outer)) if inner <= outer)
}

fn begin(polls: &mut Vec<Poll>, (tid, from): (u64, u64)) {
    polls.push(Poll { tid, from, to: None });
}

fn finish(polls: &mut [Poll], (tid, at): (u64, u64)) {
    let open = polls.iter_mut().rfind(|poll| poll.tid == tid && poll.to.is_none());
    open.unwrap_or_else(|| panic!("the log ends a poll that did not begin")).to = Some(at);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::life::Resolve;

    const LOG: &str = r#"{"what":"spawned","id":17,"kind":"TOKIO_TASK","parent":null,"end":"ready","from":10,"to":20,"tid":9}
{"what":"spawn","id":17,"at":15,"tid":9}
{"what":"before","id":17,"at":30,"tid":8}
{"what":"after","id":17,"at":40,"tid":8}
{"what":"terminate","id":17,"at":39,"tid":8}
{"what":"freed","id":17,"at":50}
"#;

    fn resolve(outcome: &str) -> Resolve {
        Resolve { outcome: outcome.into(), inferred: false }
    }

    fn lives() -> Lives {
        let init = json!({"ts": 12, "tid": 9, "pid": 7, "type": "TOKIO_TASK", "existing": false, "inferred": false,
            "triggerAsyncId": 0, "executionAsyncId": 0, "resource": {"taskId": "17"}});
        let polls = vec![Poll { tid: 8, from: 31, to: Some(38) }];
        let life = Life { init, polls, resolve: Some(resolve("ready")), destroy: Some(49) };
        let mut lives = Lives::default();
        lives.by_id.insert(1, life);
        lives
    }

    #[test]
    fn a_stream_that_tells_the_same_has_no_difference() {
        assert_eq!(Log::parse(LOG).differences(&lives()), Vec::<String>::new());
    }

    #[test]
    fn an_ambiguous_end_may_be_unknown_or_inferred_but_not_seen_wrongly() {
        let log = Log::parse(&format!("{LOG}{}", r#"{"what":"ambiguous","id":17}"#));
        let with = |resolve| {
            let mut lives = lives();
            lives.by_id.get_mut(&1).expect("is there").resolve = Some(resolve);
            log.differences(&lives)
        };
        assert_eq!(with(resolve("unknown")), Vec::<String>::new());
        assert_eq!(with(Resolve { outcome: "panicked".into(), inferred: true }), Vec::<String>::new());
        assert_eq!(with(resolve("panicked")), ["task 17: resolved panicked, ended ready"]);
    }

    #[test]
    fn each_difference_is_said_in_its_words() {
        type Change = fn(&mut Life);
        let cases: [(Change, &str); 9] = [
            (|life| life.init["resource"]["taskId"] = Value::Null, "id 1 has no task id"),
            (|life| life.init["resource"]["taskId"] = "18".into(), "task 18 is nobody's"),
            (|life| life.init["ts"] = 25.into(), "task 17: init at 25, spawned between 10 and 20"),
            (|life| life.init["tid"] = 3.into(), "task 17: init on thread Some(3), spawned on 9"),
            (
                |life| life.init["triggerAsyncId"] = 5.into(),
                "task 17: triggerAsyncId is 5, spawned by no task, whose async id is Some(0)",
            ),
            (|life| life.polls.clear(), "task 17: 0 polls, the hooks saw 1"),
            (
                |life| life.polls[0].tid = 9,
                "task 17: poll 0 is Poll { tid: 9, from: 31, to: Some(38) }, the hooks saw Poll { tid: 8, from: 30, to: Some(40) }",
            ),
            (|life| life.resolve = Some(resolve("unknown")), "task 17: resolved unknown, ended ready"),
            (|life| life.destroy = None, "task 17: destroyed: false, freed: true"),
        ];
        for (change, difference) in cases {
            let mut lives = lives();
            change(lives.by_id.get_mut(&1).expect("is there"));
            let differences = Log::parse(LOG).differences(&lives);
            assert!(differences.iter().any(|said| said == difference), "{differences:?} lacks {difference}");
        }
    }
}
