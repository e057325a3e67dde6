//! What is known of the files that processes run, and who waits for it to become known.
//!
//! Does not know: how a file is looked at, nor what is put into it.

use std::collections::HashMap;

use crate::model::{FileId, Pid, ProcAddr};

use super::analyst::Ask;

/// Files of which it is remembered that they hold nothing.
const MOST: usize = 1 << 16;

/// Files, as news or mappings name them.
#[derive(Default)]
pub(super) struct KnownFiles {
    known: HashMap<FileId, Known>,
}

/// What is known of a file.
#[derive(Clone, Debug)]
enum Known {
    /// It is being looked at, because these run it, each with its code there.
    Asked(Vec<(Pid, ProcAddr)>),
    /// There is nothing to observe in it.
    Nothing,
    /// Its probes are in, or were and may come again.
    Facts,
}

/// What is to be done about a process that comes to run a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coming {
    /// There is nothing to observe in it.
    ToNothing,
    /// It joins those whom the file's probes are for.
    ToProbes,
    /// The file is being looked at: it is among those who wait for that.
    Waits,
    /// The same, and it is the first: somebody must be asked to look.
    Asks,
}

impl KnownFiles {
    /// A process comes to run a file.
    pub(super) fn comes(&mut self, Ask { file, pid, at }: Ask) -> Coming {
        match self.known.get_mut(&file) {
            Some(Known::Nothing) => Coming::ToNothing,
            Some(Known::Facts) => Coming::ToProbes,
            Some(Known::Asked(waiting)) => {
                waiting.push((pid, at));
                Coming::Waits
            }
            None => {
                self.known.insert(file, Known::Asked(vec![(pid, at)]));
                Coming::Asks
            }
        }
    }

    /// What holds something to observe has these names. Returns who waited for the one that was asked for, if it was.
    pub(super) fn hold_facts(&mut self, asked: FileId, names: &[FileId]) -> Option<Vec<Pid>> {
        let asked = self.known.remove(&asked);
        self.known.extend(names.iter().map(|name| (*name, Known::Facts)));
        let Some(Known::Asked(waiting)) = asked else { return None };
        Some(waiting.into_iter().map(|(pid, _)| pid).collect())
    }

    /// What holds nothing to observe has these names.
    pub(super) fn hold_nothing(&mut self, names: &[FileId]) {
        if self.known.len() >= MOST {
            // Whoever runs one again is looked at again.
            self.known.retain(|_, known| !matches!(known, Known::Nothing));
        }
        self.known.extend(names.iter().map(|name| (*name, Known::Nothing)));
    }

    /// A file could not be looked at where this process has it, which has ended, as a rule: the next one that came to run it
    /// meanwhile is to be asked for it, or whoever does so later.
    pub(super) fn next_after(&mut self, failed: Ask) -> Option<Ask> {
        let Some(Known::Asked(waiting)) = self.known.get_mut(&failed.file) else { return None };
        waiting.retain(|waits| *waits != (failed.pid, failed.at));
        let next = waiting.first().map(|(pid, at)| Ask { file: failed.file, pid: *pid, at: *at });
        if next.is_none() {
            self.known.remove(&failed.file);
        }
        next
    }

    /// Whether there is nothing to observe in it.
    pub(super) fn holds_nothing(&self, file: FileId) -> bool {
        matches!(self.known.get(&file), Some(Known::Nothing))
    }

    /// Whoever runs it again is looked at again: it may be another file by then.
    pub(super) fn forget(&mut self, file: FileId) {
        self.known.remove(&file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64) -> FileId {
        FileId { major: 8, minor: 1, inode }
    }

    fn ask(pid: u32) -> Ask {
        Ask { file: file(1), pid: Pid(pid), at: ProcAddr(0x1000) }
    }

    #[test]
    fn a_file_is_asked_for_once_and_who_comes_meanwhile_waits() {
        let mut files = KnownFiles::default();
        assert_eq!([7, 8].map(|pid| files.comes(ask(pid))), [Coming::Asks, Coming::Waits]);
        let waited = files.hold_facts(file(1), &[file(1), file(2)]);
        assert_eq!(waited, Some(vec![Pid(7), Pid(8)]));
        let other_name = Ask { file: file(2), ..ask(9) };
        assert_eq!([ask(9), other_name].map(|ask| files.comes(ask)), [Coming::ToProbes; 2]);
        files.hold_nothing(&[file(1)]);
        assert_eq!((files.comes(ask(9)), files.holds_nothing(file(1))), (Coming::ToNothing, true));
    }

    #[test]
    fn where_one_has_ended_the_next_that_waits_is_asked_and_behind_the_last_whoever_comes() {
        let mut files = KnownFiles::default();
        assert_eq!([7, 8].map(|pid| files.comes(ask(pid))), [Coming::Asks, Coming::Waits]);
        assert_eq!(files.next_after(ask(7)), Some(ask(8)));
        assert_eq!(files.next_after(ask(8)), None);
        assert_eq!(files.comes(ask(9)), Coming::Asks);
    }

    #[test]
    fn of_too_many_files_only_those_that_hold_something_are_remembered() {
        let mut files = KnownFiles::default();
        files.hold_facts(file(0), &[file(0)]);
        (1..=MOST as u64).for_each(|inode| files.hold_nothing(&[file(inode)]));
        assert!(!files.holds_nothing(file(1)) && files.holds_nothing(file(MOST as u64)));
        assert_eq!(files.comes(Ask { file: file(0), ..ask(7) }), Coming::ToProbes);
    }
}
