//! Each resource's life as the stream tells it, and what must hold for every life whatever the program does.
//!
//! | rule | broken |
//! |---|---|
//! | the first event of an id is its init, and there is one | `id 3: before without init`, `id 3: init twice` |
//! | destroy is its last event, and there is at most one | `id 3: after follows destroy` |
//! | there is at most one resolve | `id 3: resolve twice` |
//! | on one thread, before and after nest | `id 3: after on thread 9, where id 4 is innermost` |
//! | no poll is open when it is destroyed | `id 3: destroyed with 1 polls open` |
//! | a trigger is an id said before, 0, or unknown | `id 3: trigger 99 was never said` |
//! | the root is the end of the chain of triggers | `id 3: before has root 2, its triggers lead to 1` |
//! | time does not go back in a life | `id 3: resolve goes back in time` |
//! | a task id names one resource of its process and image | `ids 3 and 5 are both task 17` |
//! | `end` counts what was said | `end says 5 init, 4 were said` |

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::stream::{Stream, number, word};

/// One resource's life.
#[derive(Debug)]
pub struct Life {
    /// Its init line.
    pub init: Value,
    /// Its polls in the order they began.
    pub polls: Vec<Poll>,
    /// How it resolved, if it did.
    pub resolve: Option<Resolve>,
    /// When it was destroyed, if it was.
    pub destroy: Option<u64>,
}

/// One before with its after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// The thread of both.
    pub tid: u64,
    /// When it began.
    pub from: u64,
    /// When it ended; `None` while it is open.
    pub to: Option<u64>,
}

/// A resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// `ready`, `cancelled`, `panicked` or `unknown`.
    pub outcome: String,
    /// Concluded, not seen.
    pub inferred: bool,
}

/// All lives of one stream.
#[derive(Debug, Default)]
pub struct Lives {
    /// By async id.
    pub by_id: BTreeMap<u64, Life>,
    /// Every rule that was broken, in the words of this module's table.
    pub faults: Vec<String>,
    /// By process, image (each has a tokio of its own, which counts for itself) and tokio's id.
    by_task: HashMap<(u64, String, u64), u64>,
    /// Where the triggers lead from each, by the inits. Chains may be long: each is followed by one step.
    roots: HashMap<u64, u64>,
}

impl Life {
    /// Tokio's id, where it is known.
    pub fn task_id(&self) -> Option<u64> {
        self.init["resource"]["taskId"].as_str()?.parse().ok()
    }

    /// `TOKIO_TASK` or `TOKIO_BLOCKING`.
    pub fn kind(&self) -> &str {
        word(&self.init, "type")
    }

    /// The word of its resolve.
    pub fn outcome(&self) -> Option<&str> {
        Some(self.resolve.as_ref()?.outcome.as_str())
    }

    /// Whether it was there before the attach.
    pub fn existing(&self) -> bool {
        self.init["existing"] == true
    }
}

impl Lives {
    /// Follows every life of a stream that says all events.
    pub fn of(stream: &Stream) -> Self {
        Self::follow(stream, false)
    }

    /// The same for a stream that lost records: what lost records take with them is no fault (a poll whose after is
    /// missing, a life without a resolve), everything else still is.
    pub fn of_lossy(stream: &Stream) -> Self {
        Self::follow(stream, true)
    }

    /// The same for the events of one process, without the totals that only a stream has.
    pub fn of_process(events: &[Value]) -> Self {
        Self::walk(events, false).0
    }

    fn follow(stream: &Stream, lossy: bool) -> Self {
        let (mut lives, said) = Self::walk(&stream.lines, lossy);
        for event in ["init", "before", "after", "resolve", "destroy"] {
            let (total, said) = (stream.total(event), said.get(event).copied().unwrap_or(0));
            if total != said {
                lives.faults.push(format!("end says {total} {event}, {said} were said"));
            }
        }
        // Records are said as soon as the kernel vouches that all before them are there.
        if !lossy && stream.total("late") > 0 {
            lives.faults.push(format!("{} records came after later ones were said", stream.total("late")));
        }
        // The end of a process takes the tasks that lived in it along; it may be told before the stream ends, or not.
        let gone: u64 = stream.of("gone").map(|gone| number(gone, "live")).sum();
        let live = lives.by_id.values().filter(|life| life.destroy.is_none()).count() as u64;
        if stream.total("live") + gone != live {
            let told = stream.total("live");
            lives.faults.push(format!("end says {told} live, {gone} went with processes, {live} were not destroyed"));
        }
        lives
    }

