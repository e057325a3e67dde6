//! The files that a process has mapped as code: where they are loaded and how the very file is opened again.
//!
//! Does not know: what is in the files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;

use super::error::TargetError;
use super::maps::{Backing, Mapping};
use super::same_file::is_mapped_as;
use super::syscall::page_size;
use crate::model::{Bias, Capability, FileId, FileOffset, LoadSegment, Pid, ProcAddr};

/// A file larger than this is not read.
const MAX_FILE: u64 = 2 << 30;
/// `AT_ENTRY` of `getauxval(3)`: the executable's own entry point, also when an interpreter runs first.
const AT_ENTRY: u64 = 9;

/// One mapped file.
#[derive(Clone, Debug)]
pub struct Module {
    pid: Pid,
    /// Path in the process's own mount namespace, without a mark of deletion.
    pub path: String,
    /// The name is gone or another file's now; the file itself can still be opened.
    pub deleted: bool,
    /// It is the process's executable.
    pub is_exe: bool,
    /// Which file.
    pub file: FileId,
    /// Its mappings, in order of address; at least one is executable.
    pub mappings: Vec<Mapping>,
}

impl Module {
    /// The file's content.
    pub fn read(&self) -> Result<Vec<u8>, TargetError> {
        self.read_file(&self.file()?)
    }

    /// The content of the module's file as it was opened, from its beginning.
    pub fn read_file(&self, mut file: &File) -> Result<Vec<u8>, TargetError> {
        let failed = |source| TargetError::Io { pid: self.pid, what: self.path.clone(), source };
        let bytes = file.metadata().map_err(failed)?.len();
        let too_large = |bytes| TargetError::ModuleTooLarge { path: self.path.clone(), bytes, limit: MAX_FILE };
        if bytes > MAX_FILE {
            return Err(too_large(bytes));
        }
        let mut content = Vec::with_capacity(bytes as usize);
        file.rewind().map_err(failed)?;
        // It may grow while it is read.
        file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(failed)?;
        match content.len() as u64 {
            len if len > MAX_FILE => Err(too_large(len)),
            _ => Ok(content),
        }
    }

    /// Whether this is its file.
    pub fn is(&self, file: &File) -> bool {
        // What cannot be compared is taken for another: it is looked at closer then.
        is_mapped_as(file, self.file).unwrap_or(false)
    }

    /// The root folder as the process sees it.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid))
    }

    /// Where the image is loaded: the difference that most of its load segments agree on. `None` where no executable
    /// segment of this image is mapped as code.
    pub fn bias(&self, segments: &[LoadSegment]) -> Option<Bias> {
        let placed = |mapping: &Mapping| Placed {
            start: mapping.range.start,
            length: mapping.range.len(),
            offset: mapping.offset,
            execute: mapping.permissions.execute,
        };
        bias_of(segments, self.mappings.iter().map(placed))
    }

    /// The very file that is mapped (not another that has its name now), by the first way that is open, surest first.
    pub fn file(&self) -> Result<File, TargetError> {
        let pid = self.pid;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        let mut unreadable = false;
        for (path, same_by_itself) in self.ways() {
            match File::open(&path) {
                Ok(file) if same_by_itself => return Ok(file),
                Ok(file) => match is_mapped_as(&file, self.file) {
                    Ok(true) => return Ok(file),
                    Ok(false) => last = io::Error::other("another file has this name now"),
                    Err(error) => last = error,
                },
                Err(error) => {
                    unreadable |= !same_by_itself && error.raw_os_error() == Some(libc::EACCES);
                    last = error;
                }
            }
        }
        let path = self.path.clone();
        // Of one that has ended, and is not yet reaped, there is no executable any more.
        let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
        let ended = exe.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        Err(match (ended, unreadable) {
            (true, _) => TargetError::Vanished { pid },
            (_, true) => {
                TargetError::NotPermitted { pid, what: path, capability: Capability::DacReadSearch, source: last }
            }
            _ => TargetError::ModuleGone { pid, path, capability: Capability::CheckpointRestore, source: last },
        })
    }

    /// Paths to try, each with whether the kernel itself vouches that it is the mapped file.
    fn ways(&self) -> Vec<(PathBuf, bool)> {
        let pid = self.pid;
        let code = self.mappings.iter().find(|mapping| mapping.permissions.execute);
        let by_range = code.map(|mapping| {
            let (start, end) = (mapping.range.start.0, mapping.range.end.0);
            (PathBuf::from(format!("/proc/{pid}/map_files/{start:x}-{end:x}")), true)
        });
        // `exe` can be redirected (PR_SET_MM_EXE_FILE), so it is checked like any other path.
        let by_exe = self.is_exe.then(|| (PathBuf::from(format!("/proc/{pid}/exe")), false));
        let by_name = (PathBuf::from(format!("/proc/{pid}/root{}", self.path)), false);
        by_range.into_iter().chain(by_exe).chain([by_name]).collect()
    }
}

