//! Split debug information in files of its own: found by what the image tells of its units, checked by their ids, and read.
//! Which files were not used, and which are missing, is said.
//!
//! Does not know: what is in them.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use crate::model::{FilePlace, Missed};
use crate::symbols::{Skeletons, SplitUnit};
use crate::target::Module;

use super::debug_files::{DebugFile, Names, by_view, named};

/// The names of files that units are in. An image names any path that it likes: nothing else is opened for it.
const KINDS: [&str; 2] = ["dwo", "o"];
/// Why a package alone does not help.
const WITHOUT_SKELETONS: &str = "the program has no skeletons of split units, which tell where their code is: `strip` takes them out \
                                 (`objcopy --only-keep-debug` keeps them in a file of their own)";
/// So many files that are not used are told one by one.
const MOST_TOLD: usize = 4;
/// So many places without what was looked for are remembered.
const MOST_MISSED: usize = 1 << 14;

/// The files with entries of an image's units, and where others were looked for.
#[derive(Default)]
pub(super) struct SplitFiles {
    contents: Vec<Vec<u8>>,
    missed: BTreeSet<Missed>,
    /// One of them might change without a trace when it was looked at.
    unsettled: bool,
}

impl SplitFiles {
    /// Looks for all of these units: in packages first, one of which has most often all.
    pub(super) fn find(
        skeletons: &Skeletons<'_>,
        packages: Vec<DebugFile>,
        (folders, module): (&[PathBuf], &Module),
        left: &mut u64,
        say: &dyn Fn(u8, &str),
    ) -> Self {
        let mut found = Self::default();
        let mut wanted: HashSet<u64> = skeletons.units().map(|unit| unit.id).collect();
        let all = wanted.len();
        if skeletons.are_too_many() {
            say(1, &format!("{} has more units in other files than are looked for ({all})", module.path));
        }
        if wanted.is_empty() {
            for package in packages {
                say(1, &format!("{} is not used: {WITHOUT_SKELETONS}", package.path.display()));
            }
            return found;
        }
        for package in packages {
            if wanted.is_empty() {
                break;
            }
            let (before, path) = (wanted.len(), package.path.display());
            match found.take(&package, left, skeletons, &mut wanted) {
                Ok(()) => say(2, &format!("split debug information of {} from {path}", counted(before - wanted.len()))),
                Err(why) => say(1, &format!("{path} is not used: {why}")),
            }
        }
        let (image, root) = (Path::new(&module.path), module.root());
        let single = wanted.len();
        let (mut met, mut refused, mut missing) = (HashSet::new(), Vec::new(), None);
        for unit in skeletons.units() {
            let (mut looked, mut unsettled) = (Vec::new(), false);
            let mut places = places(unit, folders, image).into_iter();
            // A file may have the entries of other units, too: one that was taken for them is not read for each.
            while wanted.contains(&unit.id) {
                let Some(place) = places.next() else {
                    missing.get_or_insert(unit);
                    if found.missed.len() <= MOST_MISSED {
                        found.missed.extend(looked);
                    }
                    found.unsettled |= unsettled;
                    break;
                };
                let file = DebugFile::at(place.clone(), &root);
                let was = file.as_ref().map(|file| file.state);
                unsettled |= was.is_some_and(|was| !was.is_settled());
                looked.push(Missed { place, was });
                // The process sees most folders as we do.
                let Some(file) = file.filter(|file| met.insert(file.state)) else { continue };
                if let Err(why) = found.take(&file, left, skeletons, &mut wanted) {
                    refused.push((file.path, why));
                }
            }
        }
        for (path, why) in refused.iter().take(MOST_TOLD) {
            say(1, &format!("{} is not used: {why}", path.display()));
        }
        if let Some(more) = refused.len().checked_sub(MOST_TOLD).filter(|more| *more > 0) {
            say(1, &format!("{more} more files of split debug information are not used, for such reasons"));
        }
        if let Some(had) = single.checked_sub(wanted.len()).filter(|had| *had > 0) {
            let had = counted(had);
            say(2, &format!("split debug information of {had} of {} from files of their own", module.path));
        }
        if let Some(first) = missing {
            say(1, &lacking(&module.path, wanted.len(), all, first));
        }
        found
    }

    /// What the files hold.
    pub(super) fn contents(&self) -> impl Iterator<Item = &[u8]> {
        self.contents.iter().map(|bytes| &bytes[..])
    }

    /// Where more was looked for; `None` if that is too much to be remembered, or may change without a trace.
    pub(super) fn missed(&self) -> Option<Vec<Missed>> {
        let is_sure = self.missed.len() <= MOST_MISSED && !self.unsettled;
        is_sure.then(|| self.missed.iter().cloned().collect())
    }

    /// Keeps a file that has the entries of some of these units, which are wanted no more; else why not.
    fn take(
        &mut self,
        file: &DebugFile,
        left: &mut u64,
        skeletons: &Skeletons<'_>,
        wanted: &mut HashSet<u64>,
    ) -> Result<(), String> {
        let bytes = file.read(left)?;
        let had = skeletons.had_by(&bytes, wanted).map_err(|why| why.to_string())?;
        wanted.retain(|id| !had.contains(id));
        self.contents.push(bytes);
        Ok(())
    }
}

/// Whether nothing has come where split debug information was missed, and it was looked for in all of these folders.
pub(super) fn is_still_missed(missed: &[Missed], names: &Names, module: &Module) -> bool {
    let root = module.root();
    let same = |missed: &Missed| DebugFile::at(missed.place.clone(), &root).map(|file| file.state) == missed.was;
    let is_in = |place: &FilePlace, folder: &Path| !place.by_process && place.path.parent() == Some(folder);
    let looked = |folder: &PathBuf| missed.iter().any(|missed| is_in(&missed.place, folder));
    let Names::Wanted(folders) = names else { return true };
    missed.is_empty() || missed.iter().all(same) && folders.iter().all(looked)
}

/// Where a unit's entries may be, the likeliest first: folders that were named; where the compiler wrote them; beside the image.
fn places(unit: &SplitUnit, folders: &[PathBuf], image: &Path) -> Vec<FilePlace> {
    let told = Path::new(&unit.file);
    let kind = told.extension().and_then(|kind| kind.to_str());
    let (Some(name), Some(_)) = (told.file_name(), kind.filter(|kind| KINDS.contains(kind))) else { return Vec::new() };
    let written = Path::new(unit.folder.as_deref().unwrap_or_default()).join(told);
    let beside = image.parent().unwrap_or(Path::new("/")).join(name);
    let told = Some(written).filter(|path| path.is_absolute()).map(by_view);
    let named = folders.iter().map(|folder| named(folder, name));
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