    /// Follows every life; gives how often each event was said.
    fn walk(lines: &[Value], lossy: bool) -> (Self, HashMap<&str, u64>) {
        let mut lives = Self::default();
        let mut open: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut said: HashMap<&str, u64> = HashMap::new();
        let mut latest: HashMap<u64, u64> = HashMap::new();
        for line in lines {
            let event = word(line, "event");
            *said.entry(event).or_default() += 1;
            let of_the_stream = matches!(
                event,
                "start" | "end" | "lost" | "lostNews" | "target" | "gone" | "degraded" | "tier" | "overhead"
            );
            if of_the_stream || matches!(event, "interval" | "busy" | "blocking" | "spawned" | "spawnStack") {
                continue;
            }
            if event == "polls" {
                lives.sum(number(line, "asyncId"));
                lives.lead(event, line);
                continue;
            }
            let (id, at) = (number(line, "asyncId"), number(line, "ts"));
            let before = latest.insert(id, at);
            if before.is_some_and(|before| at < before) {
                lives.faults.push(format!("id {id}: {event} goes back in time"));
            }
            lives.take(event, id, at, line, &mut open, lossy);
            lives.lead(event, line);
        }
        (lives, said)
    }

    /// Its root is where its triggers lead to.
    fn lead(&mut self, event: &str, line: &Value) {
        let (id, root) = (number(line, "asyncId"), number(line, "rootAsyncId"));
        let leads = self.roots.get(&id).copied().unwrap_or(id);
        if root != leads {
            self.faults.push(format!("id {id}: {event} has root {root}, its triggers lead to {leads}"));
        }
    }

    fn take(&mut self, event: &str, id: u64, at: u64, line: &Value, open: &mut HashMap<u64, Vec<u64>>, lossy: bool) {
        let Some(life) = self.by_id.get_mut(&id) else {
            match event {
                "init" => self.begin(id, line),
                _ => self.faults.push(format!("id {id}: {event} without init")),
            }
            return;
        };
        if life.destroy.is_some() {
            self.faults.push(format!("id {id}: {event} follows destroy"));
            return;
        }
        let tid = line["tid"].as_u64().unwrap_or(0);
        let stack = open.entry(tid).or_default();
        match event {
            "init" => self.faults.push(format!("id {id}: init twice")),
            "before" => {
                stack.push(id);
                life.polls.push(Poll { tid, from: at, to: None });
            }
            "after" => {
                if lossy {
                    // Polls inside this one whose ends were lost.
                    stack.truncate(stack.iter().rposition(|held| *held == id).map_or(0, |position| position + 1));
                }
                if stack.last() == Some(&id) {
                    stack.pop();
                } else if !lossy {
                    let innermost = stack.last().map_or("nothing".into(), |held| format!("id {held}"));
                    self.faults.push(format!("id {id}: after on thread {tid}, where {innermost} is innermost"));
                }
                if let Some(poll) = life.polls.iter_mut().rfind(|poll| poll.tid == tid && poll.to.is_none()) {
                    poll.to = Some(at);
                }
            }
            "resolve" if life.resolve.is_some() => self.faults.push(format!("id {id}: resolve twice")),
            "resolve" => {
                life.resolve =
                    Some(Resolve { outcome: word(line, "outcome").to_owned(), inferred: line["inferred"] == true })
            }
            _ => {
                life.destroy = Some(at);
                let polls_open = life.polls.iter().filter(|poll| poll.to.is_none()).count();
                if polls_open > 0 && !lossy {
                    self.faults.push(format!("id {id}: destroyed with {polls_open} polls open"));
                }
            }
        }
    }

    /// A sum is of a life between its init and its destroy, whatever its time is.
    fn sum(&mut self, id: u64) {
        match self.by_id.get(&id) {
            None => self.faults.push(format!("id {id}: polls without init")),
            Some(life) if life.destroy.is_some() => self.faults.push(format!("id {id}: polls follows destroy")),
            Some(_) => {}
        }
    }

    fn begin(&mut self, id: u64, line: &Value) {
        let life = Life { init: line.clone(), polls: Vec::new(), resolve: None, destroy: None };
        for member in ["triggerAsyncId", "executionAsyncId"] {
            let Some(other) = line[member].as_u64() else { continue };
            if other != 0 && !self.by_id.contains_key(&other) {
                let short = member.trim_end_matches("AsyncId");
                self.faults.push(format!("id {id}: {short} {other} was never said"));
            }
        }
        let trigger = line["triggerAsyncId"].as_u64().filter(|trigger| *trigger != 0);
        let root = trigger.map_or(id, |trigger| self.roots.get(&trigger).copied().unwrap_or(trigger));
        self.roots.insert(id, root);
        if let Some(task_id) = life.task_id()
            && let image = line["resource"]["typeId"].as_str().and_then(|id| id.split('+').next()).unwrap_or("")
            && let Some(other) = self.by_task.insert((number(line, "pid"), image.to_owned(), task_id), id)
        {
            self.faults.push(format!("ids {other} and {id} are both task {task_id}"));
        }
        self.by_id.insert(id, life);
    }

    /// Fails with every broken rule, the first twenty in full.
    pub fn assert_sane(&self, what: &str) {
        assert!(self.faults.is_empty(), "{what}: {}", summary(&self.faults));
    }

    /// Lives of one kind.
    pub fn kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Life> {
        self.by_id.values().filter(move |life| life.kind() == kind)
    }
}

