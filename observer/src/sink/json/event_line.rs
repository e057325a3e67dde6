//! The lines of events, put together by hand: there are a million of them a second, and a serializer takes half of the time
//! that one has. Byte for byte what serde makes of the same objects, which a test holds it to.

use crate::model::{AsyncId, Event, EventKind, Naming, Outcome, Place, QuickMap, Resource, ResourceFacts, TypeId};

use super::line::{Integer, VERSION};

/// Types whose part of a line is kept; beyond that all are put together anew.
const MOST_TYPES: usize = 4096;

/// Puts lines together. What many of them repeat is kept.
#[derive(Debug, Default)]
pub(super) struct EventLine {
    text: Vec<u8>,
    types: QuickMap<TypeId, Repeated>,
}

/// What inits of one type repeat.
#[derive(Debug)]
struct Repeated {
    future: Naming,
    place: Option<Place>,
    /// From `future` to `locationCertain`.
    named: Vec<u8>,
    /// The value of `typeId`.
    id: Vec<u8>,
}

impl EventLine {
    /// The line of an event that is of one resource; `None` of another.
    pub(super) fn of(&mut self, event: &Event) -> Option<&[u8]> {
        self.text.clear();
        match &event.kind {
            EventKind::Init { id, trigger, existing, resource } => {
                self.begin("init", event, *id);
                // What the thread was running is both: why the resource exists, and where it was created.
                let trigger = trigger.map(|task| task.map_or(0, |id| id.0));
                self.init(trigger, *existing, resource);
            }
            EventKind::Before(id) => self.begin("before", event, *id),
            EventKind::After(id) => self.begin("after", event, *id),
            EventKind::Destroy(id) => self.begin("destroy", event, *id),
            EventKind::Resolve(id, outcome, panicked_at) => {
                self.begin("resolve", event, *id);
                self.word(",\"outcome\":\"", outcome.as_str());
                if *outcome == Outcome::Panicked {
                    self.put(",\"panickedAt\":");
                    let place = panicked_at.as_ref().map(ToString::to_string);
                    self.put(&serde_json::Value::from(place).to_string());
                }
            }
            EventKind::Lost { .. } => return None,
        }
        self.put("}\n");
        Some(&self.text)
    }

    /// What all of them have.
    fn begin(&mut self, name: &str, event: &Event, id: AsyncId) {
        self.put("{\"v\":");
        digits(VERSION, &mut self.text);
        self.word(",\"event\":\"", name);
        self.put(",\"ts\":");
        integer(Some(event.at.0), &mut self.text);
        self.put(",\"pid\":");
        integer(event.pid.map(|pid| u64::from(pid.0)), &mut self.text);
        self.put(",\"tid\":");
        integer(event.tid.map(|tid| u64::from(tid.0)), &mut self.text);
        self.put(",\"asyncId\":");
        integer(Some(id.0), &mut self.text);
        self.put(",\"rootAsyncId\":");
        integer(event.root.map(|root| root.0), &mut self.text);
        self.put(if event.inferred { ",\"inferred\":true" } else { ",\"inferred\":false" });
    }

    fn init(&mut self, trigger: Option<u64>, existing: bool, facts: &ResourceFacts) {
        let ResourceFacts { resource, task_id, address, type_id, future, place } = facts;
        self.word(",\"type\":\"", Resource::as_str(*resource));
        for name in [",\"triggerAsyncId\":", ",\"executionAsyncId\":"] {
            self.put(name);
            integer(trigger, &mut self.text);
        }
        self.put(if existing { ",\"existing\":true" } else { ",\"existing\":false" });
        self.put(",\"resource\":{\"taskId\":");
        match task_id {
            Some(id) => {
                self.put("\"");
                digits(id.0, &mut self.text);
                self.put("\"");
            }
            None => self.put("null"),
        }
        let Self { text, types } = self;
        let had = type_id.as_ref().and_then(|id| types.get(id));
        let had = had.filter(|had| had.future == *future && had.place == *place);
        match had {
            Some(Repeated { named, .. }) => text.extend_from_slice(named),
            None => named(future, place.as_ref(), text),
        }
        text.extend_from_slice(b",\"address\":");
        match address {
            Some(address) => {
                text.extend_from_slice(b"\"0x");
                hexadecimal(address.0, text);
                text.push(b'"');
            }
            None => text.extend_from_slice(b"null"),
        }
        text.extend_from_slice(b",\"typeId\":");
        match (had, type_id) {
            (Some(Repeated { id, .. }), _) => text.extend_from_slice(id),
            (None, Some(id)) => {
                let new = Repeated::of(id, future, place.as_ref());
                text.extend_from_slice(&new.id);
                if types.len() >= MOST_TYPES {
                    types.clear();
                }
                types.insert(id.clone(), new);
            }
            (None, None) => text.extend_from_slice(b"null"),
        }
        text.push(b'}');
    }

