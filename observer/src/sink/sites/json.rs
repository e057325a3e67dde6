//! JSON Lines of sites, as `schema/sites.schema.json` says.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::model::{Ancestor, Beyond, Caller, FunctionName, Ns, Origin, Pid, TaskState, Waiting};
use crate::sink::json::{Integer, TargetObject, line, milliseconds};
use crate::verdict::{Evidence, Finding, Grows, SiteCount, WaitCount, Why};

use super::{CensusReport, News, Report, SiteOf, SiteSink, SitesEnd};

/// Writes one JSON object a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct SitesJson;

impl SiteSink for SitesJson {
    fn say(&mut self, report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
        match report {
            Report::Start { at, wall, kernel, targets, missing } => {
                let object = StartObject {
                    wall_time: humantime::format_rfc3339_nanos(*wall).to_string(),
                    kernel,
                    targets: targets.iter().map(|target| TargetObject::new(target, missing)).collect(),
                };
                line(out, "start", *at, object)
            }
            Report::Unreadable { at, pid, reason } => {
                line(out, "unreadable", *at, UnreadableObject { pid: pid.0, reason })
            }
            Report::Census(census) => line(out, "census", census.at, CensusObject::new(census)),
            Report::Site { at, of, count, waits } => {
                let waits = waits.iter().map(WaitCountObject::new).collect();
                let object = CountedObject { of: SiteObject::new(of), count: CountObject::new(count), waits };
                line(out, "site", *at, object)
            }
            Report::Task { at, of, task, stuck, waits } => {
                let object = TaskObject {
                    task_id: task.id.to_string(),
                    of: SiteObject::new(of),
                    state: task.state.activity().as_str(),
                    references: Integer(task.state.references()),
                    join_handle: task.state.has_join_interest(),
                    cancelled: TaskState::is_cancelled(task.state),
                    address: task.header.to_string(),
                    tid: task.running_on.map(|tid| tid.0),
                    stuck: *stuck,
                    waits: waits.iter().map(WaitObject::new).collect(),
                };
                line(out, "task", *at, object)
            }
            Report::Left { at, sites, tasks } => {
                line(out, "left", *at, LeftObject { sites: Integer(*sites), tasks: Integer(*tasks) })
            }
            Report::Finding { at, of, finding, news, waits, origins } => {
                let event = match news {
                    News::Arisen => "finding",
                    News::Vanished => "vanished",
                };
                let waits = waits.iter().map(WaitCountObject::new).collect();
                let spawned = origins.map(|origins| origins.iter().map(OriginObject::new).collect());
                line(out, event, *at, FindingObject { spawned, ..FindingObject::new(of, finding, waits) })
            }
            Report::Undecided { at, of, undecided } => {
                let object = UndecidedObject {
                    of: SiteObject::new(of),
                    live: Integer(undecided.live),
                    reason: why_word(undecided.why),
                };
                line(out, "undecided", *at, object)
            }
            Report::End(end) => line(out, "end", end.at, EndObject::new(end)),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartObject<'a> {
    wall_time: String,
    kernel: &'a str,
    targets: Vec<TargetObject<'a>>,
}

#[derive(Serialize)]
struct UnreadableObject<'a> {
    pid: u32,
    reason: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CensusObject<'a> {
    pid: u32,
    exe: &'a str,
    live: Integer,
    futures: FuturesObject,
    how: &'a str,
    why_scanned: Option<&'a str>,
    closures: bool,
    bytes_read: Integer,
    took_ms: f64,
    doubt: Option<&'a str>,
}

#[derive(Serialize)]
struct FuturesObject {
    at: Integer,
    low: Integer,
    high: Option<Integer>,
}

/// What identifies a site in every object about it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SiteObject<'a> {
    pid: u32,
    exe: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    type_id: String,
    future: Option<&'a str>,
    future_certain: bool,
    location: Option<String>,
    location_certain: bool,
    spawned_at: Option<String>,
    worker: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CountObject {
    live: Integer,
    idle: Integer,
    scheduled: Integer,
    running: Integer,
    complete: Integer,
    stuck: Integer,
    with_handle: Integer,
}

#[derive(Serialize)]
struct CountedObject<'a> {
    #[serde(flatten)]
    of: SiteObject<'a>,
    #[serde(flatten)]
    count: CountObject,
    waits: Vec<WaitCountObject<'a>>,
}

/// What one task waits for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WaitObject<'a> {
    on: &'a str,
    words: String,
    fd: Option<u32>,
    task_id: Option<String>,
    peers: Vec<String>,
}

