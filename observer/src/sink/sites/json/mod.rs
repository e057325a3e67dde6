//! JSON Lines of sites, as `schema/sites.schema.json` says.

mod finding;
pub(in crate::sink) mod origin;
mod site;
mod stack;

use std::io::{self, Write};

use serde::Serialize;

use super::{CensusReport, News, Report, SiteSink, SitesEnd};
use crate::model::TaskState;
use crate::sink::json::{EnclosureObject, Integer, TargetObject, line, milliseconds};

use finding::{FindingObject, UndecidedObject, why_word};
use origin::OriginObject;
use site::{CountObject, SiteObject, WaitCountObject, WaitObject};
use stack::{FrameObject, MOST_IDS, StackObject};

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
            Report::Stack { at, of, tasks, stack, waits } => {
                let object = StackObject {
                    of: SiteObject::new(of),
                    tasks: Integer(tasks.len() as u64),
                    task_ids: tasks.iter().take(MOST_IDS).map(ToString::to_string).collect(),
                    frames: stack.map(|frames| frames.iter().map(FrameObject::new).collect()).ok(),
                    unknown: stack.err().map(|unstacked| unstacked.word),
                    reason: stack.err().map(|unstacked| unstacked.reason),
                    waits: waits.iter().map(WaitCountObject::new).collect(),
                };
                line(out, "stack", *at, object)
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
    #[serde(flatten)]
    enclosure: EnclosureObject<'a>,
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

#[derive(Serialize)]
struct CountedObject<'a> {
    #[serde(flatten)]
    of: SiteObject<'a>,
    #[serde(flatten)]
    count: CountObject,
    waits: Vec<WaitCountObject<'a>>,
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
    hits: Integer,
    seen: Integer,
    lost: Integer,
    malformed: Integer,
    dropped: Integer,
}

impl<'a> CensusObject<'a> {
    fn new(census: &CensusReport<'a>) -> Self {
        Self {
            pid: census.pid.0,
            enclosure: EnclosureObject::new(census.enclosure),
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

impl EndObject {
    fn new(end: &SitesEnd) -> Self {
        Self {
            targets: Integer(end.targets),
            unreadable: Integer(end.unreadable),
            findings: end.findings.map(Integer),
            healthy_sites: Integer(end.healthy.0),
            healthy_tasks: Integer(end.healthy.1),
            spawns: end.spawns.map(|spawns| SpawnsObject {
                hits: Integer(spawns.hits),
                seen: Integer(spawns.seen),
                lost: Integer(spawns.lost),
                malformed: Integer(spawns.malformed),
                dropped: Integer(spawns.dropped),
            }),
            elapsed_ms: milliseconds(end.elapsed),
        }
    }
}
