//! Objects of the stacks that tasks were spawned through.

use serde::Serialize;

use super::Integer;
use crate::model::{Before, LongStack};
use crate::sink::sites::json::origin::{CallObject, beyond};
use crate::sink::{Spawned, StackCounts, StackEnd};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpawnedObject {
    pid: Option<u32>,
    async_id: Integer,
    stack_id: u32,
}

impl SpawnedObject {
    pub(super) fn new(spawned: &Spawned) -> Self {
        Self { pid: spawned.pid.map(|pid| pid.0), async_id: Integer(spawned.id.0), stack_id: spawned.stack.0 }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StackObject<'a> {
    pid: u32,
    stack_id: u32,
    calls: Vec<CallObject<'a>>,
    cut: Option<&'static str>,
    before_stack_id: Option<u32>,
    beyond: Option<&'static str>,
}

impl<'a> StackObject<'a> {
    pub(super) fn new(stack: &'a LongStack) -> Self {
        let (before_stack_id, beyond) = match stack.before {
            Before::Stack(before) => (Some(before.0), None),
            Before::Nothing(why) => (None, Some(beyond(why))),
            Before::Bound => (None, Some("bound")),
        };
        Self {
            pid: stack.pid.0,
            stack_id: stack.id.0,
            calls: stack.callers.iter().flat_map(CallObject::of).collect(),
            cut: StackEnd::of(stack.end).map(|end| end.word),
            before_stack_id,
            beyond,
        }
    }
}

#[derive(Serialize)]
pub(super) struct CountsObject {
    different: Integer,
    without: Integer,
    lost: Integer,
    malformed: Integer,
}

impl CountsObject {
    pub(super) fn new(counts: &StackCounts) -> Self {
        Self {
            different: Integer(counts.different),
            without: Integer(counts.without),
            lost: Integer(counts.lost),
            malformed: Integer(counts.malformed),
        }
    }
}
