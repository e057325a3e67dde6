//! The observed processes as they begin, change and end: news in order of time become targets of the catalog.
//!
//! Pure: what is read of a process comes in with its news. Does not know records, tasks or rendering.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::{
    Bias, Catalog, Enclosure, FileId, ImageEntry, ImageFacts, MappedImage, Missing, Pid, TargetEntry, TargetId, Tid,
};
use crate::target::code_bias;

use super::roster::{Arrival, Code, Resident, Roster};

/// All of them.
#[derive(Debug)]
pub(super) struct Population {
    catalog: Catalog,
    roster: Roster,
    attached: HashMap<FileId, Attached>,
    members: Members,
    /// Who was not there when the machine was looked at, with the program that it ran before.
    unlisted: Vec<(Pid, u64)>,
    /// Processes that an image's probes did not reach, by its file: they are not observed in it.
    unreached: HashSet<(Pid, FileId)>,
}

/// Who may be observed.
#[derive(Clone, Debug)]
pub(super) enum Members {
    /// Whoever runs an image that is attached.
    Everyone,
    /// Only these, from one program to the next.
    Named(HashSet<Pid>),
}

/// An image whose probes are in.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) facts: Arc<ImageFacts>,
    pub(super) image: Arc<ImageEntry>,
    /// What will be missing of its tasks.
    pub(super) missing: Vec<Missing>,
}

/// What happened to a process, as far as it matters.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// It has a child.
    Forked {
        /// Its number.
        child: Pid,
        /// What encloses it.
        enclosure: Enclosure,
    },
    /// It begins another program.
    Execed,
    /// It maps code, enclosed by that.
    Mapped(Code, Enclosure),
    /// It has ended.
    Ended,
}

/// What became of the targets by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A process is observed from now on, or has gained an image.
    Begins {
        /// Which.
        id: TargetId,
        /// Why now.
        why: Beginning,
    },
    /// A process is no longer observed.
    Ends {
        /// Which it was.
        id: TargetId,
        /// Its number.
        pid: Pid,
        /// Why.
        why: Ending,
    },
    /// A thread has ended.
    ThreadEnded(Pid, Tid),
}

/// Why a process is observed from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// It was there when its image's probes came in: it may have tasks already.
    Found,
    /// It began a program whose probes were in.
    Execed,
    /// It is the child of an observed process.
    Forked,
    /// It has an image besides those that it was observed in.
    Loaded,
}

/// Why a process is no longer observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Exited,
    Execed,
    /// The probes of its image were taken out.
    Released,
}

impl Population {
    pub(super) fn new(catalog: Catalog, members: Members) -> Self {
        let (roster, attached, unlisted, unreached) = Default::default();
        Self { catalog, roster, attached, members, unlisted, unreached }
    }