    fn put(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    /// A word of ours, in which nothing needs to be escaped, behind its name and before its closing quote.
    fn word(&mut self, name: &str, word: &str) {
        self.put(name);
        self.put(word);
        self.put("\"");
    }
}

impl Repeated {
    fn of(id: &TypeId, future: &Naming, place: Option<&Place>) -> Self {
        let mut text = Vec::new();
        named(future, place, &mut text);
        Self { future: future.clone(), place: place.cloned(), named: text, id: format!("\"{id}\"").into_bytes() }
    }
}

/// Name and place, each with whether it is certain.
fn named(future: &Naming, place: Option<&Place>, to: &mut Vec<u8>) {
    let flag = |certain: bool| if certain { "true" } else { "false" };
    let place_text = place.map(ToString::to_string);
    for (name, text, certain) in [
        ("future", future.text(), future.is_certain()),
        ("location", place_text.as_deref(), place.is_some_and(|place| place.certain)),
    ] {
        to.extend_from_slice(format!(",\"{name}\":").as_bytes());
        // What comes from images is escaped as the serializer does it.
        to.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
        to.extend_from_slice(format!(",\"{name}Certain\":{}", flag(certain)).as_bytes());
    }
}

/// As [`Integer`] is serialized, or nothing.
fn integer(number: Option<u64>, to: &mut Vec<u8>) {
    match number {
        None => to.extend_from_slice(b"null"),
        Some(number) if number <= Integer::EXACT => digits(number, to),
        Some(number) => {
            to.push(b'"');
            digits(number, to);
            to.push(b'"');
        }
    }
}

fn digits(number: u64, to: &mut Vec<u8>) {
    let (mut text, mut from, mut rest) = ([0; 20], 20, number);
    loop {
        from -= 1;
        text[from] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    to.extend_from_slice(&text[from..]);
}

fn hexadecimal(number: u64, to: &mut Vec<u8>) {
    let figures = (64 - number.leading_zeros()).div_ceil(4).max(1);
    to.extend((0..figures).rev().map(|figure| b"0123456789abcdef"[(number >> (4 * figure)) as usize & 15]));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde::Serialize;

    use crate::model::{BuildId, Ns, Pid, ProcAddr, TaskId, Tid, Unnamed, VirtAddr};

    use super::*;

    /// The objects of the contract, as serde renders them.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct OnResource {
        v: u64,
        event: &'static str,
        ts: Integer,
        pid: Option<u32>,
        tid: Option<u32>,
        async_id: Integer,
        root_async_id: Option<Integer>,
        inferred: bool,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct InitObject<'a> {
        #[serde(flatten)]
        on: OnResource,
        #[serde(rename = "type")]
        kind: &'a str,
        trigger_async_id: Option<Integer>,
        execution_async_id: Option<Integer>,
        existing: bool,
        resource: ResourceObject<'a>,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ResourceObject<'a> {
        task_id: Option<String>,
        future: Option<&'a str>,
        future_certain: bool,
        location: Option<String>,
        location_certain: bool,
        address: Option<String>,
        type_id: Option<String>,
    }

    #[derive(Serialize)]
    struct ResolveObject<'a> {
        #[serde(flatten)]
        on: OnResource,
        outcome: &'a str,
        #[serde(rename = "panickedAt", skip_serializing_if = "Option::is_none")]
        panicked_at: Option<Option<String>>,
    }

    fn by_serde(event: &Event) -> String {
        let on = |name, id: &AsyncId| OnResource {
            v: VERSION,
            event: name,
            ts: Integer(event.at.0),
            pid: event.pid.map(|pid| pid.0),
            tid: event.tid.map(|tid| tid.0),
            async_id: Integer(id.0),
            root_async_id: event.root.map(|root| Integer(root.0)),
            inferred: event.inferred,
        };
        let text = match &event.kind {
            EventKind::Init { id, trigger, existing, resource } => {
                let trigger = trigger.map(|task| Integer(task.map_or(0, |id| id.0)));
                serde_json::to_string(&InitObject {
                    on: on("init", id),
                    kind: resource.resource.as_str(),
                    trigger_async_id: trigger,
                    execution_async_id: trigger,
                    existing: *existing,
                    resource: ResourceObject {
                        task_id: resource.task_id.map(|id| id.to_string()),
                        future: resource.future.text(),
                        future_certain: resource.future.is_certain(),
                        location: resource.place.as_ref().map(ToString::to_string),
                        location_certain: resource.place.as_ref().is_some_and(|place| place.certain),
                        address: resource.address.map(|address| address.to_string()),
                        type_id: resource.type_id.as_ref().map(ToString::to_string),
                    },
                })
            }
            EventKind::Before(id) => serde_json::to_string(&on("before", id)),
            EventKind::After(id) => serde_json::to_string(&on("after", id)),
            EventKind::Destroy(id) => serde_json::to_string(&on("destroy", id)),
            EventKind::Resolve(id, outcome, at) => serde_json::to_string(&ResolveObject {
                on: on("resolve", id),
                outcome: outcome.as_str(),
                panicked_at: (*outcome == Outcome::Panicked).then(|| at.as_ref().map(ToString::to_string)),
            }),
            EventKind::Lost { .. } => unreachable!("none is made here"),
        };
        text.unwrap() + "\n"
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 0..1000u64, any::<u64>(), (0..64u32).prop_map(|bit| 1 << bit), Just((1 << 53) + 1)]
    }

