//! Branches and roots as JSON lines.

use std::io::{self, Write};

use serde::Serialize;

use crate::model::{Ns, ResourceFacts};
use crate::sink::json::{Integer, line};

use super::branches::{Above, Branches, Leaf};
use super::programs::Program;
use super::roots::Roots;
use super::{Origin, Share};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShareObject {
    live: Integer,
    ended: Integer,
    gone: Integer,
    polls: Integer,
    busy_ns: Integer,
    longest_ns: Integer,
    polling: Integer,
    polling_for_ns: Option<Integer>,
}

impl From<Share> for ShareObject {
    fn from(share: Share) -> Self {
        let Share { live, ended, gone, polls, busy, longest, polling, polling_for } = share;
        Self {
            live: Integer(live),
            ended: Integer(ended),
            gone: Integer(gone),
            polls: Integer(polls),
            busy_ns: Integer(busy),
            longest_ns: Integer(longest),
            polling: Integer(polling),
            polling_for_ns: (polling > 0).then_some(Integer(polling_for)),
        }
    }
}

/// What tasks are, as an `init` says it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KindObject<'a> {
    #[serde(rename = "type")]
    resource: Option<&'a str>,
    type_id: Option<String>,
    future: Option<&'a str>,
    future_certain: bool,
    location: Option<String>,
    location_certain: bool,
}

impl<'a> KindObject<'a> {
    fn new(facts: Option<&'a ResourceFacts>) -> Self {
        let place = facts.and_then(|facts| facts.place.as_ref());
        Self {
            resource: facts.map(|facts| facts.resource.as_str()),
            type_id: facts.and_then(|facts| facts.type_id.as_ref()).map(ToString::to_string),
            future: facts.and_then(|facts| facts.future.text()),
            future_certain: facts.is_some_and(|facts| facts.future.is_certain()),
            location: place.map(ToString::to_string),
            location_certain: place.is_some_and(|place| place.certain),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BranchObject<'a> {
    pid: u32,
    exe: &'a str,
    branch: Integer,
    /// `null` for those that grow from no other.
    above: Option<Integer>,
    from: &'static str,
    #[serde(flatten)]
    kind: KindObject<'a>,
    recurs: bool,
    own: ShareObject,
    all: ShareObject,
    tasks: Vec<LeafObject>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeafObject {
    async_id: Integer,
    task_id: Option<String>,
    trigger_async_id: Option<Integer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RootObject<'a> {
    pid: u32,
    exe: &'a str,
    /// `null` for roots that are over, which stand together by type.
    root_async_id: Option<Integer>,
    task_id: Option<String>,
    roots: Integer,
    root_live: bool,
    from: Option<&'static str>,
    #[serde(flatten)]
    kind: KindObject<'a>,
    all: ShareObject,
}

/// The whole tree of a program, each branch behind the one it grows from.
pub(super) fn tree(program: &Program, branches: &Branches, at: Ns, out: &mut dyn Write) -> io::Result<()> {
    let all = branches.with_those_below();
    let mut leaves = branches.leaves();
    for ((id, branch), all) in branches.each().zip(all) {
        let (above, from) = match branch.above {
            Above::Branch(above) => (Some(Integer(above.number())), "task"),
            Above::Outside => (None, "outside"),
            Above::Before => (None, "before"),
            Above::Unseen => (None, "unseen"),
            Above::Anywhere => (None, "anywhere"),
        };
        let object = BranchObject {
            pid: program.pid.0,
            exe: &program.exe,
            branch: Integer(id.number()),
            above,
            from,
            kind: KindObject::new(branch.facts.as_ref()),
            recurs: branch.recurs,
            own: branch.own.into(),
            all: all.into(),
            tasks: leaves
                .remove(&id)
                .unwrap_or_default()
                .into_iter()
                .map(|(id, Leaf { task, trigger, .. })| LeafObject {
                    async_id: Integer(id.0),
                    task_id: task.map(|task| task.to_string()),
                    trigger_async_id: trigger.map(|id| Integer(id.0)),
                })
                .collect(),
        };
        line(out, "branch", at, object)?;
    }
    Ok(())
}

/// All roots of a program: those of which something is alive, and sums of the others.
pub(super) fn roots(program: &Program, roots: &Roots, at: Ns, out: &mut dyn Write) -> io::Result<()> {
    for (id, root) in roots.alive() {
        let from = match root.origin {
            Origin::Task(_) | Origin::Unseen => "unseen",
            Origin::Outside => "outside",
            Origin::Before => "before",
        };
        let object = RootObject {
            pid: program.pid.0,
            exe: &program.exe,
            root_async_id: Some(Integer(id.0)),
            task_id: root.facts.task_id.map(|id| id.to_string()),
            roots: Integer(1),
            root_live: root.live,
            from: Some(from),
            kind: KindObject::new(Some(&root.facts)),
            all: root.all.into(),
        };
        line(out, "root", at, object)?;
    }
    for over in roots.over() {
        let object = RootObject {
            pid: program.pid.0,
            exe: &program.exe,
            root_async_id: None,
            task_id: None,
            roots: Integer(over.roots),
            root_live: false,
            from: None,
            kind: KindObject::new(Some(&over.facts)),
            all: over.all.into(),
        };
        line(out, "root", at, object)?;
    }
    Ok(())
}
