//! Objects of verdicts, with their evidence, and of what is not decided.

use serde::Serialize;
use serde_json::Value;

use super::origin::OriginObject;
use super::site::{SiteObject, WaitCountObject};
use crate::sink::json::{Integer, milliseconds};
use crate::sink::sites::{SiteOf, text};
use crate::verdict::{Evidence, Finding, Grows, Why};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FindingObject<'a> {
    pub(super) verdict: &'a str,
    #[serde(flatten)]
    pub(super) of: SiteObject<'a>,
    pub(super) live: Integer,
    pub(super) tasks: Integer,
    pub(super) evidence: Value,
    pub(super) waits: Vec<WaitCountObject<'a>>,
    pub(super) spawned: Option<Vec<OriginObject<'a>>>,
}

#[derive(Serialize)]
pub(super) struct UndecidedObject<'a> {
    #[serde(flatten)]
    pub(super) of: SiteObject<'a>,
    pub(super) live: Integer,
    pub(super) reason: Value,
}

impl<'a> FindingObject<'a> {
    pub(super) fn new(of: &SiteOf<'a>, finding: &'a Finding, waits: Vec<WaitCountObject<'a>>) -> Self {
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
    object["words"] = text::evidence(finding).into();
    object
}

pub(super) fn why_word(why: Why) -> Value {
    let mut object = match why {
        Why::Readings { had, needed } => serde_json::json!({ "too": "fewSamples", "had": had, "needed": needed }),
        Why::Births { had, needed } => serde_json::json!({ "too": "fewBirths", "had": had, "needed": needed }),
        Why::Young { age, warm_up } => {
            serde_json::json!({ "too": "young", "ageMs": milliseconds(age), "warmUpMs": milliseconds(warm_up) })
        }
        Why::Incomplete => serde_json::json!({ "too": "incomplete" }),
    };
    object["words"] = text::why(why).into();
    object
}
