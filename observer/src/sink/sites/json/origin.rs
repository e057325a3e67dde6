//! Objects that lead tasks back to where they were spawned.

use serde::Serialize;

use crate::model::{Ancestor, Beyond, Caller, FunctionName, Origin};
use crate::sink::json::Integer;

/// Where tasks come from.
#[derive(Serialize)]
pub(super) struct OriginObject<'a> {
    pub(super) tasks: Integer,
    pub(super) stack: Vec<CallObject<'a>>,
    pub(super) ancestors: Vec<AncestorObject<'a>>,
    pub(super) beyond: &'a str,
}

/// One function of a stack.
#[derive(Serialize)]
pub(in crate::sink) struct CallObject<'a> {
    pub(super) address: String,
    pub(super) image: Option<&'a str>,
    pub(super) offset: Option<String>,
    pub(super) function: Option<&'a str>,
    pub(super) certain: bool,
    pub(super) location: Option<String>,
    pub(super) machinery: bool,
}

/// A task that spawned another.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AncestorObject<'a> {
    pub(super) task_id: Option<String>,
    pub(super) future: &'a str,
}

impl<'a> OriginObject<'a> {
    pub(super) fn new(origin: &'a Origin) -> Self {
        let ancestor = |ancestor: &'a Ancestor| AncestorObject {
            task_id: ancestor.task.map(|task| task.to_string()),
            future: &ancestor.future,
        };
        Self {
            tasks: Integer(origin.tasks),
            stack: origin.callers.iter().flat_map(CallObject::of).collect(),
            ancestors: origin.ancestors.iter().map(ancestor).collect(),
            beyond: beyond(origin.beyond),
        }
    }
}

/// What there is before the last that is known, in a word.
pub(in crate::sink) fn beyond(beyond: Beyond) -> &'static str {
    match beyond {
        Beyond::NoTask => "noTask",
        Beyond::NotSeen => "notSeen",
        Beyond::NotTold => "notTold",
    }
}

impl<'a> CallObject<'a> {
    /// A call is several functions where the compiler put one into the other, and one without a name where none is known.
    pub(in crate::sink) fn of(caller: &'a Caller) -> Vec<Self> {
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
