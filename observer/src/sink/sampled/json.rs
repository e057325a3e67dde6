//! JSON Lines of samples, as `schema/events.schema.json` says.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use crate::model::TypeEntry;
use crate::sink::json::{
    ChangedTarget, Integer, LostNewsObject, LostObject, OverheadObject, TargetObject, line, milliseconds,
};
use crate::sink::sites::json::origin::CallObject;

use super::{Blocking, Busy, How, Interval, SampledEnd, SampledReport, SampledSink, SampledStart};

/// What these lines are called beside those of other tiers.
const TIER: &str = "sampled";

/// Writes one JSON object a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct SampledJson;

impl SampledSink for SampledJson {
    fn say(&mut self, report: &SampledReport<'_>, out: &mut dyn Write) -> io::Result<()> {
        match report {
            SampledReport::Start(start) => line(out, "start", start.at, StartObject::new(start)),
            SampledReport::Interval(interval) => line(out, "interval", interval.at, IntervalObject::new(interval)),
            SampledReport::Busy(busy) => line(out, "busy", busy.at, BusyObject::new(busy)),
            SampledReport::Blocking(blocking) => line(out, "blocking", blocking.at, BlockingObject::new(blocking)),
            SampledReport::Target { at, entry, why, missing } => {
                line(out, "target", *at, ChangedTarget::new(why, entry, missing))
            }
            SampledReport::Ended { at, pid, why } => line(out, "ended", *at, EndedObject { pid: pid.0, reason: why }),
            SampledReport::Lost { at, count } => {
                line(out, "lost", *at, LostObject { pid: None, count: Integer(*count), of: Some("samples") })
            }
            SampledReport::LostNews(lost) => line(out, "lostNews", lost.at, LostNewsObject::new(lost)),
            SampledReport::Overhead(at, overhead) => line(out, "overhead", *at, OverheadObject::new(overhead)),
            SampledReport::End(end) => line(out, "end", end.at, EndObject::new(end)),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartObject<'a> {
    wall_time: String,
    kernel: &'a str,
    transport: &'a str,
    mechanism: &'a str,
    tier: &'a str,
    hz: u64,
    stack_bytes: u32,
    interval_ms: f64,
    blocking_ms: f64,
    by: &'a str,
    reorder_window_ms: u64,
    attach_ms: f64,
    following: &'a str,
    targets: Vec<TargetObject<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IntervalObject<'a> {
    pid: u32,
    total: bool,
    during_ns: Integer,
    lost: Integer,
    samples: Integer,
    busy_ns: Integer,
    low_ns: Integer,
    high_ns: Integer,
    in_polls: Integer,
    outside: Integer,
    unknown: Integer,
    unknown_by: BTreeMap<&'a str, Integer>,
    untold_by: BTreeMap<&'a str, Integer>,
}

/// A future type, or what is said of several that are not told apart.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TypeObject<'a> {
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    type_id: Option<String>,
    future: Option<String>,
    future_certain: bool,
    location: Option<String>,
    location_certain: bool,
    /// All of them, where they are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    type_ids: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BusyObject<'a> {
    pid: u32,
    total: bool,
    #[serde(flatten)]
    of: TypeObject<'a>,
    task_id: Option<String>,
    samples: Integer,
    busy_ns: Integer,
    low_ns: Integer,
    high_ns: Integer,
    share: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockingObject<'a> {
    pid: u32,
    tid: u32,
    #[serde(flatten)]
    of: TypeObject<'a>,
    task_id: Option<String>,
    for_ns: Integer,
    on_cpu: bool,
    certain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<Integer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_running: Option<Integer>,
    stack: Vec<CallObject<'a>>,
}

#[derive(Serialize)]
struct EndedObject<'a> {
    pid: u32,
    reason: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndObject<'a> {
    tier: &'a str,
    reason: &'a str,
    overhead: OverheadObject,
    totals: TotalsObject,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TotalsObject {
    samples: Integer,
    in_polls: Integer,
    outside: Integer,
    unknown: Integer,
    lost: Integer,
    throttled: Integer,
    malformed: Integer,
    blocking: Integer,
}

impl<'a> StartObject<'a> {
    fn new(start: &'a SampledStart<'a>) -> Self {
        Self {
            wall_time: humantime::format_rfc3339_nanos(start.wall).to_string(),
            kernel: start.kernel,
            transport: "perf",
            mechanism: "cpu-clock",
            tier: TIER,
            hz: start.hz,
            stack_bytes: start.stack,
            interval_ms: milliseconds(start.interval),
            blocking_ms: milliseconds(start.blocking),
            by: if start.by_task { "task" } else { "type" },
            reorder_window_ms: 0,
            attach_ms: milliseconds(start.attach),
            following: start.following,
            targets: start.targets.iter().map(|target| TargetObject::new(target, start.missing)).collect(),
        }
    }
}

impl<'a> IntervalObject<'a> {
    fn new(of: &Interval<'a>) -> Self {
        let by = |counts: &'a [(&'static str, u64)]| counts.iter().map(|(why, n)| (*why, Integer(*n))).collect();
        Self {
            pid: of.pid.0,
            total: of.total,
            during_ns: Integer(of.during.0),
            lost: Integer(of.lost),
            samples: Integer(of.samples),
            busy_ns: Integer(of.busy.busy.0),
            low_ns: Integer(of.busy.low.0),
            high_ns: Integer(of.busy.high.0),
            in_polls: Integer(of.in_polls),
            outside: Integer(of.outside),
            unknown: Integer(of.unknown.iter().map(|(_, n)| n).sum()),
            unknown_by: by(of.unknown),
            untold_by: by(of.untold),
        }
    }
}

