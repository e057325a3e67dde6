//! Split debug information in files of its own: found by what the image tells of its units, checked by their ids, and read.
//! Which files were not used, and which are missing, is said.
//!
//! Does not know: what is in them.

use std::collections::{BTreeSet, HashSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::model::{FileState, Missed};
use crate::symbols::{SplitFile, SplitUnit};
use crate::target::Module;

use super::debug_files::{DebugFile, LARGEST, Names, read, state, within};

/// The names of files that units are in. An image names any path that it likes: nothing else is opened for it.
const KINDS: [&str; 2] = ["dwo", "o"];
/// A smaller one is none: an ELF file begins with so many bytes.
const SMALLEST: u64 = 64;
/// Why a package alone does not help.
const WITHOUT_SKELETONS: &str = "the program has no skeletons of split units, which tell where their code is: `strip` takes them out \
                                 (`objcopy --only-keep-debug` keeps them in a file of their own)";
/// So many files that are not used are told one by one.
const MOST_TOLD: usize = 4;
/// So many folders and files without what was looked for are remembered.
const MOST_MISSED: usize = 1024;
/// What was changed more recently than this may change again without the kernel's clock showing it.
const SETTLED: Duration = Duration::from_secs(2);

/// The files with entries of an image's units, and where others were looked for.
#[derive(Default)]
pub(super) struct SplitFiles {
    contents: Vec<Vec<u8>>,
    missed: BTreeSet<Missed>,
}

impl SplitFiles {
    /// Looks for all of these units: in packages first, one of which has most often all.
    pub(super) fn find(
        mut units: Vec<SplitUnit>,
        packages: Vec<DebugFile>,
        (names, module): (&Names, &Module),
        say: &dyn Fn(u8, &str),
    ) -> Self {
        let mut found = Self::default();
        let all = units.len();
        if all == 0 {
            for package in packages {
                say(1, &format!("{} is not used: {WITHOUT_SKELETONS}", package.path.display()));
            }
            return found;
        }
        let mut left = LARGEST;
        for package in packages {
            if units.is_empty() {
                break;
            }
            let wanted = units.len();
            let path = package.path.display();
            let taken = read(&package.path, left).and_then(|bytes| found.take(bytes, &mut units));
            // All that is read counts, of use or not.
            left = left.saturating_sub(package.state.size);
            match taken {
                Ok(()) => say(2, &format!("split debug information of {} from {path}", counted(wanted - units.len()))),
                Err(why) => say(1, &format!("{path} is not used: {why}")),
            }
        }
        let Names::Wanted(folders) = names else { return found };
        let (image, root) = (Path::new(&module.path), module.root());
        let (mut refused, single) = (Vec::new(), units.len());
        let mut missing = Vec::new();
        while let Some(unit) = units.pop() {
            let places = places(&unit, folders, image);
            let mut own = vec![unit];
            let mut met = HashSet::new();
            let is_had =
                places.iter().any(|place| found.look(place, &root, &mut own, (&mut left, &mut met), &mut refused));
            if !is_had {
                places.iter().for_each(|place| found.miss(place.folder(), &root));
                missing.append(&mut own);
            }
        }
        for (path, why) in refused.iter().take(MOST_TOLD) {
            say(1, &format!("{} is not used: {why}", path.display()));
        }
        if let Some(more) = refused.len().checked_sub(MOST_TOLD).filter(|more| *more > 0) {
            say(1, &format!("{more} more files of split debug information are not used, for such reasons"));
        }
        if let Some(had) = single.checked_sub(missing.len()).filter(|had| *had > 0) {
            let had = counted(had);
            say(2, &format!("split debug information of {had} of {} from files of their own", module.path));
        }
        if let Some(first) = missing.last() {
            say(1, &lacking(&module.path, missing.len(), all, first));
        }
        found
    }

    /// What the files hold.
    pub(super) fn contents(&self) -> impl Iterator<Item = &[u8]> {
        self.contents.iter().map(|bytes| &bytes[..])
    }

    /// Where more was looked for; `None` if that is too much to be remembered, or may change without a trace.
    pub(super) fn missed(&self) -> Option<Vec<Missed>> {
        let since = |state: FileState| {
            let changed = Duration::new(u64::try_from(state.changed.0).ok()?, u32::try_from(state.changed.1).ok()?);
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.checked_sub(changed)
        };
        let settled = |missed: &Missed| missed.was.is_none_or(|was| since(was).is_some_and(|age| age > SETTLED));
        let remembered = self.missed.len() <= MOST_MISSED && self.missed.iter().all(settled);
        remembered.then(|| self.missed.iter().cloned().collect())
    }

    /// Keeps a file that has the entries of some of these units, which are wanted no more; else why not.
    fn take(&mut self, bytes: Vec<u8>, units: &mut Vec<SplitUnit>) -> Result<(), String> {
        let wanted = units.len();
        let file = SplitFile::parse(&bytes).map_err(|why| why.to_string())?;
        units.retain(|unit| !file.has(unit.id));
        if units.len() == wanted {
            let whose = units.first().map_or_else(String::new, |unit| format!("{:016x}", unit.id));
            let more = if wanted > 1 { format!(" nor any of {} others", wanted - 1) } else { String::new() };
            return Err(format!("it is of another build: it does not have the unit {whose}{more}"));
        }
        drop(file);
        self.contents.push(bytes);
        Ok(())
    }

    /// Whether a unit is at a place.
    fn look(
        &mut self,
        place: &Place,
        root: &Path,
        unit: &mut Vec<SplitUnit>,
        (left, met): (&mut u64, &mut HashSet<FileState>),
        refused: &mut Vec<(PathBuf, String)>,
    ) -> bool {
        let path = place.from(root);
        let metadata = std::fs::metadata(&path).ok().filter(Metadata::is_file);
        let Some(state) = metadata.map(|metadata| state(&metadata)).filter(|file| file.size >= SMALLEST) else {
            return false;
        };
        // The process sees most folders as we do.
        if !met.insert(state) {
            return false;
        }
        let taken = read(&path, *left).and_then(|bytes| self.take(bytes, unit));
        *left = left.saturating_sub(state.size);
        match taken {
            Ok(()) => true,
            Err(why) => {
                self.miss(place.clone(), root);
                refused.push((path, why));
                false
            }
        }
    }

    /// Something that would be more was not there.
    fn miss(&mut self, place: Place, root: &Path) {
        let was = std::fs::metadata(place.from(root)).ok().map(|metadata| state(&metadata));
        if self.missed.len() <= MOST_MISSED {
            self.missed.insert(Missed { path: place.path, by_process: place.by_process, was });
        }
    }
}

/// Whether nothing has changed where split debug information was missed, and it was looked for in all of these folders.
pub(super) fn is_still_missed(missed: &[Missed], names: &Names, module: &Module) -> bool {
    let root = module.root();
    let same = |missed: &Missed| {
        let place = Place { path: missed.path.clone(), by_process: missed.by_process };
        std::fs::metadata(place.from(&root)).ok().map(|metadata| state(&metadata)) == missed.was
    };
    let looked = |folder: &PathBuf| missed.iter().any(|missed| !missed.by_process && missed.path == *folder);
    let Names::Wanted(folders) = names else { return true };
    missed.is_empty() || missed.iter().all(same) && folders.iter().all(looked)
}

/// A path as the process sees it, or as we do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    by_process: bool,
}

