//! JSON Lines, as `schema/events.schema.json` says. Integers above 2^53 are strings.

mod end;
mod event_line;
mod line;
mod overhead;
mod spawn_stack;
mod target;

use std::io::{self, Write};

use serde::Serialize;

use crate::lifecycle::Watched;
use crate::model::{BUCKETS, Event, EventKind, EventSet, LongStack, Missing, Ns, TargetEntry};

use super::{End, Gone, LostNews, Overhead, Polled, Sink, Spawned, Start, Stepped};
use end::EndObject;
use event_line::EventLine;
pub(super) use overhead::OverheadObject;
use spawn_stack::{SpawnedObject, StackObject};

pub(in crate::sink) use line::{Integer, line, milliseconds};
pub(in crate::sink) use target::{EnclosureObject, TargetObject};

/// Writes one JSON object a line.
#[derive(Debug)]
pub struct Json {
    events: EventSet,
    line: EventLine,
}

impl Json {
    /// Writes only these events; `start`, `lost` and `end` always.
    pub fn new(events: EventSet) -> Self {
        Self { events, line: EventLine::default() }
    }
}

impl Sink for Json {
    fn start(&mut self, start: &Start<'_>, out: &mut dyn Write) -> io::Result<()> {
        let targets = start.targets.iter().map(|target| TargetObject::new(target, start.missing)).collect();
        let object = StartObject {
            wall_time: humantime::format_rfc3339_nanos(start.wall).to_string(),
            kernel: &start.kernel,
            transport: "perf",
            mechanism: start.mechanism,
            reorder_window_ms: start.window.0 / 1_000_000,
            attach_ms: milliseconds(start.attach),
            following: start.following,
            targets,
        };
        line(out, "start", start.at, object)
    }

    fn event(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        if !self.events.wants(&event.kind) {
            return Ok(());
        }
        if let EventKind::Lost { count } = event.kind {
            let pid = event.pid.map(|pid| pid.0);
            return line(out, "lost", event.at, LostObject { pid, count: Integer(count), of: None });
        }
        self.line.of(event).map_or(Ok(()), |line| out.write_all(line))
    }

    fn target(&mut self, at: Ns, target: &TargetEntry, why: &'static str, out: &mut dyn Write) -> io::Result<()> {
        line(out, "target", at, ChangedTarget::new(why, target, &[]))
    }

    fn gone(&mut self, gone: &Gone, out: &mut dyn Write) -> io::Result<()> {
        line(
            out,
            "gone",
            gone.at,
            GoneObject {
                pid: gone.pid.0,
                reason: gone.why,
                live: live(gone.live, gone.watched),
                unsure: Integer(gone.unsure),
            },
        )
    }

    fn degraded(&mut self, at: Ns, what: &'static str, reason: &str, out: &mut dyn Write) -> io::Result<()> {
        line(out, "degraded", at, DegradedObject { what, reason })
    }

    fn lost_news(&mut self, lost: &LostNews, out: &mut dyn Write) -> io::Result<()> {
        line(out, "lostNews", lost.at, LostNewsObject::new(lost))
    }

    fn stepped(&mut self, stepped: &Stepped, out: &mut dyn Write) -> io::Result<()> {
        let object = TierObject {
            from: stepped.from,
            to: stepped.to,
            reason: stepped.why,
            for_ns: Integer(stepped.during.0),
            added_ns: Integer(stepped.added.0),
            cpu_ns: Integer(stepped.cpu.0),
            max_overhead: stepped.cap,
        };
        line(out, "tier", stepped.at, object)
    }

    fn polled(&mut self, at: Ns, reports: &[Polled], out: &mut dyn Write) -> io::Result<()> {
        for Polled { pid, id, root, sum, polling_for } in reports {
            let counted = (0..BUCKETS as u32).zip(sum.histogram).filter(|(_, count)| *count > 0);
            let object = PolledObject {
                pid: pid.0,
                async_id: Integer(id.0),
                root_async_id: root.map(|id| Integer(id.0)),
                polls: Integer(sum.polls),
                busy_ns: Integer(sum.busy_ns),
                longest_ns: Integer(sum.longest_ns),
                polling_for_ns: polling_for.map(|so_far| Integer(so_far.0)),
                histogram: counted.map(|(bucket, count)| (1 << bucket, count)).collect(),
            };
            line(out, "polls", at, object)?;
        }
        Ok(())
    }

    fn overhead(&mut self, at: Ns, overhead: &Overhead, out: &mut dyn Write) -> io::Result<()> {
        line(out, "overhead", at, OverheadObject::new(overhead))
    }

    fn spawned(&mut self, spawned: &Spawned, out: &mut dyn Write) -> io::Result<()> {
        line(out, "spawned", spawned.at, SpawnedObject::new(spawned))
    }

    fn stack(&mut self, at: Ns, stack: &LongStack, out: &mut dyn Write) -> io::Result<()> {
        line(out, "spawnStack", at, StackObject::new(stack))
    }