/// As [`Module::bias`], where only the mappings of code are known: where each begins, its length, and its place in the file.
pub fn code_bias(
    segments: &[LoadSegment],
    code: impl IntoIterator<Item = (ProcAddr, u64, FileOffset)>,
) -> Option<Bias> {
    let placed = |(start, length, offset)| Placed { start, length, offset, execute: true };
    bias_of(segments, code.into_iter().map(placed))
}

/// What of a mapping tells where an image is loaded.
struct Placed {
    start: ProcAddr,
    length: u64,
    offset: FileOffset,
    execute: bool,
}

fn bias_of(segments: &[LoadSegment], mappings: impl Iterator<Item = Placed>) -> Option<Bias> {
    let page = page_size();
    let mut votes: BTreeMap<u64, (usize, u64)> = BTreeMap::new();
    for mapping in mappings {
        for segment in segments {
            let first = segment.offset.0 & !(page - 1);
            let begin = mapping.offset.0;
            if segment.executable != mapping.execute || first < begin || first - begin >= mapping.length {
                continue;
            }
            let loaded = mapping.start.0.wrapping_add(first - begin);
            let bias = loaded.wrapping_sub(segment.address.0 & !(page - 1));
            let (code, lowest) = votes.entry(bias).or_insert((0, mapping.start.0));
            // A vote of code outweighs any number of others: neighbouring data segments often share a page of the file.
            *code += if segment.executable { segments.len() + 1 } else { 1 };
            *lowest = (*lowest).min(mapping.start.0);
        }
    }
    let best = votes.into_iter().filter(|(_, (votes, _))| *votes > segments.len());
    // Mapped twice with equal evidence: the lowest, so that the answer is the same every time.
    best.max_by_key(|(_, (votes, lowest))| (*votes, std::cmp::Reverse(*lowest))).map(|(bias, _)| Bias(bias))
}

/// The executable's entry point from the auxiliary vector's bytes; `None` where it is not there.
pub(super) fn entry_address(auxv: &[u8]) -> Option<ProcAddr> {
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).ok();
    auxv.chunks_exact(16).find_map(|pair| (word(&pair[..8])? == AT_ENTRY).then(|| word(&pair[8..]).map(ProcAddr))?)
}

/// Mappings of files with an executable one among them, grouped by file, in order of first address.
pub(super) fn group(pid: Pid, exe: &str, entry: Option<ProcAddr>, maps: &[Mapping]) -> Vec<Module> {
    let exe = exe.strip_suffix(" (deleted)").unwrap_or(exe);
    let mut modules: Vec<Module> = Vec::new();
    for mapping in maps {
        let (Some(file), Backing::File { path, deleted }) = (mapping.file, &mapping.backing) else { continue };
        match modules.iter_mut().find(|module| module.file == file) {
            Some(module) => module.mappings.push(mapping.clone()),
            None => {
                let (path, deleted) = (path.clone(), *deleted);
                modules.push(Module { pid, path, deleted, is_exe: false, file, mappings: vec![mapping.clone()] });
            }
        }
    }
    modules.retain(|module| module.mappings.iter().any(|mapping| mapping.permissions.execute));
    for module in &mut modules {
        module.is_exe = match entry {
            Some(entry) => module.mappings.iter().any(|mapping| mapping.range.contains(entry)),
            None => module.path == exe,
        };
    }
    modules
}

