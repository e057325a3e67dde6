//! Compares a process life as the stream tells it with its own books.
//!
//! A life that was not killed is compared exactly. Where a SIGKILL came, the books are true to the last instruction, and so are
//! the records; what is left open is only what a thread was amid: a spawn call that had begun (`calling` but not
//! `spawned`), and the free of a cell, which the same call of the same thread does right after it has dropped the future, once for
//! each thread that can be in such a call. And of tasks that it says it is unsure of the stream may lack the end.

use super::book::{Book, Count};
use super::director::Life;
use super::observed::Seen;
use crate::stream::number;

/// Threads of a life that can be amid the end of a task: two workers, one for closures, and the one that spawns and aborts.
const THREADS: u64 = 4;

/// How a life and what was seen of it differ, where of so many tasks the stream is unsure; nothing where they agree.
pub fn differences(life: &Life, seen: &Seen, unsure: u64) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, said: String, told: String| {
        differences.push(format!("{} ({}): {what}: {said}, its book says {told}", life.token, life.pid));
    };
    let killed = !life.books.iter().all(|book| book.done);
    let futures = sum(life, Book::all_futures);
    let blocking = sum(life, Book::blocking);
    for (kind, count) in [("TOKIO_TASK", futures), ("TOKIO_BLOCKING", blocking)] {
        let born: u64 = seen.born(kind).values().sum();
        if !(count.spawned..=count.calling).contains(&born) {
            differ(&format!("{kind} born"), born.to_string(), format!("{} to {}", count.spawned, count.calling));
        }
        let died = seen.died(kind);
        let amid = if killed { THREADS } else { 0 };
        let least = count.dropped.saturating_sub(amid + unsure);
        if !(least..=count.dropped).contains(&died) {
            differ(&format!("{kind} destroyed"), died.to_string(), format!("{least} to {}", count.dropped));
        }
    }
    if !killed {
        let mut told: Vec<u64> = life.books.iter().flat_map(Book::futures).map(|count| count.spawned).collect();
        let mut said: Vec<u64> = seen.born("TOKIO_TASK").into_values().collect();
        told.sort_unstable();
        said.sort_unstable();
        if said != told {
            differ("born by type", format!("{said:?}"), format!("{told:?}"));
        }
        let forever: u64 = life.books.iter().map(Book::forever).sum();
        let left = seen.lives.by_id.values().filter(|life| !life.existing() && life.destroy.is_none()).count() as u64;
        let most = forever + unsure;
        if !(forever..=most).contains(&left) {
            let said = format!("{left}: {}", seen.left());
            differ("alive at the end", said, format!("{forever}, or {most} by what is unsure"));
        }
    }
    // A child has copies of what its parent had at the fork; nobody else has anything from before.
    if seen.existing() > 0 && !life.token.ends_with(".f") {
        differ("there before", seen.existing().to_string(), "nothing".into());
    }
    differences
}

/// The same, and that its end was said with as many live as the stream leaves.
pub fn differences_of_ended(life: &Life, seen: &Seen) -> Vec<String> {
    let mut differences = differences(life, seen, seen.unsure());
    let left = seen.lives.by_id.values().filter(|life| life.destroy.is_none()).count() as u64;
    let said = seen.gone.as_ref().map(|gone| number(gone, "live"));
    if said != Some(left) {
        differences.push(format!("{} ({}): gone with {said:?} live, {left} were not destroyed", life.token, life.pid));
    }
    differences
}

fn sum(life: &Life, of: impl Fn(&Book) -> Count) -> Count {
    life.books.iter().map(of).fold(Count::default(), Count::and)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::host::observed::Observed;

    /// A life of five kinds of futures and two of closures, each spawned once, seen with so many births and ends.
    fn compared(done: bool, dropped: u64, born: u64, died: u64) -> Vec<String> {
        let book = Book::even(done, Count { calling: 1, spawned: 1, dropped });
        let life = Life { token: "3".into(), pid: 7, books: vec![book] };
        let mut lines = vec![json!({"event": "target", "ts": 1, "pid": 7, "exe": "/bin/app", "images": []})];
        for id in 1..=born {
            let kind = if id > 5 { "TOKIO_BLOCKING" } else { "TOKIO_TASK" };
            lines.push(json!({"event": "init", "ts": 2, "pid": 7, "tid": 7, "asyncId": id, "rootAsyncId": id, "triggerAsyncId": 0, "type": kind,
                "executionAsyncId": 0, "existing": false, "resource": {"taskId": id.to_string(), "typeId": format!("ab+{id}")}}));
        }
        for id in (born - died + 1)..=born {
            lines.push(json!({"event": "destroy", "ts": 3, "pid": 7, "tid": 7, "asyncId": id, "rootAsyncId": id}));
        }
        lines.push(json!({"event": "gone", "ts": 4, "pid": 7, "reason": "exit", "live": born - died, "unsure": 0}));
        differences_of_ended(&life, &Observed::of(&lines).by_pid[&7][0])
    }

    #[test]
    fn a_life_that_was_not_killed_is_compared_exactly() {
        let wrong = compared(true, 1, 6, 6);
        assert!(wrong.contains(&"3 (7): TOKIO_BLOCKING born: 1, its book says 2 to 2".into()), "{wrong:?}");
        let wrong = compared(true, 1, 7, 6);
        assert!(wrong.contains(&"3 (7): TOKIO_TASK destroyed: 4, its book says 5 to 5".into()), "{wrong:?}");
    }

    #[test]
    fn a_killed_life_may_lack_the_ends_that_its_threads_were_amid_and_no_more() {
        assert_eq!(compared(false, 1, 7, 3), Vec::<String>::new());
        assert_eq!(compared(false, 1, 7, 2), ["3 (7): TOKIO_TASK destroyed: 0, its book says 1 to 5"]);
        assert_eq!(compared(false, 0, 7, 1), ["3 (7): TOKIO_BLOCKING destroyed: 1, its book says 0 to 0"]);
    }
}
