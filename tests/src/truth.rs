//! Compares a stream with the one line of truth that a program of the zoo prints: counts by kind and by end. Of tasks that the stream
//! itself says it is unsure of (`unsure`: their memory could not be read when they were last seen) it may lack the end.

use serde_json::Value;

use crate::life::Lives;
use crate::stream::Stream;

/// How the stream differs from the program's own books; nothing where they agree.
///
/// The runtime's own worker threads are blocking tasks as well; the program tells how many it had.
pub fn differences(stream: &Stream, lives: &Lives, truth: &Value) -> Vec<String> {
    let told =
        |path: &str| truth.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {truth}"));
    let mut differences = Vec::new();
    let mut compare = |what: &str, said: u64, told: u64| {
        if said != told {
            differences.push(format!("{what}: {said}, the program says {told}"));
        }
    };
    compare("records lost", stream.total("lost"), 0);
    compare("records malformed", stream.total("malformed"), 0);
    let workers = told("/workers");
    let unsure = stream.total("unsure");
    for (kind, member, own) in [("TOKIO_TASK", "task", 0), ("TOKIO_BLOCKING", "blocking", workers)] {
        let existing = lives.kind(kind).filter(|life| life.existing()).count() as u64;
        compare(&format!("{kind} existing"), existing, 0);
        compare(&format!("{kind} inits"), lives.kind(kind).count() as u64, told(&format!("/{member}/spawned")) + own);
        let destroys = lives.kind(kind).filter(|life| life.destroy.is_some()).count() as u64;
        let freed = told(&format!("/{member}/freed")) + own;
        compare(&format!("{kind} destroys"), destroys + unsure.min(freed.saturating_sub(destroys)), freed);
    }
    // Where the end of the process was told before the stream's, they ended with it.
    let live = stream.total("live") + stream.total("endedWithProcess");
    compare("live at the end", live - unsure.min(live.saturating_sub(told("/leaked"))), told("/leaked"));
    let resolved = |outcome: &str| lives.by_id.values().filter(|life| life.outcome() == Some(outcome)).count() as u64;
    let told_ends = [
        ("ready", told("/ends/ready") + workers),
        ("cancelled", told("/ends/cancelled")),
        ("panicked", told("/ends/panicked")),
    ];
    // The end of an ambiguous task shows only in its stored output; where that is gone at once, nothing tells.
    let ambiguous = told("/ends/ambiguous");
    let all: u64 = told_ends.iter().map(|(_, count)| count).sum();
    compare("resolved", stream.total("resolve"), all);
    for (outcome, told) in told_ends {
        let (said, least) = (resolved(outcome), told.saturating_sub(ambiguous));
        if said < least || said > told {
            differences.push(format!("resolved {outcome}: {said}, the program says {least} to {told}"));
        }
    }
    if resolved("unknown") > ambiguous {
        differences
            .push(format!("resolved unknown: {}, the program has {ambiguous} ambiguous ends", resolved("unknown")));
    }
    differences
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_said_with_both_figures() {
        let totals = json!({"init": 0, "before": 0, "after": 0, "resolve": 0, "destroy": 0, "live": 0, "lost": 0, "malformed": 0, "late": 0,
            "endedWithProcess": 0, "unsure": 0});
        let mut stream = Stream {
            lines: vec![json!({"event": "start", "ts": 0}), json!({"event": "end", "ts": 1, "totals": totals})],
        };
        let mut truth = json!({"task": {"spawned": 0, "freed": 0}, "blocking": {"spawned": 0, "freed": 0},
            "workers": 0, "leaked": 0, "ends": {"ready": 0, "cancelled": 0, "panicked": 0, "ambiguous": 0}});
        let lives = Lives::of(&stream);
        assert_eq!(differences(&stream, &lives, &truth), Vec::<String>::new());
        truth["task"]["spawned"] = 1.into();
        truth["leaked"] = 1.into();
        assert_eq!(
            differences(&stream, &lives, &truth),
            ["TOKIO_TASK inits: 0, the program says 1", "live at the end: 0, the program says 1"]
        );

        // One that the stream is unsure of may have ended, and one only.
        truth["task"]["spawned"] = 0.into();
        truth["leaked"] = 0.into();
        for (freed, differs) in [(1, false), (2, true)] {
            truth["task"]["freed"] = freed.into();
            stream.lines[1]["totals"]["unsure"] = 1.into();
            stream.lines[1]["totals"]["live"] = freed.into();
            assert_eq!(!differences(&stream, &lives, &truth).is_empty(), differs, "{freed} of 1");
        }
    }
}
