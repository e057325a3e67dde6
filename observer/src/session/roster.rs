//! Which processes there are and which files they run code of, as news and listings tell, in order of time.
//!
//! Pure. Does not know what is in the files, nor which of the processes are observed.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Enclosure, FileId, FileOffset, Pid, ProcAddr};

/// All processes that run code of a file that matters.
#[derive(Debug, Default)]
pub(super) struct Roster {
    processes: HashMap<Pid, Resident>,
    programs: u64,
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resident {
    /// Its executable: the first file that it ran code of.
    pub(super) exe: Arc<str>,
    pub(super) enclosure: Enclosure,
    pub(super) arrival: Arrival,
    pub(super) code: Vec<Code>,
    /// Tells one program of a number from the next; given by the roster.
    pub(super) program: u64,
}

/// How a process came to run what it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was there when the machine was looked at.
    #[default]
    Found,
    /// It is a child that runs its parent's program.
    Forked,
    /// It began a program.
    Execed,
}

/// Code of one file, as one process has it mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) file: FileId,
    /// As mapped.
    pub(super) path: Arc<str>,
    pub(super) start: ProcAddr,
    pub(super) length: u64,
    pub(super) offset: FileOffset,
}

impl Roster {
    /// A process was there with this code when the machine was looked at.
    pub(super) fn found(&mut self, pid: Pid, resident: Resident) {
        self.programs += 1;
        self.processes.insert(pid, Resident { program: self.programs, ..resident });
    }

    /// A process has a child, which runs what it runs.
    pub(super) fn forked(&mut self, parent: Pid, child: Pid) {
        match self.processes.get(&parent).cloned() {
            Some(parent) => self.found(child, Resident { arrival: Arrival::Forked, ..parent }),
            None => self.ended(child),
        }
    }

    /// A process begins another program: nothing of the old one is mapped any more.
    pub(super) fn execed(&mut self, pid: Pid) {
        self.found(pid, Resident { arrival: Arrival::Execed, ..Resident::default() });
    }

    /// A process maps code.
    pub(super) fn mapped(&mut self, pid: Pid, code: Code) {
        let resident = self.processes.entry(pid).or_default();
        if resident.exe.is_empty() {
            resident.exe = Arc::clone(&code.path);
        }
        // What is mapped over a place takes it.
        resident.code.retain(|other| other.start != code.start);
        resident.code.push(code);
    }

    /// What encloses a process, once it was read.
    pub(super) fn enclosed(&mut self, pid: Pid, enclosure: &Enclosure) {
        if let Some(resident) = self.processes.get_mut(&pid) {
            resident.enclosure.clone_from(enclosure);
        }
    }

    /// A process has ended.
    pub(super) fn ended(&mut self, pid: Pid) {
        self.processes.remove(&pid);
    }

    /// A file holds nothing that matters: nobody needs to be known to map it.
    pub(super) fn forget_file(&mut self, file: FileId) {
        for resident in self.processes.values_mut() {
            resident.code.retain(|code| code.file != file);
        }
    }

    pub(super) fn of(&self, pid: Pid) -> Option<&Resident> {
        self.processes.get(&pid)
    }

    /// All of them, each with its program.
    pub(super) fn programs(&self) -> impl Iterator<Item = (Pid, u64)> + '_ {
        self.processes.iter().map(|(pid, resident)| (*pid, resident.program))
    }

    /// Who runs code of this file.
    pub(super) fn running(&self, file: FileId) -> Vec<Pid> {
        let runs = |resident: &Resident| resident.code.iter().any(|code| code.file == file);
        let mut pids: Vec<Pid> =
            self.processes.iter().filter(|(_, resident)| runs(resident)).map(|(pid, _)| *pid).collect();
        pids.sort_unstable();
        pids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: FileId = FileId { major: 1, minor: 2, inode: 10 };
    const LIBRARY: FileId = FileId { major: 1, minor: 2, inode: 11 };

    fn code(file: FileId, path: &str, start: u64) -> Code {
        Code { file, path: path.into(), start: ProcAddr(start), length: 0x1000, offset: FileOffset(0) }
    }

    fn roster() -> Roster {
        let mut roster = Roster::default();
        roster.execed(Pid(7));
        roster.mapped(Pid(7), code(APP, "/app", 0x1000));
        roster.mapped(Pid(7), code(LIBRARY, "/lib.so", 0x9000));
        roster
    }

    #[test]
    fn the_first_file_that_a_program_runs_code_of_is_its_executable() {
        let roster = roster();
        let resident = roster.of(Pid(7)).unwrap();
        assert_eq!((&*resident.exe, resident.arrival, resident.code.len()), ("/app", Arrival::Execed, 2));
    }

    #[test]
    fn a_child_runs_its_parents_program_until_it_begins_its_own() {
        let mut roster = roster();
        roster.forked(Pid(7), Pid(8));
        assert_eq!(roster.running(APP), [Pid(7), Pid(8)]);
        assert_eq!(roster.of(Pid(8)).unwrap().arrival, Arrival::Forked);
        roster.execed(Pid(8));
        roster.mapped(Pid(8), code(LIBRARY, "/lib.so", 0x5000));
        assert_eq!((roster.running(APP), roster.running(LIBRARY)), (vec![Pid(7)], vec![Pid(7), Pid(8)]));
    }

    #[test]
    fn a_number_that_is_used_again_has_nothing_of_who_had_it_before() {
        let mut roster = roster();
        roster.forked(Pid(1), Pid(7));
        assert!(roster.of(Pid(7)).is_none(), "its parent is not known to run anything");
    }

    #[test]
    fn what_is_mapped_over_a_place_takes_it() {
        let mut roster = roster();
        roster.mapped(Pid(7), code(LIBRARY, "/lib.so", 0x1000));
        assert_eq!(roster.running(APP), [Pid(0); 0]);
    }

    #[test]
    fn a_file_that_does_not_matter_is_forgotten_and_a_process_that_ended_too() {
        let mut roster = roster();
        roster.forget_file(LIBRARY);
        assert_eq!(roster.of(Pid(7)).unwrap().code.len(), 1);
        roster.ended(Pid(7));
        assert!(roster.of(Pid(7)).is_none());
    }
}