    /// These processes are not observed in these files, until they begin another program.
    pub(super) fn without(mut self, unreached: Vec<(Pid, FileId)>) -> Self {
        self.unreached.extend(unreached);
        self
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// An image gets its numbers, before its probes come in.
    pub(super) fn number(&mut self, image: ImageEntry) -> Arc<ImageEntry> {
        self.catalog.add_image(image)
    }

    /// Who runs code of this file.
    pub(super) fn running(&self, file: FileId) -> Vec<Pid> {
        self.roster.running(file)
    }

    /// Whether somebody runs code of this file.
    pub(super) fn is_run(&self, file: FileId) -> bool {
        !self.roster.running(file).is_empty()
    }

    /// This file holds nothing to observe.
    pub(super) fn forget_file(&mut self, file: FileId) {
        self.roster.forget_file(file);
    }

    /// The machine began to be looked at, and these were met.
    pub(super) fn listed(&mut self, residents: Vec<(Pid, Resident)>) -> Vec<Change> {
        let met: HashSet<Pid> = residents.iter().map(|(pid, _)| *pid).collect();
        self.unlisted = self.roster.programs().filter(|(pid, _)| !met.contains(pid)).collect();
        let mut changes = Vec::new();
        for (pid, resident) in residents {
            let known = self.roster.of(pid);
            if known.is_some_and(|known| resident.code.iter().all(|code| known.code.contains(code))) {
                continue;
            }
            // Something was missed. What it runs now is another program if nothing of the old one is left.
            if known.is_some_and(|known| !known.code.iter().any(|code| resident.code.contains(code))) {
                changes.extend(self.end_of(pid, Ending::Execed));
            }
            let files: Vec<FileId> = resident.code.iter().map(|code| code.file).collect();
            self.roster.found(pid, resident);
            changes.extend(files.into_iter().filter_map(|file| self.runs(pid, file, Beginning::Found)));
        }
        changes
    }

    /// The machine has been looked at: whoever was not met, and has not begun anything since, has ended.
    pub(super) fn listing_over(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (pid, program) in std::mem::take(&mut self.unlisted) {
            if self.roster.of(pid).is_some_and(|resident| resident.program == program) {
                changes.extend(self.step(pid, &Step::Ended));
            }
        }
        changes
    }

    /// The probes of an image are in for targets that have it already.
    pub(super) fn settled(&mut self, file: FileId, facts: Arc<ImageFacts>, image: Arc<ImageEntry>) {
        self.attached.insert(file, Attached { facts, image, missing: Vec::new() });
    }

    /// The probes of an image are in.
    pub(super) fn attached(&mut self, file: FileId, attached: Attached) -> Vec<Change> {
        self.attached.insert(file, attached);
        let running = self.roster.running(file);
        running.into_iter().filter_map(|pid| self.runs(pid, file, Beginning::Found)).collect()
    }

    /// The probes of an image begin to be taken out.
    pub(super) fn released(&mut self, file: FileId) -> Vec<Change> {
        let Some(Attached { image, .. }) = self.attached.remove(&file) else { return Vec::new() };
        let has = |entry: &TargetEntry| entry.images.iter().any(|mapped| Arc::ptr_eq(&mapped.image, &image));
        let having: Vec<TargetId> = self.catalog.targets().filter(|(_, entry)| has(entry)).map(|(id, _)| id).collect();
        let mut changes = Vec::new();
        for id in having {
            let left =
                self.catalog.change(id, |entry| entry.images.retain(|mapped| !Arc::ptr_eq(&mapped.image, &image)));
            if left.is_some_and(|entry| entry.images.is_empty()) {
                changes.extend(self.end(id, Ending::Released));
            }
        }
        // Names that it was found under by a hit go with it.
        self.attached.retain(|_, other| !Arc::ptr_eq(&other.image, &image));
        self.catalog.remove_image(&image);
        changes
    }

    /// Something happened to a process.
    pub(super) fn step(&mut self, pid: Pid, step: &Step) -> Vec<Change> {
        match step {
            Step::Forked { child, enclosure } => {
                // Whoever had the number has ended, also if its end was not seen.
                let ended = self.end_of(*child, Ending::Exited);
                self.roster.forked(pid, *child);
                self.roster.enclosed(*child, enclosure);
                ended
            }
            Step::Execed => {
                let ended = self.end_of(pid, Ending::Execed);
                self.roster.execed(pid);
                ended
            }
            Step::Mapped(code, enclosure) => {
                let file = code.file;
                self.roster.mapped(pid, code.clone());
                self.roster.enclosed(pid, enclosure);
                self.runs(pid, file, Beginning::Execed).into_iter().collect()
            }
            Step::Ended => {
                let ended = self.end_of(pid, Ending::Exited);
                self.roster.ended(pid);
                ended
            }
        }
    }

    /// A process that no target stands for was hit in this image, where that is known: one that was forked runs what its parent
    /// runs. One that has mapped a single file that nobody has looked at yet, with code where the image's is, has mapped that
    /// image: the kernel has found the probe there. So a container is seen from its first instruction if another shows the same
    /// file under another device.
    pub(super) fn adopt(&mut self, pid: Pid, hit: Option<&Arc<ImageEntry>>) -> Vec<Change> {
        let changes = self.adopt_known(pid);
        let Some(image) = hit.filter(|_| changes.is_empty()) else { return changes };
        let Some(attached) = self.attached.values().find(|attached| Arc::ptr_eq(&attached.image, image)) else {
            return changes;
        };
        let Some(resident) = self.roster.of(pid) else { return changes };
        let fits = |code: &&Code| {
            let place = (code.start, code.length, code.offset);
            !self.attached.contains_key(&code.file) && code_bias(&attached.facts.segments, [place]).is_some()
        };
        let candidates: HashSet<FileId> = resident.code.iter().filter(fits).map(|code| code.file).collect();
        let mut candidates = candidates.into_iter();
        let (Some(file), None) = (candidates.next(), candidates.next()) else { return changes };
        self.attached.insert(file, attached.clone());
        self.runs(pid, file, Beginning::Execed).into_iter().collect()
    }

    fn adopt_known(&mut self, pid: Pid) -> Vec<Change> {
        let Some(resident) = self.roster.of(pid) else { return Vec::new() };
        let why = match resident.arrival {
            Arrival::Found => Beginning::Found,
            Arrival::Forked => Beginning::Forked,
            Arrival::Execed => Beginning::Execed,
        };
        let files: Vec<FileId> = resident.code.iter().map(|code| code.file).collect();
        files.into_iter().filter_map(|file| self.runs(pid, file, why)).collect()
    }

    fn end_of(&mut self, pid: Pid, why: Ending) -> Vec<Change> {
        self.unreached.retain(|(other, _)| *other != pid);
        self.catalog.of_process(pid).and_then(|id| self.end(id, why)).into_iter().collect()
    }

    fn end(&mut self, id: TargetId, why: Ending) -> Option<Change> {
        let pid = self.catalog.end(id)?.pid;
        Some(Change::Ends { id, pid, why })
    }

    /// A process runs code of a file. If that is attached, it is a target.
    fn runs(&mut self, pid: Pid, file: FileId, why: Beginning) -> Option<Change> {
        let Attached { facts, image, missing } = self.attached.get(&file)?.clone();
        if matches!(&self.members, Members::Named(named) if !named.contains(&pid)) {
            return None;
        }
        if self.unreached.contains(&(pid, file)) {
            return None;
        }
        let resident = self.roster.of(pid)?;
        let (bias, path) = place(&facts, resident, file)?;
        let mapped = MappedImage { image, path, bias };
        let Some(id) = self.catalog.of_process(pid) else {
            let mut entry = TargetEntry::new(pid, resident.exe.to_string());
            entry.enclosure.clone_from(&resident.enclosure);
            entry.missing = missing;
            entry.images.push(mapped);
            return Some(Change::Begins { id: self.catalog.begin(entry), why });
        };
        let known = |entry: &TargetEntry| entry.images.iter().any(|other| Arc::ptr_eq(&other.image, &mapped.image));
        if self.catalog.target(id).is_some_and(|entry| known(entry)) {
            return None;
        }
        self.catalog.change(id, |entry| {
            entry.images.push(mapped);
            entry.missing.extend(missing);
        });
        Some(Change::Begins { id, why: Beginning::Loaded })
    }
}

/// Where a process has a file's image.
fn place(facts: &ImageFacts, resident: &Resident, file: FileId) -> Option<(Bias, String)> {
    let code = || resident.code.iter().filter(|code| code.file == file);
    let bias = code_bias(&facts.segments, code().map(|code| (code.start, code.length, code.offset)))?;
    Some((bias, code().next()?.path.to_string()))
}

impl Beginning {
    /// The word used on output.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Execed => "exec",
            Self::Forked => "fork",
            Self::Loaded => "loaded",
        }
    }
}

impl Ending {
    /// The word used on output.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exit",
            Self::Execed => "exec",
            Self::Released => "released",
        }
    }
}

#[cfg(test)]
mod tests;
