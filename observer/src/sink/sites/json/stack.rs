//! Objects that say how tasks wait.

use serde::Serialize;

use super::site::{SiteObject, WaitCountObject};
use crate::model::{Polled, Standing, Suspension};
use crate::sink::json::Integer;
use crate::sink::sites::AwaitFrame;

/// Most tasks of one stack that are named; all are counted.
pub(super) const MOST_IDS: usize = 1000;

/// Tasks that wait in the same way.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StackObject<'a> {
    #[serde(flatten)]
    pub(super) of: SiteObject<'a>,
    pub(super) tasks: Integer,
    pub(super) task_ids: Vec<String>,
    pub(super) frames: Option<Vec<FrameObject<'a>>>,
    pub(super) unknown: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
    pub(super) waits: Vec<WaitCountObject<'a>>,
}

/// One future.
#[derive(Serialize)]
pub(super) struct FrameObject<'a> {
    depth: usize,
    future: &'a str,
    raw: &'a str,
    how: &'static str,
    state: &'static str,
    location: Option<String>,
    within: Option<String>,
    reason: Option<&'static str>,
}

impl<'a> FrameObject<'a> {
    pub(super) fn new(frame: &'a AwaitFrame) -> Self {
        let AwaitFrame { depth, future, raw, standing, how } = frame;
        let (state, location, reason) = match standing {
            Standing::Suspended(Suspension { place, .. }) => {
                ("suspended", place.as_ref().map(ToString::to_string), None)
            }
            Standing::NotStarted => ("notStarted", None, None),
            Standing::Leaf => ("leaf", None, None),
            Standing::Unfollowed(why) => ("unknown", None, Some(why.why())),
        };
        let within = match standing {
            Standing::Suspended(Suspension { within: Some(within), .. }) => Some(within.to_string()),
            _ => None,
        };
        let how = match how {
            Polled::Awaited => "awaited",
            Polled::Held => "held",
        };
        Self { depth: *depth, future, raw, how, state, location, within, reason }
    }
}