/// What several tasks wait for.
#[derive(Serialize)]
struct WaitCountObject<'a> {
    tasks: Integer,
    on: &'a str,
    example: WaitObject<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskObject<'a> {
    task_id: String,
    #[serde(flatten)]
    of: SiteObject<'a>,
    state: &'a str,
    references: Integer,
    join_handle: bool,
    cancelled: bool,
    address: String,
    tid: Option<u32>,
    stuck: bool,
    waits: Vec<WaitObject<'a>>,
}

#[derive(Serialize)]
struct LeftObject {
    sites: Integer,
    tasks: Integer,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FindingObject<'a> {
    verdict: &'a str,
    #[serde(flatten)]
    of: SiteObject<'a>,
    live: Integer,
    tasks: Integer,
    evidence: Value,
    waits: Vec<WaitCountObject<'a>>,
    spawned: Option<Vec<OriginObject<'a>>>,
}

/// Where tasks come from.
#[derive(Serialize)]
struct OriginObject<'a> {
    tasks: Integer,
    stack: Vec<CallObject<'a>>,
    ancestors: Vec<AncestorObject<'a>>,
    beyond: &'a str,
}

/// One function of a stack.
#[derive(Serialize)]
struct CallObject<'a> {
    address: String,
    image: Option<&'a str>,
    offset: Option<String>,
    function: Option<&'a str>,
    certain: bool,
    location: Option<String>,
    machinery: bool,
}

/// A task that spawned another.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AncestorObject<'a> {
    task_id: Option<String>,
    future: &'a str,
}

#[derive(Serialize)]
struct UndecidedObject<'a> {
    #[serde(flatten)]
    of: SiteObject<'a>,
    live: Integer,
    reason: Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndObject {
    targets: Integer,
    unreadable: Integer,
    findings: Option<Integer>,
    healthy_sites: Integer,
    healthy_tasks: Integer,
    spawns: Option<SpawnsObject>,
    elapsed_ms: f64,
}

#[derive(Serialize)]
struct SpawnsObject {
    seen: Integer,
    lost: Integer,
    malformed: Integer,
    dropped: Integer,
}

impl<'a> CensusObject<'a> {
    fn new(census: &CensusReport<'a>) -> Self {
        Self {
            pid: census.pid.0,
            exe: census.exe,
            live: Integer(census.live),
            futures: FuturesObject {
                at: Integer(census.futures.at.0),
                low: Integer(census.futures.low),
                high: census.futures.high.map(Integer),
            },
            how: census.how,
            why_scanned: census.why_scanned,
            closures: census.closures,
            bytes_read: Integer(census.bytes),
            took_ms: milliseconds(census.took),
            doubt: census.doubt,
        }
    }
}

impl<'a> SiteObject<'a> {
    fn new(of: &SiteOf<'a>) -> Self {
        let task = &of.entry.task;
        let Pid(pid) = of.pid;
        Self {
            pid,
            exe: of.exe,
            kind: task.resource.as_str(),
            type_id: of.entry.id.to_string(),
            future: task.future.text(),
            future_certain: task.future.is_certain(),
            location: task.place.as_ref().map(ToString::to_string),
            location_certain: task.place.as_ref().is_some_and(|place| place.certain),
            spawned_at: of.spawned_at.map(ToString::to_string),
            worker: task.worker,
        }
    }
}

impl<'a> WaitObject<'a> {
    fn new(waiting: &'a Waiting) -> Self {
        Self {
            on: waiting.as_str(),
            words: waiting.to_string(),
            fd: match waiting {
                Waiting::Io { fd, .. } => *fd,
                _ => None,
            },
            task_id: match waiting {
                Waiting::Join { task } | Waiting::HeldBy { task } => Some(task.to_string()),
                _ => None,
            },
            peers: waiting.peers().map_or(Vec::new(), |peers| peers.tasks.iter().map(ToString::to_string).collect()),
        }
    }
}

impl<'a> WaitCountObject<'a> {
    fn new(count: &'a WaitCount) -> Self {
        let example = WaitObject::new(&count.example);
        Self { tasks: Integer(count.tasks), on: example.on, example }
    }
}

impl CountObject {
    fn new(count: &SiteCount) -> Self {
        Self {
            live: Integer(count.live),
            idle: Integer(count.idle),
            scheduled: Integer(count.scheduled),
            running: Integer(count.running),
            complete: Integer(count.complete),
            stuck: Integer(count.stuck),
            with_handle: Integer(count.with_handle),
        }
    }
}