/// Many faults as one text.
pub fn summary(faults: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown = faults.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n  ");
    let rest = faults.len().saturating_sub(SHOWN);
    let more = if rest > 0 { format!("\n  and {rest} more") } else { String::new() };
    format!("{} faults\n  {shown}{more}", faults.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines in short: `init 1<0 #17`, `before 1 @9`, `resolve 1 ready`, `destroy 1`, of another root `after 1 ^7`; then the totals
    /// they make.
    fn stream(short: &[&str]) -> Stream {
        let mut lines = vec![serde_json::json!({"event": "start", "ts": 0})];
        let mut roots: HashMap<u64, u64> = HashMap::new();
        for (index, text) in short.iter().enumerate() {
            let mut words = text.split(' ');
            let event = words.next().expect("an event");
            let (id, trigger) = words.next().map(|id| id.split_once('<').unwrap_or((id, "0"))).expect("an id");
            let rest = words.next().unwrap_or("");
            let task_id = rest.strip_prefix('#');
            let number = |text: &str| text.parse::<u64>().expect("a number");
            let tid = rest.strip_prefix('@').map_or(9, number);
            let (id, trigger) = (number(id), number(trigger));
            let from = roots.get(&trigger).copied().unwrap_or(if trigger == 0 { id } else { trigger });
            let root = *roots.entry(id).or_insert(from);
            let root = rest.strip_prefix('^').map_or(root, number);
            lines.push(serde_json::json!({
                "event": event, "ts": index + 1, "pid": 7, "tid": tid, "asyncId": id, "rootAsyncId": root,
                "triggerAsyncId": trigger, "type": "TOKIO_TASK", "outcome": rest,
                "resource": {"taskId": task_id},
            }));
        }
        let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
        let totals = serde_json::json!({"init": count("init"), "before": count("before"), "after": count("after"),
            "resolve": count("resolve"), "destroy": count("destroy"), "live": count("init") - count("destroy"), "late": 0});
        lines.push(serde_json::json!({"event": "end", "ts": 99, "totals": totals}));
        Stream { lines }
    }

    fn faults(short: &[&str]) -> Vec<String> {
        Lives::of(&stream(short)).faults
    }

    #[test]
    fn a_whole_life_has_no_fault() {
        let lives =
            Lives::of(&stream(&["init 1 #17", "before 1", "init 2<1", "resolve 1 ready", "after 1", "destroy 1"]));
        assert_eq!(lives.faults, Vec::<String>::new());
        let life = &lives.by_id[&1];
        assert_eq!((life.task_id(), life.polls.as_slice()), (Some(17), &[Poll { tid: 9, from: 2, to: Some(5) }][..]));
        let ready = Resolve { outcome: "ready".to_owned(), inferred: false };
        assert_eq!((life.resolve.as_ref(), life.destroy), (Some(&ready), Some(6)));
    }

    #[test]
    fn a_poll_on_another_thread_may_begin_before_the_last_one_ended() {
        assert_eq!(faults(&["init 1", "before 1 @8", "before 1 @9", "after 1 @8", "after 1 @9"]), Vec::<String>::new());
    }

    #[test]
    fn each_broken_rule_is_said_in_its_words() {
        let cases: [(&[&str], &str); 10] = [
            (&["before 3"], "id 3: before without init"),
            (&["init 3", "init 3"], "id 3: init twice"),
            (&["init 3", "destroy 3", "after 3"], "id 3: after follows destroy"),
            (&["init 3", "resolve 3 ready", "resolve 3 ready"], "id 3: resolve twice"),
            (
                &["init 3", "init 4", "before 3", "before 4", "after 3"],
                "id 3: after on thread 9, where id 4 is innermost",
            ),
            (&["init 3", "after 3"], "id 3: after on thread 9, where nothing is innermost"),
            (&["init 3", "before 3", "destroy 3"], "id 3: destroyed with 1 polls open"),
            (&["init 3<99"], "id 3: trigger 99 was never said"),
            (&["init 3", "init 5<3", "destroy 5 ^5"], "id 5: destroy has root 5, its triggers lead to 3"),
            (&["init 3 #17", "init 5 #17"], "ids 3 and 5 are both task 17"),
        ];
        for (short, fault) in cases {
            assert!(faults(short).iter().any(|said| said == fault), "{short:?} gives {:?}", faults(short));
        }
    }

    #[test]
    fn totals_that_do_not_fit_are_faults() {
        let mut wrong = stream(&["init 1", "destroy 1"]);
        let end = wrong.lines.len() - 1;
        wrong.lines[end]["totals"]["destroy"] = 0.into();
        wrong.lines[end]["totals"]["live"] = 1.into();
        let faults = Lives::of(&wrong).faults;
        assert_eq!(
            faults,
            ["end says 0 destroy, 1 were said", "end says 1 live, 0 went with processes, 0 were not destroyed"]
        );
    }

    #[test]
    fn a_summary_says_how_many_more_there_are() {
        let faults: Vec<String> = (0..25).map(|n| format!("fault {n}")).collect();
        let text = summary(&faults);
        assert!(text.starts_with("25 faults\n  fault 0\n") && text.ends_with("fault 19\n  and 5 more"), "{text}");
    }
}
