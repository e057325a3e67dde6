//! JSON Lines of windows, as `schema/events.schema.json` says.

use std::io::{self, Write};

use serde::Serialize;

use crate::model::Scaled;
use crate::sink::json::{Integer, TargetObject, line, milliseconds};
use crate::sink::sampled::json::{TIER, TypeObject};

use super::{DutyBusy, DutyEnd, DutyInterval, DutyReport, DutyStart, Spans};

/// What these lines are called beside those of samples.
const WAY: &str = "duty";

pub(in crate::sink::sampled) fn say(report: &DutyReport<'_>, out: &mut dyn Write) -> io::Result<()> {
    match report {
        DutyReport::Start(start) => line(out, "start", start.at, StartObject::new(start)),
        DutyReport::Interval(interval) => line(out, "interval", interval.at, IntervalObject::new(interval)),
        DutyReport::Busy(busy) => line(out, "busy", busy.at, BusyObject::new(busy)),
        DutyReport::End(end) => line(out, "end", end.at, EndObject::new(end)),
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
    way: &'a str,
    duty: f64,
    window_ms: f64,
    interval_ms: f64,
    by: &'a str,
    reorder_window_ms: u64,
    attach_ms: f64,
    following: &'a str,
    targets: Vec<TargetObject<'a>>,
}

/// A time in polls, with its bounds and why there are none.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScaledObject {
    busy_ns: Integer,
    low_ns: Option<Integer>,
    high_ns: Option<Integer>,
    polls_per_second: f64,
    polls_per_second_low: Option<f64>,
    polls_per_second_high: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_unbounded: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IntervalObject<'a> {
    pid: u32,
    total: bool,
    way: &'a str,
    during_ns: Integer,
    windows: Integer,
    measured_ns: Integer,
    planted_ns: Integer,
    polls: Integer,
    cut: Integer,
    #[serde(flatten)]
    scaled: ScaledObject,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BusyObject<'a> {
    pid: u32,
    total: bool,
    way: &'a str,
    #[serde(flatten)]
    of: TypeObject<'a>,
    task_id: Option<String>,
    polls: Integer,
    measured_busy_ns: Integer,
    longest_ns: Integer,
    cut: Integer,
    of_polls: f64,
    #[serde(flatten)]
    scaled: ScaledObject,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpansObject {
    median_ms: Option<f64>,
    longest_ms: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndObject<'a> {
    tier: &'a str,
    way: &'a str,
    reason: &'a str,
    /// As in other tiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    detach_ms: Option<f64>,
    attaching: SpansObject,
    detaching: SpansObject,
    totals: TotalsObject,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TotalsObject {
    turns: Integer,
    windows: Integer,
    measured_ns: Integer,
    planted_ns: Integer,
    polls: Integer,
    cut: Integer,
    hits: Integer,
    lost: Integer,
    malformed: Integer,
    differing: Integer,
}

impl<'a> StartObject<'a> {
    fn new(start: &'a DutyStart<'a>) -> Self {
        Self {
            wall_time: humantime::format_rfc3339_nanos(start.wall).to_string(),
            kernel: start.kernel,
            transport: "perf",
            mechanism: start.mechanism,
            tier: TIER,
            way: WAY,
            duty: start.duty.0,
            window_ms: milliseconds(start.window),
            interval_ms: milliseconds(start.interval),
            by: if start.by_task { "task" } else { "type" },
            reorder_window_ms: 0,
            attach_ms: milliseconds(start.attach),
            following: "nothing",
            targets: start.targets.iter().map(|target| TargetObject::new(target, start.missing)).collect(),
        }
    }
}

impl ScaledObject {
    fn new(busy: &Scaled, per_second: &Scaled) -> Self {
        let whole = |value: f64| Integer(value.round() as u64);
        // Finer than any number of windows tells.
        let rate = |value: f64| (value * 1e3).round() / 1e3;
        let (busy_bounds, rate_bounds) = (busy.bounds.ok(), per_second.bounds.ok());
        Self {
            busy_ns: whole(busy.value),
            low_ns: busy_bounds.map(|(low, _)| whole(low)),
            high_ns: busy_bounds.map(|(_, high)| whole(high)),
            polls_per_second: rate(per_second.value),
            polls_per_second_low: rate_bounds.map(|(low, _)| rate(low)),
            polls_per_second_high: rate_bounds.map(|(_, high)| rate(high)),
            why_unbounded: busy.bounds.err().map(|why| why.as_str()),
        }
    }
}

impl IntervalObject<'_> {
    fn new(of: &DutyInterval) -> Self {
        Self {
            pid: of.pid.0,
            total: of.total,
            way: WAY,
            during_ns: Integer(of.during.0),
            windows: Integer(of.windows),
            measured_ns: Integer(of.measured.0),
            planted_ns: Integer(of.planted.0),
            polls: Integer(of.polls),
            cut: Integer(of.cut),
            scaled: ScaledObject::new(&of.busy, &of.per_second),
        }
    }
}

impl<'a> BusyObject<'a> {
    fn new(busy: &DutyBusy<'a>) -> Self {
        Self {
            pid: busy.pid.0,
            total: busy.total,
            way: WAY,
            of: TypeObject::new(&busy.types),
            task_id: busy.task.map(|task| task.to_string()),
            polls: Integer(busy.polls),
            measured_busy_ns: Integer(busy.measured.0),
            longest_ns: Integer(busy.longest.0),
            cut: Integer(busy.cut),
            of_polls: (busy.of_polls * 1e6).round() / 1e6,
            scaled: ScaledObject::new(&busy.busy, &busy.per_second),
        }
    }
}

impl From<Spans> for SpansObject {
    fn from(spans: Spans) -> Self {
        Self { median_ms: spans.median.map(milliseconds), longest_ms: spans.longest.map(milliseconds) }
    }
}

impl EndObject<'_> {
    fn new(end: &DutyEnd) -> Self {
        let totals = TotalsObject {
            turns: Integer(end.turns),
            windows: Integer(end.windows),
            measured_ns: Integer(end.measured.0),
            planted_ns: Integer(end.planted.0),
            polls: Integer(end.polls),
            cut: Integer(end.cut),
            hits: Integer(end.hits),
            lost: Integer(end.lost),
            malformed: Integer(end.malformed),
            differing: Integer(end.differing),
        };
        Self {
            tier: TIER,
            way: WAY,
            reason: end.reason.as_str(),
            detach_ms: end.detach.median.map(milliseconds),
            attaching: end.attach.into(),
            detaching: end.detach.into(),
            totals,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Boundless, Ns, Pid};

    fn said(bounds: Result<(f64, f64), Boundless>) -> Value {
        let (busy, per_second) = (Scaled { value: 100.0, bounds }, Scaled { value: 2.5, bounds });
        let report = DutyReport::Interval(DutyInterval {
            at: Ns(5),
            pid: Pid(7),
            during: Ns(100),
            total: false,
            windows: 4,
            measured: Ns(20),
            planted: Ns(30),
            polls: 3,
            cut: 1,
            busy,
            per_second,
        });
        let mut out = Vec::new();
        say(&report, &mut out).expect("a Vec takes everything");
        serde_json::from_slice(&out).expect("is JSON")
    }

    #[test]
    fn an_error_that_is_not_known_is_null_with_its_reason() {
        let line = said(Err(Boundless::FewWindows));
        assert_eq!((&line["busyNs"], &line["lowNs"], &line["highNs"]), (&json!(100), &Value::Null, &Value::Null));
        assert!(line["whyUnbounded"].as_str().is_some_and(|why| why.contains("windows")), "{line}");
        let line = said(Ok((90.0, 120.0)));
        assert_eq!((&line["lowNs"], &line["highNs"], &line["way"]), (&json!(90), &json!(120), &json!("duty")));
        assert!(line.get("whyUnbounded").is_none());
    }
}