/// Files of which nothing is mapped as code, with executable memory of no file among their mappings; each with where its beginning is.
/// Each mapping is looked at once: a process may have tens of thousands. They come in order of address.
pub(super) fn moved(maps: &[Mapping]) -> Vec<(String, ProcAddr)> {
    let is_nobodys = |mapping: &&Mapping| mapping.permissions.execute && matches!(mapping.backing, Backing::Anonymous);
    let nobodys: Vec<&Mapping> = maps.iter().filter(is_nobodys).collect();
    if nobodys.is_empty() {
        return Vec::new();
    }
    let mut files: BTreeMap<FileId, Spread<'_>> = BTreeMap::new();
    for mapping in maps {
        let Some(file) = mapping.file else { continue };
        let spread = files.entry(file).or_insert(Spread { beginning: None, end: mapping.range.end, executes: false });
        spread.end = mapping.range.end;
        spread.executes |= mapping.permissions.execute;
        if mapping.offset.0 == 0 && spread.beginning.is_none() {
            spread.beginning = Some(mapping);
        }
    }
    let told = |spread: Spread<'_>| {
        let beginning = spread.beginning.filter(|_| !spread.executes)?;
        // The first behind its beginning is the first to end.
        let first = nobodys.partition_point(|code| code.range.start < beginning.range.end);
        let is_among = nobodys.get(first).is_some_and(|code| code.range.end <= spread.end);
        match &beginning.backing {
            Backing::File { path, .. } if is_among => Some((path.clone(), beginning.range.start)),
            _ => None,
        }
    };
    files.into_values().filter_map(told).collect()
}

