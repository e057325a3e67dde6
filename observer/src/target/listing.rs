//! All processes of the machine and the files they run code of, fast.
//!
//! Does not know: what is in the files. Nothing is taken hold of: what is listed may have ended, or run another program,
//! a moment later; [`super::Process`] is opened for those that matter.

use std::fs::{self, File};
use std::io::{self, Read};

use super::error::TargetError;
use super::maps::{Backing, Mapping, MapsError, parse_line};
use crate::model::Pid;

/// Text of one process's maps that is read at most.
const MAX_TEXT: u64 = 256 << 20;

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub pid: Pid,
    /// Files that it has mapped as code, by address.
    pub code: Vec<Mapping>,
}

/// All processes.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that have memory and may be looked at.
    pub processes: Vec<Listed>,
    /// How many have no memory: kernel threads, zombies, and those that ended while we looked.
    pub without_memory: usize,
    /// Those that could not be looked at, and why; [`TargetError::NotPermitted`] names what would permit it.
    pub failed: Vec<(Pid, TargetError)>,
}

impl Listing {
    /// How many may not be looked at.
    pub fn not_permitted(&self) -> usize {
        self.failed.iter().filter(|(_, error)| matches!(error, TargetError::NotPermitted { .. })).count()
    }
}

/// Looks at every process once, ourselves included. Fails only where `/proc` itself cannot be read.
pub fn list_processes() -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut text = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid) else { continue };
        match code_of(pid, &mut text) {
            Ok(Some(code)) => listing.processes.push(Listed { pid, code }),
            Ok(None) | Err(TargetError::Vanished { .. }) => listing.without_memory += 1,
            Err(error) => listing.failed.push((pid, error)),
        }
    }
    Ok(listing)
}

/// Looks at one process; `None` where it is not there, or has no memory.
pub fn listed(pid: Pid) -> Result<Option<Listed>, TargetError> {
    match code_of(pid, &mut Vec::new()) {
        Ok(code) => Ok(code.map(|code| Listed { pid, code })),
        Err(TargetError::Vanished { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `None` where nothing is mapped at all. `text` is only room that is used again.
fn code_of(pid: Pid, text: &mut Vec<u8>) -> Result<Option<Vec<Mapping>>, TargetError> {
    text.clear();
    let failed = |source| TargetError::of_file(pid, format!("/proc/{pid}/maps"), source);
    // An open file stays with the memory of the process that had it then, whoever gets the number.
    let file = File::open(format!("/proc/{pid}/maps")).map_err(failed)?;
    file.take(MAX_TEXT).read_to_end(text).map_err(failed)?;
    if text.is_empty() {
        return Ok(None);
    }
    let code = code_mappings(&String::from_utf8_lossy(text));
    code.map(Some).map_err(|error| TargetError::Malformed { pid, what: "maps", reason: error.to_string() })
}

/// Files mapped as code in the text of `/proc/PID/maps`; other lines are passed over unread.
fn code_mappings(text: &str) -> Result<Vec<Mapping>, MapsError> {
    let is_code = |line: &str| line.split_once(' ').is_some_and(|(_, rest)| rest.as_bytes().get(2) == Some(&b'x'));
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| is_code(line)) {
        let mapping = parse_line(line).map_err(|field| MapsError { line: index + 1, field })?;
        if mapping.file.is_some() && matches!(mapping.backing, Backing::File { .. }) {
            found.push(mapping);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::target::sleeper::Sleeper;
    use crate::target::stat::Stat;
    use crate::target::{Process, parse_maps};

    #[test]
    fn mappings_of_code_are_listed_and_nothing_else() {
        let text = "\
1000-2000 r--p 00000000 fe:00 7 /srv/app
2000-3000 r-xp 00001000 fe:00 7 /srv/app
3000-4000 rwxp 00002000 fe:00 7 /srv/app
4000-5000 rwxp 00000000 00:00 0
5000-6000 r--p 00000000 fe:00 8 /srv/data xyz
6000-7000 r-xp 00000000 fe:01 9 /lib/a b.so (deleted)
7000-8000 r-xp 00000000 00:00 0 [vdso]
8000-9000 r-xp 00000000 fe:00 7 /of/another/layer
";
        let found = code_mappings(text).unwrap();
        let found: Vec<_> = found.iter().map(|mapping| (mapping.range.start.0, mapping.file.unwrap().inode)).collect();
        assert_eq!(found, [(0x2000, 7), (0x3000, 7), (0x6000, 9), (0x8000, 7)]);
    }

    #[test]
    fn a_bad_line_of_code_is_named() {
        let text = "1000-2000 r--p 0 fe:00 7 /a\n1000-2000 r-xp 0 fe 7 /a\n";
        assert_eq!(code_mappings(text), Err(MapsError { line: 2, field: "device" }));
    }

    #[test]
    fn all_processes_that_run_are_listed_with_the_code_that_their_modules_are() {
        let child = Sleeper::start();
        let begin = Instant::now();
        let listing = list_processes().unwrap();
        eprintln!("{} processes in {:?}", listing.processes.len(), begin.elapsed());
        for pid in [child.pid(), Pid(std::process::id())] {
            let listed = listing.processes.iter().find(|listed| listed.pid == pid).unwrap();
            let modules = Process::open(pid).unwrap().modules().unwrap();
            let truth: BTreeSet<_> = modules.into_iter().map(|module| Some(module.file)).collect();
            let found: BTreeSet<_> = listed.code.iter().map(|code| code.file).collect();
            assert_eq!(found, truth);
        }
        // A kernel thread is no failure, whoever looks; what may not be looked at says what would permit it.
        for (pid, _) in &listing.failed {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|text| Stat::parse(&text));
            assert!(stat.is_none_or(|stat| !stat.kernel_thread), "{:?}", listing.failed);
        }
        assert_eq!(listing.not_permitted(), listing.failed.len());
    }

    #[test]
    fn a_zombie_is_counted_as_one_without_memory() {
        let mut child = Sleeper::start();
        child.kill();
        let begin = Instant::now();
        while code_of(child.pid(), &mut Vec::new()).is_ok_and(|code| code.is_some()) {
            assert!(begin.elapsed().as_secs() < 60, "the child does not end");
            std::thread::yield_now();
        }
        let listing = list_processes().unwrap();
        assert!(listing.processes.iter().all(|listed| listed.pid != child.pid()));
        assert!(listing.failed.iter().all(|(pid, _)| *pid != child.pid()));
        assert!(listing.without_memory > 0);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*", near in "[-0-9a-f:rwxps /\\[\\]()\n]{0,200}") {
            let _ = (code_mappings(&text), code_mappings(&near));
        }

        #[test]
        fn what_is_listed_is_what_all_the_mappings_say(
            lines in proptest::collection::vec((1u64..1 << 30, 0u8..3, any::<bool>()), 0..20)
        ) {
            let text: String = lines.iter().map(|(at, inode, code)| {
                let at = at << 12;
                let execute = if *code { 'x' } else { '-' };
                format!("{at:x}-{:x} r-{execute}p 0 fe:00 {inode} /f{inode}\n", at + 4096)
            }).collect();
            let mut truth = parse_maps(&text).unwrap();
            truth.retain(|mapping| mapping.permissions.execute && mapping.file.is_some());
            prop_assert_eq!(code_mappings(&text).unwrap(), truth);
        }
    }
}