impl<'a> FindingObject<'a> {
    fn new(of: &SiteOf<'a>, finding: &'a Finding, waits: Vec<WaitCountObject<'a>>) -> Self {
        Self {
            verdict: finding.evidence.verdict().as_str(),
            of: SiteObject::new(of),
            live: Integer(finding.live),
            tasks: Integer(finding.tasks),
            evidence: evidence(finding),
            waits,
            spawned: None,
        }
    }
}

impl<'a> OriginObject<'a> {
    fn new(origin: &'a Origin) -> Self {
        let ancestor = |ancestor: &'a Ancestor| AncestorObject {
            task_id: ancestor.task.map(|task| task.to_string()),
            future: &ancestor.future,
        };
        Self {
            tasks: Integer(origin.tasks),
            stack: origin.callers.iter().flat_map(CallObject::of).collect(),
            ancestors: origin.ancestors.iter().map(ancestor).collect(),
            beyond: match origin.beyond {
                Beyond::NoTask => "noTask",
                Beyond::NotSeen => "notSeen",
                Beyond::NotTold => "notTold",
            },
        }
    }
}

impl<'a> CallObject<'a> {
    /// A call is several functions where the compiler put one into the other, and one without a name where none is known.
    fn of(caller: &'a Caller) -> Vec<Self> {
        let blank = || Self {
            address: caller.address.to_string(),
            image: caller.image.as_ref().map(|place| place.path.as_str()),
            offset: caller.image.as_ref().map(|place| place.at.to_string()),
            function: None,
            certain: false,
            location: None,
            machinery: false,
        };
        if caller.functions.is_empty() {
            return vec![blank()];
        }
        let named = |function: &'a FunctionName| Self {
            function: Some(&function.name),
            certain: function.certain,
            location: function.place.as_ref().map(ToString::to_string),
            machinery: function.machinery,
            ..blank()
        };
        caller.functions.iter().map(named).collect()
    }
}

impl EndObject {
    fn new(end: &SitesEnd) -> Self {
        Self {
            targets: Integer(end.targets),
            unreadable: Integer(end.unreadable),
            findings: end.findings.map(Integer),
            healthy_sites: Integer(end.healthy.0),
            healthy_tasks: Integer(end.healthy.1),
            spawns: end.spawns.map(|spawns| SpawnsObject {
                seen: Integer(spawns.seen),
                lost: Integer(spawns.lost),
                malformed: Integer(spawns.malformed),
                dropped: Integer(spawns.dropped),
            }),
            elapsed_ms: milliseconds(end.elapsed),
        }
    }
}

fn evidence(finding: &Finding) -> Value {
    let mut object = match finding.evidence {
        Evidence::Stuck { with_handle, apart } => serde_json::json!({
            "withHandle": with_handle,
            "referencesWithHandle": 2,
            "references": 1,
            "apartMs": milliseconds(apart),
        }),
        Evidence::Leaking { grows, slope, fit, born, ended, readings, during } => serde_json::json!({
            "grows": match grows { Grows::All => "all", Grows::Part => "part" },
            "slopePerSecond": slope,
            "fit": fit,
            "born": born,
            "ended": ended,
            "samples": readings,
            "duringMs": milliseconds(during),
        }),
        Evidence::Ring { readings } => serde_json::json!({ "why": "ring", "samples": readings }),
        Evidence::Suspect { newer, readings } => {
            serde_json::json!({ "why": "many", "newer": newer, "samples": readings })
        }
    };
    object["lowestTaskId"] = finding.ids.0.to_string().into();
    object["highestTaskId"] = finding.ids.1.to_string().into();
    object["seenForMs"] = milliseconds(finding.seen_for).into();
    object["words"] = super::text::evidence(finding).into();
    object
}

fn why_word(why: Why) -> Value {
    let ms = |ns: Ns| milliseconds(ns);
    let mut object = match why {
        Why::Readings { had, needed } => serde_json::json!({ "too": "fewSamples", "had": had, "needed": needed }),
        Why::Births { had, needed } => serde_json::json!({ "too": "fewBirths", "had": had, "needed": needed }),
        Why::Young { age, warm_up } => {
            serde_json::json!({ "too": "young", "ageMs": ms(age), "warmUpMs": ms(warm_up) })
        }
        Why::Incomplete => serde_json::json!({ "too": "incomplete" }),
    };
    object["words"] = super::text::why(why).into();
    object
}
