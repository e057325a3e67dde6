//! The end of a session and its totals, as an object.

use serde::Serialize;

use super::line::{Integer, milliseconds};
use super::live;
use super::overhead::OverheadObject;
use super::spawn_stack::CountsObject;
use crate::sink::{End, TierTime};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndObject<'a> {
    reason: &'a str,
    detach_ms: f64,
    overhead: OverheadObject,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tiers: Vec<HeldObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stacks: Option<CountsObject>,
    totals: TotalsObject,
}

impl<'a> EndObject<'a> {
    pub(super) fn new(end: &'a End) -> Self {
        let totals = &end.totals;
        let totals = TotalsObject {
            init: Integer(totals.init),
            before: Integer(if totals.every_poll { totals.before } else { 0 }),
            after: Integer(if totals.every_poll { totals.after } else { 0 }),
            polls: totals.polls.map(Integer),
            resolve: Integer(totals.resolve),
            destroy: Integer(totals.destroy),
            lost: Integer(totals.lost),
            elsewhere: Integer(totals.elsewhere),
            lost_news: Integer(totals.lost_news),
            malformed: Integer(totals.malformed),
            late: Integer(totals.late),
            live: live(totals.live, totals.watched),
            unsure: Integer(totals.unsure),
            targets: Integer(totals.targets),
            ended_with_process: Integer(totals.ended_with_process),
            unplaced: Integer(totals.unplaced),
            unfollowed: Integer(totals.unfollowed),
            unplanted: Integer(totals.unplanted),
        };
        Self {
            reason: end.reason.as_str(),
            detach_ms: milliseconds(end.detach),
            overhead: OverheadObject::new(&end.overhead),
            tiers: end
                .tiers
                .iter()
                .map(|TierTime { tier, held }| HeldObject { tier, for_ns: Integer(held.0) })
                .collect(),
            stacks: end.stacks.as_ref().map(CountsObject::new),
            totals,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeldObject<'a> {
    tier: &'a str,
    for_ns: Integer,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TotalsObject {
    init: Integer,
    before: Integer,
    after: Integer,
    #[serde(skip_serializing_if = "Option::is_none")]
    polls: Option<Integer>,
    resolve: Integer,
    destroy: Integer,
    lost: Integer,
    elsewhere: Integer,
    lost_news: Integer,
    malformed: Integer,
    late: Integer,
    live: Option<Integer>,
    unsure: Integer,
    targets: Integer,
    ended_with_process: Integer,
    unplaced: Integer,
    unfollowed: Integer,
    unplanted: Integer,
}