    fn naming() -> impl Strategy<Value = Naming> {
        prop_oneof![
            Just(Naming::Unknown(Unnamed::Stripped)),
            any::<String>().prop_map(Naming::Certain),
            "[a-z:<>\"\\\\\u{0}-\u{20}]{0,20}".prop_map(Naming::Uncertain),
        ]
    }

    fn place() -> impl Strategy<Value = Place> {
        let column = proptest::option::of(any::<u32>());
        ("[a-z/\"\\\\.ä]{0,12}", any::<u32>(), column, any::<bool>()).prop_map(|(file, line, column, certain)| Place {
            file,
            line,
            column,
            certain,
        })
    }

    fn type_id() -> impl Strategy<Value = TypeId> {
        // Few of them, so that some are met again, with the same name or another.
        let build_id = prop_oneof![
            (0..3u8).prop_map(|n| BuildId::Gnu(vec![n, 0xab, 0x0c])),
            (0..2u64).prop_map(BuildId::Content),
        ];
        (build_id, (0..2u64).prop_map(VirtAddr)).prop_map(|(build_id, vtable)| TypeId { build_id, vtable })
    }

    fn facts() -> impl Strategy<Value = Box<ResourceFacts>> {
        let resource = prop_oneof![Just(Resource::Task), Just(Resource::Blocking)];
        let numbers = (proptest::option::of(number()), proptest::option::of(number()));
        (resource, numbers, proptest::option::of(type_id()), naming(), proptest::option::of(place())).prop_map(
            |(resource, (task, address), type_id, future, place)| {
                let (task_id, address) = (task.map(TaskId), address.map(ProcAddr));
                Box::new(ResourceFacts { resource, task_id, address, type_id, future, place })
            },
        )
    }

    fn event() -> impl Strategy<Value = Event> {
        let outcome = prop_oneof![
            Just(Outcome::Ready),
            Just(Outcome::Cancelled),
            Just(Outcome::Panicked),
            Just(Outcome::Unknown)
        ];
        let trigger = proptest::option::of(proptest::option::of(number().prop_map(AsyncId)));
        let init = (number(), trigger, any::<bool>(), facts()).prop_map(|(id, trigger, existing, resource)| {
            EventKind::Init { id: AsyncId(id), trigger, existing, resource }
        });
        let kind = prop_oneof![
            init,
            number().prop_map(|id| EventKind::Before(AsyncId(id))),
            number().prop_map(|id| EventKind::After(AsyncId(id))),
            number().prop_map(|id| EventKind::Destroy(AsyncId(id))),
            (number(), outcome, proptest::option::of(place().prop_map(Arc::new)))
                .prop_map(|(id, outcome, at)| EventKind::Resolve(AsyncId(id), outcome, at)),
        ];
        let who = (proptest::option::of(any::<u32>()), proptest::option::of(any::<u32>()));
        (number(), who, any::<bool>(), kind, proptest::option::of(number())).prop_map(
            |(at, (pid, tid), inferred, kind, root)| Event {
                root: root.map(AsyncId),
                at: Ns(at),
                pid: pid.map(Pid),
                tid: tid.map(Tid),
                inferred,
                kind,
            },
        )
    }

    proptest! {
        #[test]
        fn every_line_is_byte_for_byte_what_serde_makes_of_it(events in proptest::collection::vec(event(), 1..12)) {
            let mut line = EventLine::default();
            // Each twice: what is kept of the first says the same of the second.
            for event in events.iter().flat_map(|event| [event, event]) {
                let said = line.of(event).map(|line| String::from_utf8(line.to_vec()).unwrap());
                prop_assert_eq!(said, Some(by_serde(event)));
            }
        }
    }
}