impl Place {
    fn folder(&self) -> Self {
        Self { path: self.path.parent().unwrap_or(Path::new("/")).to_owned(), ..*self }
    }

    fn from(&self, root: &Path) -> PathBuf {
        if self.by_process { within(root, &self.path) } else { self.path.clone() }
    }
}

/// Where a unit's entries may be, the likeliest first: folders that were named; where the compiler wrote them; beside the image.
fn places(unit: &SplitUnit, folders: &[PathBuf], image: &Path) -> Vec<Place> {
    let told = Path::new(&unit.file);
    let kind = told.extension().and_then(|kind| kind.to_str());
    let (Some(name), Some(_)) = (told.file_name(), kind.filter(|kind| KINDS.contains(kind))) else { return Vec::new() };
    let named = folders.iter().map(|folder| Place { path: folder.join(name), by_process: false });
    let written = Path::new(unit.folder.as_deref().unwrap_or_default()).join(told);
    let beside = image.parent().unwrap_or(Path::new("/")).join(name);
    let by_view = |path: PathBuf| {
        let ours = Place { path: path.clone(), by_process: false };
        [Place { path, by_process: true }, ours]
    };
    let told = Some(written).filter(|path| path.is_absolute()).map(by_view);
    named.chain(told.into_iter().flatten()).chain(by_view(beside)).collect()
}

fn counted(units: usize) -> String {
    if units == 1 { "1 unit".to_owned() } else { format!("{units} units") }
}

/// What is missing, where it was looked for, and what to do.
fn lacking(image: &str, missing: usize, all: usize, first: &SplitUnit) -> String {
    let name = Path::new(image).file_name().unwrap_or_default().to_string_lossy();
    format!(
        "{image} has the debug information of {missing} of its {} in files that are not there (one is {}): keep them, or \
         {name}.dwp (`split-debuginfo = \"packed\"`), beside it, or say where they are with --debug-dir",
        counted(all),
        first.file
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(folder: Option<&str>, file: &str) -> Vec<String> {
        let unit = SplitUnit { id: 1, folder: folder.map(str::to_owned), file: file.to_owned() };
        let places = places(&unit, &["/mine".into()], Path::new("/srv/app"));
        places.iter().map(|place| place.from(Path::new("/proc/7/root")).display().to_string()).collect()
    }

    #[test]
    fn a_unit_is_looked_for_in_named_folders_where_it_was_written_and_beside_the_image() {
        let expected = ["/mine/a.dwo", "/proc/7/root/w/t/a.dwo", "/w/t/a.dwo", "/proc/7/root/srv/a.dwo", "/srv/a.dwo"];
        assert_eq!(looked(Some("/w"), "t/a.dwo"), expected);
        assert_eq!(looked(Some("/elsewhere"), "/w/t/a.dwo"), expected);
        assert_eq!(looked(None, "t/a.dwo"), ["/mine/a.dwo", "/proc/7/root/srv/a.dwo", "/srv/a.dwo"]);
    }

    #[test]
    fn a_path_that_no_compiler_writes_to_is_not_opened() {
        for file in ["/dev/zero", "/proc/kmsg", "..", "", "/a.dwo/.."] {
            let looked = looked(Some("/w"), file);
            assert!(looked.iter().all(|path| path.ends_with(".dwo")), "{file}: {looked:?}");
        }
    }
}