impl<'a> TypeObject<'a> {
    fn new(types: &[&'a TypeEntry]) -> Self {
        let all_same = |word: fn(&'a TypeEntry) -> &'a str| {
            let mut words = types.iter().map(|entry| word(entry));
            let first = words.next()?;
            words.all(|other| other == first).then_some(first)
        };
        let kind = all_same(|entry| entry.task.resource.as_str());
        match types {
            [only] => Self {
                kind,
                type_id: Some(only.id.to_string()),
                future: only.task.future.text().map(str::to_owned),
                future_certain: only.task.future.is_certain(),
                location: only.task.place.as_ref().map(ToString::to_string),
                location_certain: only.task.place.as_ref().is_some_and(|place| place.certain),
                type_ids: Vec::new(),
            },
            several => {
                let names: Vec<&str> = several.iter().filter_map(|entry| entry.task.future.text()).collect();
                Self {
                    kind,
                    type_id: None,
                    future: (!names.is_empty()).then(|| names.join(" or ")),
                    future_certain: false,
                    location: None,
                    location_certain: false,
                    type_ids: several.iter().map(|entry| entry.id.to_string()).collect(),
                }
            }
        }
    }
}

impl<'a> BusyObject<'a> {
    fn new(busy: &Busy<'a>) -> Self {
        Self {
            pid: busy.pid.0,
            total: busy.total,
            of: TypeObject::new(&busy.types),
            task_id: busy.task.map(|task| task.to_string()),
            samples: Integer(busy.samples),
            busy_ns: Integer(busy.busy.busy.0),
            low_ns: Integer(busy.busy.low.0),
            high_ns: Integer(busy.busy.high.0),
            // Finer than any number of samples tells.
            share: (busy.share * 1e6).round() / 1e6,
        }
    }
}

impl<'a> BlockingObject<'a> {
    fn new(of: &Blocking<'a>) -> Self {
        let (samples, looks) = match of.how {
            How::OnCpu { samples, looks } => (Some(Integer(samples)), Some(Integer(looks))),
            How::Waiting => (None, None),
        };
        Self {
            pid: of.pid.0,
            tid: of.tid.0,
            of: TypeObject::new(&of.types),
            task_id: of.task.map(|task| task.to_string()),
            for_ns: Integer(of.during.0),
            on_cpu: samples.is_some(),
            certain: of.how == How::Waiting,
            samples,
            seen_running: looks,
            stack: of.stack.iter().flat_map(CallObject::of).collect(),
        }
    }
}

impl EndObject<'_> {
    fn new(end: &SampledEnd) -> Self {
        let totals = &end.totals;
        let totals = TotalsObject {
            samples: Integer(totals.samples),
            in_polls: Integer(totals.in_polls),
            outside: Integer(totals.outside),
            unknown: Integer(totals.unknown),
            lost: Integer(totals.lost),
            throttled: Integer(totals.throttled),
            malformed: Integer(totals.malformed),
            blocking: Integer(totals.blocking),
        };
        Self { tier: TIER, reason: end.reason.as_str(), overhead: OverheadObject::new(&end.overhead), totals }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Estimate, Naming, Ns, Pid, Resource, TaskId, Tid, VirtAddr};

    fn said(report: &SampledReport<'_>) -> Value {
        let mut out = Vec::new();
        SampledJson.say(report, &mut out).expect("a Vec takes everything");
        serde_json::from_slice(&out).expect("is JSON")
    }

    fn entry(vtable: u64, name: &str) -> TypeEntry {
        let mut entry = TypeEntry::sample(VirtAddr(vtable), Resource::Task, false);
        entry.task.future = Naming::Certain(name.to_owned());
        entry
    }

    #[test]
    fn types_that_are_not_told_apart_are_all_named_and_none_is_certain() {
        let (one, other) = (entry(0x10, "app::a"), entry(0x20, "app::b"));
        let busy = |types| {
            let busy = Estimate::of(4, Ns(10));
            said(&SampledReport::Busy(Busy {
                at: Ns(5),
                pid: Pid(7),
                total: false,
                types,
                task: Some(TaskId(3)),
                samples: 4,
                busy,
                share: 0.5,
            }))
        };
        let only = busy(vec![&one]);
        assert_eq!(
            (&only["future"], &only["futureCertain"], &only["taskId"]),
            (&json!("app::a"), &json!(true), &json!("3"))
        );
        assert_eq!((&only["busyNs"], &only["share"]), (&json!(40), &json!(0.5)));
        let both = busy(vec![&one, &other]);
        assert_eq!((&both["future"], &both["futureCertain"]), (&json!("app::a or app::b"), &json!(false)));
        assert_eq!((&both["typeId"], both["typeIds"].as_array().map(Vec::len)), (&Value::Null, Some(2)));
    }

    #[test]
    fn only_what_waits_is_certain() {
        let one = entry(0x10, "app::a");
        let blocking = |how| {
            let types = vec![&one];
            said(&SampledReport::Blocking(Blocking {
                at: Ns(5),
                pid: Pid(7),
                tid: Tid(8),
                types,
                task: None,
                during: Ns(9),
                how,
                stack: &[],
            }))
        };
        let waits = blocking(How::Waiting);
        assert_eq!((&waits["certain"], &waits["onCpu"], &waits["forNs"]), (&json!(true), &json!(false), &json!(9)));
        let burns = blocking(How::OnCpu { samples: 3, looks: 2 });
        assert_eq!((&burns["certain"], &burns["onCpu"], &burns["samples"]), (&json!(false), &json!(true), &json!(3)));
    }
}
