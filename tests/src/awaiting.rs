//! How the tasks of `awaits` wait, as their futures say themselves, against what a dump tells of them.

use std::collections::HashMap;

use serde_json::Value;

use crate::fixture::Fixture;
use crate::look::Look;
use crate::stream::{number, word};

/// What a fault begins with where nothing is said, rightly or wrongly.
pub const UNTOLD: &str = "no frames";

/// What was said of each task, by its id.
pub fn stacks(look: &Look, pid: u32) -> HashMap<String, &Value> {
    let ids = |stack: &Value| -> Vec<String> {
        stack["taskIds"].as_array().expect("a list").iter().filter_map(|id| id.as_str().map(String::from)).collect()
    };
    look.of("stack", pid).flat_map(|stack| ids(stack).into_iter().map(move |id| (id, stack))).collect()
}

/// What the program says that starts with this member.
pub fn truths(fixture: &Fixture, member: &str) -> Vec<Value> {
    let said = fixture.said();
    let lines = said.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line.get(member).is_some()).collect()
}

/// The path of a frame's type, without parameters; of an async body its function's.
pub fn path(frame: &Value) -> String {
    let raw = word(frame, "raw");
    let raw = raw.split('<').next().unwrap_or(raw);
    raw.trim_end_matches("::{async_fn_env#0}").to_owned()
}

/// What differs between a task's frames and what its futures said; none if nothing does.
fn fault(truth: &Value, stack: &Value) -> Option<String> {
    let Some(frames) = stack["frames"].as_array() else { return Some(format!("{UNTOLD}: {}", stack["reason"])) };
    let steps = truth["stack"].as_array().expect("a list");
    let open = truth["open"] == true;
    if frames.len() < steps.len() || frames.len() > steps.len() && !open {
        return Some(format!("{} futures, not {}", frames.len(), steps.len()));
    }
    for (step, frame) in steps.iter().zip(frames) {
        let same = (number(step, "depth"), word(step, "future")) == (number(frame, "depth"), &*path(frame));
        let is_body = word(step, "future").starts_with("awaits::");
        let place = match step["line"].as_u64() {
            // A macro awaits in it.
            None if is_body => frame["within"].as_str().is_some_and(|place| place.contains("src/ways.rs:")),
            None => frame["location"].is_null() && frame["state"] == "leaf",
            Some(line) => {
                let place = format!("src/ways.rs:{line}");
                frame["location"].as_str().is_some_and(|at| at.ends_with(&place)) && frame["within"].is_null()
            }
        };
        if !same || !place {
            return Some(format!("{frame} is not {step}"));
        }
    }
    None
}

/// What is wrong with what is told of each task.
pub fn faults(fixture: &Fixture, look: &Look) -> Vec<String> {
    let stacks = stacks(look, fixture.pid());
    let truths = truths(fixture, "stack");
    assert!(truths.len() >= 28, "it has many ways to wait");
    let fault = |truth: &Value| {
        let stack = stacks.get(word(truth, "task"));
        let fault = stack.map_or_else(|| Some("it is not told".to_owned()), |stack| fault(truth, stack));
        fault.map(|fault| format!("{}: {fault}", word(truth, "way")))
    };
    truths.iter().filter_map(fault).collect()
}
