//! JSON Lines of a doctor, as `schema/doctor.schema.json` says.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::{DoctorReport, DoctorResult, DoctorSink, ExpectedOf, SlowOf};
use crate::sink::json::{TargetObject, line};

/// Writes one JSON object a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct DoctorJson;

impl DoctorSink for DoctorJson {
    fn say(&mut self, report: &DoctorReport<'_>, out: &mut dyn Write) -> io::Result<()> {
        match report {
            DoctorReport::Start { at, wall, kernel, facts } => {
                let object = StartObject {
                    wall_time: humantime::format_rfc3339_nanos(*wall).to_string(),
                    kernel,
                    facts: facts.iter().map(|fact| (fact.word, fact.value.as_deref())).collect(),
                };
                line(out, "start", *at, object)
            }
            DoctorReport::Need { at, pid, row } => {
                let object = NeedObject {
                    pid: pid.map(|pid| pid.0),
                    need: row.need,
                    purpose: row.purpose,
                    optional: row.optional,
                    result: ResultObject::of(&row.result),
                };
                line(out, "need", *at, object)
            }
            DoctorReport::Target { at, entry, points, factor, hit_ns, slow, expected, .. } => {
                let points = points.iter().map(|points| PointsObject {
                    role: points.role,
                    count: points.count,
                    single_stepped: points.single_stepped,
                });
                let object = ObservedObject {
                    target: TargetObject::new(entry, &[]),
                    roles: points.collect(),
                    single_step_factor: *factor,
                    hit_ns: hit_ns.map(HitObject::of),
                    slow: slow.iter().map(SlowObject::of).collect(),
                    expected: expected.iter().map(ExpectedObject::of).collect(),
                };
                line(out, "target", *at, object)
            }
            DoctorReport::End { at, live, reads, exit, .. } => {
                line(out, "end", *at, EndObject { live, reads, exit: *exit })
            }
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartObject<'a> {
    wall_time: String,
    kernel: &'a str,
    facts: BTreeMap<&'a str, Option<&'a str>>,
}

#[derive(Serialize)]
struct NeedObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    need: &'a str,
    #[serde(rename = "for")]
    purpose: &'a str,
    optional: bool,
    #[serde(flatten)]
    result: ResultObject<'a>,
}

#[derive(Serialize)]
#[serde(tag = "result", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum ResultObject<'a> {
    Works {
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
    },
    Risk {
        why: &'a str,
        next_step: &'a str,
    },
    Missing {
        why: &'a str,
        errno: Option<i32>,
        next_step: &'a str,
    },
    NotTried {
        why: &'a str,
    },
}

impl<'a> ResultObject<'a> {
    fn of(result: &'a DoctorResult) -> Self {
        match result {
            DoctorResult::Works { detail } => Self::Works { detail: detail.as_deref() },
            DoctorResult::Risk { why, step } => Self::Risk { why, next_step: step },
            DoctorResult::Missing { why, errno, step } => Self::Missing { why, errno: *errno, next_step: step },
            DoctorResult::NotTried { why } => Self::NotTried { why },
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ObservedObject<'a> {
    #[serde(flatten)]
    target: TargetObject<'a>,
    roles: Vec<PointsObject<'a>>,
    single_step_factor: u32,
    hit_ns: Option<HitObject>,
    slow: Vec<SlowObject<'a>>,
    expected: Vec<ExpectedObject>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PointsObject<'a> {
    role: &'a str,
    count: usize,
    single_stepped: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HitObject {
    emulated: u64,
    single_stepped: u64,
}

impl HitObject {
    fn of((emulated, single_stepped): (f64, f64)) -> Self {
        Self { emulated: whole(emulated), single_stepped: whole(single_stepped) }
    }
}

#[derive(Serialize)]
struct SlowObject<'a> {
    role: &'a str,
    path: &'a str,
    address: String,
    symbol: Option<String>,
    instruction: &'a str,
    cost: &'static str,
    hot: bool,
    ns: Option<u64>,
}

impl<'a> SlowObject<'a> {
    fn of(slow: &'a SlowOf) -> Self {
        Self {
            role: slow.role,
            path: &slow.path,
            address: slow.at.to_string(),
            symbol: slow.symbol.as_ref().map(|(name, behind)| format!("{name}+{behind:#x}")),
            instruction: &slow.instruction,
            cost: "singleStepped",
            hot: slow.hot,
            ns: slow.ns.map(whole),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExpectedObject {
    tier: &'static str,
    allow_slow: bool,
    per_poll_ns: Option<SpanObject>,
    per_spawn_ns: Option<SpanObject>,
}

#[derive(Serialize)]
struct SpanObject {
    least: u64,
    most: u64,
}

impl ExpectedObject {
    fn of(expected: &ExpectedOf) -> Self {
        let span =
            |of: Option<(f64, f64)>| of.map(|(least, most)| SpanObject { least: whole(least), most: whole(most) });
        Self {
            tier: expected.tier,
            allow_slow: expected.slow,
            per_poll_ns: span(expected.poll),
            per_spawn_ns: span(expected.spawn),
        }
    }
}

fn whole(ns: f64) -> u64 {
    ns.round() as u64
}

#[derive(Serialize)]
struct EndObject<'a> {
    live: &'a Option<&'static str>,
    reads: &'a str,
    exit: u8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ns, Pid};
    use crate::sink::doctor::DoctorRow;

    fn said(report: &DoctorReport<'_>) -> String {
        let mut out = Vec::new();
        DoctorJson.say(report, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_need_of_the_machine_has_no_pid_and_one_that_works_no_next_step() {
        let mut row = DoctorRow {
            need: "rings",
            purpose: "records",
            optional: false,
            result: DoctorResult::Works { detail: None },
        };
        let works = said(&DoctorReport::Need { at: Ns(5), pid: None, row: row.clone() });
        let expected =
            r#"{"v":1,"event":"need","ts":5,"need":"rings","for":"records","optional":false,"result":"works"}"#;
        assert_eq!(works.trim_end(), expected);
        row.result = DoctorResult::Missing { why: "no".to_owned(), errno: Some(1), step: "do".to_owned() };
        let missing = said(&DoctorReport::Need { at: Ns(5), pid: Some(Pid(7)), row });
        let expected = r#"{"v":1,"event":"need","ts":5,"pid":7,"need":"rings","for":"records","optional":false,"result":"missing","why":"no","errno":1,"nextStep":"do"}"#;
        assert_eq!(missing.trim_end(), expected);
    }
}
