//! Probes for processes that are named: as few links as reach just them.
//!
//! Does not know what becomes of the probes later.

use std::collections::HashSet;
use std::sync::Arc;

use crate::attach::{Audience, Links, Probes, sees_every_process};
use crate::model::{Capability, Catalog, FileId, Missing, Pid};
use crate::target::{Hold, Layered, Process};

use super::error::SessionError;
use super::held::{Held, Runner};
use super::machine::Machine;
use super::privileges::own_capabilities;
use super::setup::{Attachment, refused};

/// Images of named processes, and who is to be reached in each.
pub(super) struct Named {
    images: Vec<(Held, Vec<Runner>)>,
}

/// Their probes.
pub(super) struct Reached {
    pub(super) held: Vec<Held>,
    /// What will not be seen because the kernel took no probe there.
    pub(super) missing: Vec<Missing>,
    /// Processes whose image they did not reach, by its file.
    pub(super) unreached: Vec<(Pid, FileId)>,
}

impl Named {
    /// Decides how each image is probed.
    ///
    /// A link for each process costs nobody else anything, but each of them is asked at every hit of every other: of many
    /// processes that run one program each would pay for all. So where nobody but them runs it, there is one link for
    /// everyone, and the programs are told whom to report.
    pub(super) fn prepare(attachments: Vec<Attachment>, processes: &[Arc<Process>]) -> Result<Self, SessionError> {
        let files: Vec<FileId> = attachments.iter().filter(|one| one.runners.len() > 1).map(|one| one.file).collect();
        let shared = if files.is_empty() { HashSet::new() } else { run_by_these_only(&files, processes)? };
        let mut images: Vec<(Held, Vec<Runner>)> = Vec::new();
        for Attachment { file, name, facts, image, opened, runners, .. } in attachments {
            let failed = |source| SessionError::System { what: "tell an image's file", source };
            let layered = Layered::of(&opened).map_err(failed)?;
            // Behind two overlays it is one file to the kernel: a link for everyone would report each hit twice.
            let is_alone = !images.iter().any(|(held, _)| held.is_of(&layered, &facts));
            let hold = match shared.contains(&file) && is_alone {
                // Where it cannot be held, links for single processes are the safe way.
                true => opened.try_clone().and_then(Hold::take).ok(),
                false => None,
            };
            images.push((Held::new(vec![file], name, (facts, image), (opened, layered), hold), runners));
        }
        Ok(Self { images })
    }

    /// Whose hits are to be reported.
    pub(super) fn audience(&self) -> Audience {
        match self.images.iter().any(|(held, _)| held.is_for_everyone()) {
            true => Audience::Listed,
            false => Audience::Linked,
        }
    }

    /// Puts the probes in.
    ///
    /// In a process that they did not reach an image is not observed, and is missing; an error if nothing is left of any process.
    pub(super) fn reach(self, probes: &mut Probes, catalog: &mut Catalog) -> Result<Reached, SessionError> {
        let mut reached = Reached { held: Vec::new(), missing: Vec::new(), unreached: Vec::new() };
        let mut nothing = None;
        let is_listed = self.audience() == Audience::Listed;
        for (mut held, runners) in self.images {
            if is_listed {
                runners.iter().try_for_each(|runner| probes.list(runner.pid))?;
            }
            if held.is_for_everyone() {
                let links = held.reach_everyone(probes)?;
                reached.missing.extend(refused(links.refused(), catalog));
            } else {
                for runner in &runners {
                    let links = held.reach_verified(*runner, probes)?;
                    reached.missing.extend(refused(links.refused(), catalog));
                }
            }
            for runner in runners {
                let (missing, is_reached) = match held.check_reached(runner.pid) {
                    Ok(missing) => (missing, true),
                    Err(error) => {
                        reached.unreached.extend(held.names.iter().map(|name| (runner.pid, *name)));
                        drop(Links::together(held.leave(runner.pid)));
                        let reason = format!("{error}: restart it, or use ps, sweep or --tier sampled");
                        nothing.get_or_insert(error);
                        (vec![Missing { event: "init", reason }], false)
                    }
                };
                if let Some(target) = catalog.in_slot(runner.slot) {
                    catalog.change(target, |entry| {
                        entry.images.retain(|mapped| is_reached || !Arc::ptr_eq(&mapped.image, &held.image));
                        entry.missing.extend(missing);
                    });
                }
            }
            reached.held.push(held);
        }
        match nothing {
            Some(error) if catalog.targets().all(|(_, entry)| entry.images.is_empty()) => Err(error),
            _ => Ok(reached),
        }
    }
}

/// Those of the files that nobody but these processes runs now, as far as can be known.
///
/// Who may look at everyone is refused only by those that are shielded from all (by Landlock, say): they are reached as
/// when everyone is observed, and not reported. Who may not look at everyone knows nothing of the others.
fn run_by_these_only(files: &[FileId], processes: &[Arc<Process>]) -> Result<HashSet<FileId>, SessionError> {
    let sees =
        sees_every_process().map_err(|source| SessionError::System { what: "read /proc/self/ns/pid", source })?;
    if !sees || !own_capabilities().allows(Capability::SysPtrace) {
        return Ok(HashSet::new());
    }
    let named: HashSet<Pid> = processes.iter().map(|process| process.pid()).collect();
    let Machine { residents, .. } = Machine::look()?;
    let others = residents.iter().filter(|(pid, _)| !named.contains(pid));
    let run: HashSet<FileId> = others.flat_map(|(_, other)| other.code.iter().map(|code| code.file)).collect();
    Ok(files.iter().copied().filter(|file| !run.contains(file)).collect())
}