    fn end(&mut self, end: &End, out: &mut dyn Write) -> io::Result<()> {
        line(out, "end", end.at, EndObject::new(end))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartObject<'a> {
    wall_time: String,
    kernel: &'a str,
    transport: &'a str,
    mechanism: &'a str,
    reorder_window_ms: u64,
    attach_ms: f64,
    following: &'a str,
    targets: Vec<TargetObject<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolledObject {
    pid: u32,
    async_id: Integer,
    root_async_id: Option<Integer>,
    polls: Integer,
    busy_ns: Integer,
    longest_ns: Integer,
    polling_for_ns: Option<Integer>,
    /// How many took that many nanoseconds or more, and less than twice as many.
    histogram: Vec<(u64, u32)>,
}

#[derive(Serialize)]
pub(in crate::sink) struct LostObject {
    pub(in crate::sink) pid: Option<u32>,
    pub(in crate::sink) count: Integer,
    /// What found no room, where it was no records of events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::sink) of: Option<&'static str>,
}

#[derive(Serialize)]
pub(super) struct ChangedTarget<'a> {
    reason: &'a str,
    #[serde(flatten)]
    target: TargetObject<'a>,
}

impl<'a> ChangedTarget<'a> {
    /// With what is missing in all targets besides.
    pub(super) fn new(reason: &'a str, target: &'a TargetEntry, missing: &'a [Missing]) -> Self {
        Self { reason, target: TargetObject::new(target, missing) }
    }
}

#[derive(Serialize)]
struct DegradedObject<'a> {
    what: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sink) struct LostNewsObject {
    count: Option<Integer>,
    looks_again: bool,
}

impl LostNewsObject {
    pub(in crate::sink) fn new(lost: &LostNews) -> Self {
        Self { count: lost.count.map(Integer), looks_again: lost.looks_again }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TierObject<'a> {
    from: &'a str,
    to: &'a str,
    reason: &'a str,
    for_ns: Integer,
    added_ns: Integer,
    cpu_ns: Integer,
    max_overhead: f64,
}

/// How many are alive, as far as that is known.
fn live(live: u64, watched: Watched) -> Option<Integer> {
    (watched > Watched::Nothing).then_some(Integer(live))
}

#[derive(Serialize)]
struct GoneObject<'a> {
    pid: u32,
    reason: &'a str,
    live: Option<Integer>,
    unsure: Integer,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::model::{AsyncId, Naming, Outcome, Pid, Place, ProcAddr, Resource, ResourceFacts, TaskId, Tid, Unnamed};

    use super::*;

    fn rendered(kind: EventKind) -> Value {
        let event =
            Event { at: Ns(5), pid: Some(Pid(7)), tid: Some(Tid(8)), root: Some(AsyncId(3)), inferred: false, kind };
        let mut out = Vec::new();
        Json::new(EventSet::ALL).event(&event, &mut out).expect("a Vec takes everything");
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1, "one line an object");
        serde_json::from_slice(&out).expect("is JSON")
    }

    fn init(trigger: Option<Option<AsyncId>>) -> Value {
        rendered(EventKind::Init {
            id: AsyncId(12),
            trigger,
            existing: false,
            resource: Box::new(ResourceFacts {
                resource: Resource::Task,
                task_id: Some(TaskId(17)),
                address: Some(ProcAddr(0x7f00)),
                type_id: None,
                future: Naming::Uncertain("app::echo".into()),
                place: Some(Place { file: "src/main.rs".into(), line: 20, column: Some(5), certain: true }),
            }),
        })
    }

    #[test]
    fn an_init_says_what_the_contract_lists() {
        let expected = json!({
            "v": 1, "event": "init", "ts": 5, "pid": 7, "tid": 8, "asyncId": 12, "type": "TOKIO_TASK",
            "triggerAsyncId": 3, "executionAsyncId": 3, "rootAsyncId": 3, "existing": false, "inferred": false,
            "resource": {"taskId": "17", "future": "app::echo", "futureCertain": false,
                "location": "src/main.rs:20:5", "locationCertain": true, "address": "0x7f00", "typeId": null},
        });
        assert_eq!(init(Some(Some(AsyncId(3)))), expected);
    }

    #[test]
    fn a_step_says_from_where_to_where_why_and_by_which_figures() {
        let stepped = Stepped {
            at: Ns(9),
            from: "full",
            to: "polls",
            why: "over",
            during: Ns(3),
            added: Ns(1),
            cpu: Ns(2),
            cap: 0.02,
        };
        let mut out = Vec::new();
        Json::new(EventSet::NONE).stepped(&stepped, &mut out).expect("a Vec takes everything");
        let said: Value = serde_json::from_slice(&out).expect("is JSON");
        let expected = json!({"v": 1, "event": "tier", "ts": 9, "from": "full", "to": "polls", "reason": "over", "forNs": 3,
            "addedNs": 1, "cpuNs": 2, "maxOverhead": 0.02});
        assert_eq!(said, expected);
    }

    #[test]
    fn no_trigger_is_0_and_an_unknown_one_is_null() {
        assert_eq!(init(Some(None))["triggerAsyncId"], json!(0));
        assert_eq!(init(None)["triggerAsyncId"], Value::Null);
    }

    #[test]
    fn an_outcome_is_a_word() {
        assert_eq!(rendered(EventKind::Resolve(AsyncId(1), Outcome::Cancelled, None))["outcome"], json!("cancelled"));
    }

    #[test]
    fn an_unknown_name_is_null_and_not_certain() {
        let facts = ResourceFacts {
            resource: Resource::Blocking,
            task_id: None,
            address: None,
            type_id: None,
            future: Naming::Unknown(Unnamed::Stripped),
            place: None,
        };
        let resource = Box::new(facts);
        let init = rendered(EventKind::Init { id: AsyncId(1), trigger: None, existing: false, resource });
        let object = &init["resource"];
        assert_eq!((&object["future"], &object["futureCertain"]), (&Value::Null, &json!(false)));
    }
}