/// How a file's mappings lie.
struct Spread<'m> {
    /// The first of its beginning.
    beginning: Option<&'m Mapping>,
    end: ProcAddr,
    executes: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::VirtAddr;
    use crate::target::sleeper::Sleeper;
    use crate::target::{Process, parse_maps};

    const SEGMENTS: &str = "\
555555554000-555555556000 r--p 00000000 fe:00 7 /srv/app
555555556000-55555555b000 r-xp 00001000 fe:00 7 /srv/app
55555555b000-55555555c000 rw-p 00005000 fe:00 7 /srv/app
7ffff7000000-7ffff7001000 r--p 00000000 fe:00 8 /srv/data.bin
7ffff7dc0000-7ffff7de0000 r-xp 00026000 fe:00 9 /lib/libc.so.6 (deleted)
";

    fn modules(entry: Option<u64>) -> Vec<Module> {
        group(Pid(1), "/srv/app", entry.map(ProcAddr), &parse_maps(SEGMENTS).unwrap())
    }

    fn load(offset: u64, address: u64, executable: bool) -> LoadSegment {
        LoadSegment { offset: FileOffset(offset), address: VirtAddr(address), executable }
    }

    #[test]
    fn only_files_with_code_are_modules() {
        let modules = modules(None);
        let found: Vec<_> = modules.iter().map(|m| (&*m.path, m.deleted, m.is_exe, m.mappings.len())).collect();
        assert_eq!(found, [("/srv/app", false, true, 3), ("/lib/libc.so.6", true, false, 1)]);
    }

    #[test]
    fn a_file_is_moved_whose_code_is_memory_without_one() {
        let kept = SEGMENTS.replace(
            "555555556000-55555555b000 r-xp 00001000 fe:00 7 /srv/app",
            "555555556000-55555555b000 r-xp 0 00:00 0",
        );
        let moved = moved(&parse_maps(&kept).unwrap());
        assert_eq!(moved, [("/srv/app".to_owned(), ProcAddr(0x5555_5555_4000))]);
        assert!(super::moved(&parse_maps(SEGMENTS).unwrap()).is_empty(), "as it is loaded");
        let data = kept.replace("55555555b000-55555555c000 rw-p 00005000 fe:00 7 /srv/app\n", "");
        assert!(super::moved(&parse_maps(&data).unwrap()).is_empty(), "memory behind a file is not its own");
    }

    #[test]
    fn the_entry_address_decides_which_is_the_executable() {
        let exe: Vec<bool> = modules(Some(0x7fff_f7dc_1234)).iter().map(|m| m.is_exe).collect();
        assert_eq!(exe, [false, true]);
    }

    #[test]
    fn bias_is_found_where_address_and_offset_differ() {
        // As lld lays images out: every segment's address runs a page further ahead of its offset.
        let app = &modules(None)[0];
        let segments = [load(0, 0, false), load(0x1a20, 0x2a20, true), load(0x5e00, 0x8e00, false)];
        assert_eq!(app.bias(&segments), Some(Bias(0x5555_5555_4000)));
    }

    #[test]
    fn bias_of_an_image_with_fixed_addresses_is_zero() {
        let text = "400000-401000 r--p 00000000 fe:00 7 /a\n401000-409000 r-xp 00001000 fe:00 7 /a\n";
        let module = &group(Pid(1), "/a", None, &parse_maps(text).unwrap())[0];
        assert_eq!(module.bias(&[load(0, 0x40_0000, false), load(0x1000, 0x40_1000, true)]), Some(Bias(0)));
    }

    #[test]
    fn bias_survives_a_mapping_that_was_split_or_began_earlier() {
        let text = "10000-12000 r-xp 00000000 fe:00 7 /a\n12000-13000 rwxp 00002000 fe:00 7 /a\n";
        let module = &group(Pid(1), "/a", None, &parse_maps(text).unwrap())[0];
        assert_eq!(module.bias(&[load(0x1040, 0x1040, true)]), Some(Bias(0x10000)));
    }

    #[test]
    fn there_is_no_bias_without_mapped_code_of_the_image() {
        let app = &modules(None)[0];
        assert_eq!(app.bias(&[]), None);
        assert_eq!(app.bias(&[load(0, 0, false)]), None);
        assert_eq!(app.bias(&[load(0x90_0000, 0, true)]), None);
    }

    #[test]
    fn every_module_of_ours_opens_reads_and_is_an_elf() {
        let us = Process::open(Pid(std::process::id())).unwrap();
        let modules = us.modules().unwrap();
        assert_eq!(modules.iter().filter(|module| module.is_exe).count(), 1);
        for module in modules {
            let content = module.read().unwrap();
            assert_eq!(&content[..4], b"\x7fELF", "{}", module.path);
        }
    }

    #[test]
    fn an_executable_that_was_replaced_on_disk_is_read_as_it_runs() {
        let folder = std::env::temp_dir().join(format!("async-observer-module-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join("sleeper");
        std::fs::copy("/bin/sleep", &program).unwrap();
        let truth = std::fs::read(&program).unwrap();
        let mut child = Sleeper::start_as(&program);
        std::fs::remove_file(&program).unwrap();
        std::fs::write(&program, "something else").unwrap();
        let process = child.process();
        let exe = process.modules().unwrap().into_iter().find(|module| module.is_exe).unwrap();
        let read = exe.read();
        child.end();
        let after = exe.read();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(exe.deleted && exe.path == program.to_str().unwrap(), "{exe:?}");
        assert!(read.unwrap() == truth);
        assert!(matches!(after, Err(TargetError::Vanished { .. })), "{after:?}");
    }

    #[test]
    fn a_file_that_took_the_name_of_a_mapped_one_is_not_mistaken_for_it() {
        let us = Process::open(Pid(std::process::id())).unwrap();
        let mut module = us.modules().unwrap().into_iter().find(|module| !module.is_exe).unwrap();
        module.file.inode += 1;
        module.mappings[0].permissions.execute = true;
        // No such range: the kernel's own way is closed, as it is without the capability.
        module.mappings[0].range.end.0 += 1;
        module.mappings.truncate(1);
        assert!(matches!(module.file(), Err(TargetError::ModuleGone { .. })));
    }

    proptest! {
        #[test]
        fn no_auxiliary_vector_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = entry_address(&bytes);
        }

        #[test]
        fn no_segments_panic(raw in proptest::collection::vec(any::<(u64, u64, bool)>(), 0..8)) {
            let segments: Vec<_> = raw.into_iter().map(|(offset, address, code)| load(offset, address, code)).collect();
            for module in modules(None) {
                let _ = module.bias(&segments);
            }
        }
    }
}
