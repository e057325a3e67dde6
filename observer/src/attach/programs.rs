//! The kernel object's programs: which there are, what they are called, and loading them by hand.
//!
//! aya 0.14 cannot load a program for uprobe_multi (it has no say over the expected attach type), and its loader reads all
//! of the kernel's own types first, which costs more than everything else that is done before the first event.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsRawFd as _, OwnedFd};

use super::AttachError;
use super::kernel::{self, AttachedBy};
use super::object::{Calls, Object, Sessions, Spawners, Work, broken};
use crate::model::Program;

/// The object with its programs bound to the maps, to be loaded.
pub(super) struct Bound<'a> {
    object: &'a Object,
    bound: aya_obj::Object,
}

impl Object {
    /// Loads every wanted program.
    pub(super) fn load_programs(&self, by: AttachedBy) -> Result<HashMap<Program, OwnedFd>, AttachError> {
        self.bind()?.load(by, |_| true)
    }

    /// Binds the programs to the maps.
    pub(super) fn bind(&self) -> Result<Bound<'_>, AttachError> {
        let mut bound = self.parsed.clone();
        let sections: HashSet<usize> = bound.functions.keys().map(|(section, _)| *section).collect();
        let maps = self.maps.iter();
        let by_name = maps.map(|(name, map)| (name.as_str(), map.as_fd().as_raw_fd(), &map.declared));
        bound.relocate_maps(by_name, &sections).map_err(|e| broken(&e))?;
        bound.relocate_calls(&sections).map_err(|e| broken(&e))?;
        Ok(Bound { object: self, bound })
    }
}

impl Bound<'_> {
    /// Loads those of the wanted programs.
    pub(super) fn load(
        &self,
        by: AttachedBy,
        those: impl Fn(Program) -> bool,
    ) -> Result<HashMap<Program, OwnedFd>, AttachError> {
        let Object { work, calls, spawners, .. } = *self.object;
        let wanted = |program: &Program| *program != Program::Spawn || spawners == Spawners::Reported;
        let programs = PROGRAMS.into_iter().filter(|program| wanted(program) && those(*program));
        programs.map(|program| Ok((program, load(&self.bound, name(program, work, calls), by)?))).collect()
    }

    /// Loads a program whose hits are to be priced.
    pub(super) fn load_pretence(&self, pretence: Pretence, by: AttachedBy) -> Result<OwnedFd, AttachError> {
        load(&self.bound, pretence.name(), by)
    }

    /// Loads the one program for both moments of a call; `None` where it is not wanted, or where the kernel has no such
    /// programs and says so now.
    pub(super) fn load_session(&self) -> Result<Option<OwnedFd>, AttachError> {
        let Object { work: Work::Report, calls: Calls::Once, sessions: Sessions::IfThere, .. } = *self.object else {
            return Ok(None);
        };
        match load(&self.bound, WHOLE_CALL, AttachedBy::Session) {
            Ok(program) => Ok(Some(program)),
            Err(AttachError::Verifier { .. } | AttachError::KernelCannot { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

/// A program for pricing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pretence {
    /// It does nothing.
    Nothing,
    /// It does what ours do.
    Work,
    /// And writes a record.
    WorkAndRecord,
}

impl Pretence {
    /// What the kernel side calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Work => "pretend",
            Self::WorkAndRecord => "pretend_and_write",
        }
    }
}

/// Every program, in the order in which they may be attached: a mint is worth nothing without the birth that asks for
/// it, and a call that is seen entering must be seen leaving.
///
/// Births last: who was seen born while the ways to end were not watched yet would live for ever. Mints before births,
/// and returns before entries. Probes are taken out in the reverse order, so births go first.
pub(super) const PROGRAMS: [Program; 8] = [
    Program::Leave,
    Program::Enter,
    Program::EnterOnly,
    Program::Raise,
    Program::Hook,
    Program::Mint,
    Program::Birth,
    Program::Spawn,
];

/// What the kernel side calls the one program for both moments of a call.
const WHOLE_CALL: &str = "whole_call";

/// What the kernel side calls it.
fn name(program: Program, work: Work, calls: Calls) -> &'static str {
    match (program, work) {
        (Program::Leave, Work::Nothing) => "nothing_at_return",
        (_, Work::Nothing) => "nothing",
        (Program::Enter, _) if calls == Calls::Once => "begin_call",
        (Program::Leave, _) if calls == Calls::Once => "end_call",
        (Program::Mint, _) => "mint",
        (Program::Birth, _) => "birth",
        (Program::Spawn, _) => "spawn",
        (Program::Enter, _) => "enter",
        (Program::Leave, _) => "leave",
        (Program::Raise, _) => "raise",
        (Program::Hook, _) => "hook",
        (Program::EnterOnly, _) => "enter_only",
    }
}

fn load(object: &aya_obj::Object, name: &'static str, by: AttachedBy) -> Result<OwnedFd, AttachError> {
    let entry = object.programs.get(name).and_then(|p| Some((p, object.functions.get(&p.function_key())?)));
    let (parsed, function) = entry.ok_or_else(|| AttachError::Object(format!("no program {name}")))?;
    kernel::load_program(name, &function.instructions, &parsed.license, by).map_err(|rejected| {
        if is_verdict(&rejected.source) && !rejected.log.is_empty() {
            AttachError::Verifier { program: name, log: rejected.log, source: rejected.source }
        } else {
            AttachError::refused("load programs", rejected.source)
        }
    })
}

/// The verifier says no with one of these; a lack of privileges is EPERM.
fn is_verdict(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EINVAL | libc::E2BIG | libc::ENOSPC))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::object::BYTES;

    #[test]
    fn the_object_declares_its_licence_and_has_every_program() {
        let object = aya_obj::Object::parse(BYTES).unwrap();
        assert_eq!(object.license.as_c_str(), c"Dual MIT/GPL");
        let mut found: Vec<&str> = object.programs.keys().map(String::as_str).collect();
        let ways = [(Work::Report, Calls::Twice), (Work::Report, Calls::Once), (Work::Nothing, Calls::Twice)];
        let names = |(work, calls)| PROGRAMS.map(|program| name(program, work, calls));
        let mut expected: Vec<&str> = ways.into_iter().flat_map(names).chain([WHOLE_CALL]).collect();
        expected.extend([Pretence::Nothing, Pretence::Work, Pretence::WorkAndRecord].map(Pretence::name));
        found.sort();
        expected.sort();
        expected.dedup();
        assert_eq!(found, expected);
    }
}
