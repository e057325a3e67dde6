//! Objects that name a site, count its tasks and say what they wait for.

use serde::Serialize;

use crate::model::{Pid, Waiting};
use crate::sink::json::{EnclosureObject, Integer};
use crate::sink::sites::SiteOf;
use crate::verdict::{SiteCount, WaitCount};

/// What identifies a site in every object about it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SiteObject<'a> {
    pub(super) pid: u32,
    #[serde(flatten)]
    pub(super) enclosure: EnclosureObject<'a>,
    pub(super) exe: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    pub(super) type_id: String,
    pub(super) future: Option<&'a str>,
    pub(super) future_certain: bool,
    pub(super) location: Option<String>,
    pub(super) location_certain: bool,
    pub(super) spawned_at: Option<String>,
    pub(super) worker: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CountObject {
    pub(super) live: Integer,
    pub(super) idle: Integer,
    pub(super) scheduled: Integer,
    pub(super) running: Integer,
    pub(super) complete: Integer,
    pub(super) stuck: Integer,
    pub(super) with_handle: Integer,
}

/// What one task waits for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WaitObject<'a> {
    pub(super) on: &'a str,
    pub(super) words: String,
    pub(super) fd: Option<u32>,
    pub(super) task_id: Option<String>,
    pub(super) peers: Vec<String>,
    pub(super) more_peers: u32,
}

/// What several tasks wait for.
#[derive(Serialize)]
pub(super) struct WaitCountObject<'a> {
    pub(super) tasks: Integer,
    pub(super) on: &'a str,
    pub(super) example: WaitObject<'a>,
}

impl<'a> SiteObject<'a> {
    pub(super) fn new(of: &SiteOf<'a>) -> Self {
        let task = &of.entry.task;
        let Pid(pid) = of.pid;
        Self {
            pid,
            enclosure: EnclosureObject::new(of.enclosure),
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
    pub(super) fn new(waiting: &'a Waiting) -> Self {
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
            more_peers: waiting.peers().map_or(0, |peers| peers.more),
            peers: waiting.peers().map_or(Vec::new(), |peers| peers.tasks.iter().map(ToString::to_string).collect()),
        }
    }
}

impl<'a> WaitCountObject<'a> {
    pub(super) fn new(count: &'a WaitCount) -> Self {
        let example = WaitObject::new(&count.example);
        Self { tasks: Integer(count.tasks), on: example.on, example }
    }
}

impl CountObject {
    pub(super) fn new(count: &SiteCount) -> Self {
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
