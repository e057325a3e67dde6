//! JSON Lines, as `schema/events.schema.json` says. Integers above 2^53 are strings.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::model::{Event, EventKind, EventSet, Missing, Ns, ResourceFacts, TargetEntry};

use super::{End, Sink, Start};

/// Version of the objects, in every one of them.
const VERSION: u64 = 1;

/// Writes one JSON object a line.
#[derive(Clone, Copy, Debug)]
pub struct Json {
    events: EventSet,
}

impl Json {
    /// Writes only these events; `start`, `lost` and `end` always.
    pub fn new(events: EventSet) -> Self {
        Self { events }
    }
}

impl Sink for Json {
    fn start(&mut self, start: &Start<'_>, out: &mut dyn Write) -> io::Result<()> {
        let mut object = object("start", start.at);
        object.insert("wallTime".into(), humantime::format_rfc3339_nanos(start.wall).to_string().into());
        object.insert("kernel".into(), start.kernel.clone().into());
        object.insert("transport".into(), "perf".into());
        object.insert("mechanism".into(), start.mechanism.into());
        object.insert("reorderWindowMs".into(), (start.window.0 / 1_000_000).into());
        object.insert("attachMs".into(), json!(start.attach.0 as f64 / 1e6));
        let targets: Vec<Value> = start.targets.iter().map(|target| target_object(target, start.missing)).collect();
        object.insert("targets".into(), targets.into());
        line(out, object)
    }

    fn event(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        if !self.events.wants(&event.kind) {
            return Ok(());
        }
        let name = match event.kind {
            EventKind::Init { .. } => "init",
            EventKind::Before(_) => "before",
            EventKind::After(_) => "after",
            EventKind::Resolve(..) => "resolve",
            EventKind::Destroy(_) => "destroy",
            EventKind::Lost { .. } => "lost",
        };
        let mut object = object(name, event.at);
        object.insert("pid".into(), event.pid.map(|pid| pid.0).into());
        if let EventKind::Lost { count } = event.kind {
            object.insert("count".into(), integer(count));
            return line(out, object);
        }
        object.insert("tid".into(), event.tid.map(|tid| tid.0).into());
        match &event.kind {
            EventKind::Init { id, trigger, existing, resource } => {
                object.insert("asyncId".into(), integer(id.0));
                object.insert("type".into(), resource.resource.as_str().into());
                // What the thread was running is both: why the resource exists, and where it was created.
                let trigger = trigger.map(|task| integer(task.map_or(0, |id| id.0)));
                object.insert("triggerAsyncId".into(), trigger.clone().into());
                object.insert("executionAsyncId".into(), trigger.into());
                object.insert("existing".into(), (*existing).into());
                object.insert("resource".into(), resource_object(resource));
            }
            EventKind::Before(id) | EventKind::After(id) | EventKind::Destroy(id) => {
                object.insert("asyncId".into(), integer(id.0));
            }
            EventKind::Resolve(id, outcome) => {
                object.insert("asyncId".into(), integer(id.0));
                object.insert("outcome".into(), outcome.as_str().into());
            }
            EventKind::Lost { .. } => {}
        }
        object.insert("inferred".into(), event.inferred.into());
        line(out, object)
    }

    fn end(&mut self, end: &End, out: &mut dyn Write) -> io::Result<()> {
        let mut object = object("end", end.at);
        object.insert("reason".into(), end.reason.as_str().into());
        let totals = &end.totals;
        let rows = [
            ("init", totals.init),
            ("before", totals.before),
            ("after", totals.after),
            ("resolve", totals.resolve),
            ("destroy", totals.destroy),
            ("lost", totals.lost),
            ("malformed", totals.malformed),
            ("late", totals.late),
            ("live", totals.live),
        ];
        let rows: Map<String, Value> = rows.into_iter().map(|(name, n)| (name.to_owned(), integer(n))).collect();
        object.insert("totals".into(), rows.into());
        line(out, object)
    }
}

fn object(event: &str, at: Ns) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("v".into(), VERSION.into());
    object.insert("event".into(), event.into());
    object.insert("ts".into(), integer(at.0));
    object
}

fn target_object(target: &TargetEntry, common: &[Missing]) -> Value {
    let images: Vec<Value> = target
        .images
        .iter()
        .map(|image| {
            json!({
                "path": image.path, "buildId": image.build_id.to_string(), "runtime": "tokio",
                "version": image.version, "unstable": image.unstable, "stripped": image.stripped,
                "types": image.types, "spawnSites": image.spawn_sites, "points": image.points,
                "singleStepped": image.single_stepped,
            })
        })
        .collect();
    let missing: Vec<Value> = common
        .iter()
        .chain(&target.missing)
        .map(|missing| json!({ "event": missing.event, "reason": missing.reason }))
        .collect();
    json!({ "pid": target.pid.0, "exe": target.exe, "images": images, "missing": missing })
}

fn resource_object(facts: &ResourceFacts) -> Value {
    json!({
        "taskId": facts.task_id.map(|id| id.to_string()),
        "future": facts.future.text(),
        "futureCertain": facts.future.is_certain(),
        "location": facts.place.as_ref().map(ToString::to_string),
        "locationCertain": facts.place.as_ref().is_some_and(|place| place.certain),
        "address": facts.address.map(|address| address.to_string()),
        "typeId": facts.type_id.as_ref().map(ToString::to_string),
    })
}

/// A number where every JSON reader can hold it exactly, else a string.
fn integer(n: u64) -> Value {
    const EXACT: u64 = 1 << 53;
    if n <= EXACT { n.into() } else { n.to_string().into() }
}

fn line(out: &mut dyn Write, object: Map<String, Value>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Value::Object(object))?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use crate::model::{AsyncId, Naming, Outcome, Pid, Place, ProcAddr, Resource, TaskId, Tid, Unnamed};

    use super::*;

    fn rendered(kind: EventKind) -> Value {
        let event = Event { at: Ns(5), pid: Some(Pid(7)), tid: Some(Tid(8)), inferred: false, kind };
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
            "triggerAsyncId": 3, "executionAsyncId": 3, "existing": false, "inferred": false,
            "resource": {"taskId": "17", "future": "app::echo", "futureCertain": false,
                "location": "src/main.rs:20:5", "locationCertain": true, "address": "0x7f00", "typeId": null},
        });
        assert_eq!(init(Some(Some(AsyncId(3)))), expected);
    }

    #[test]
    fn no_trigger_is_0_and_an_unknown_one_is_null() {
        assert_eq!(init(Some(None))["triggerAsyncId"], json!(0));
        assert_eq!(init(None)["triggerAsyncId"], Value::Null);
    }

    #[test]
    fn integers_that_json_readers_would_round_are_strings() {
        assert_eq!(integer(1 << 53), json!(9_007_199_254_740_992_u64));
        assert_eq!(integer((1 << 53) + 1), json!("9007199254740993"));
    }

    #[test]
    fn an_outcome_is_a_word() {
        assert_eq!(rendered(EventKind::Resolve(AsyncId(1), Outcome::Cancelled))["outcome"], json!("cancelled"));
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
        let object = resource_object(&facts);
        assert_eq!((&object["future"], &object["futureCertain"]), (&Value::Null, &json!(false)));
    }
}
