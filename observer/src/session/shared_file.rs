//! The file that an image's debug information shares with that of other programs: found by what it says of that file, checked by its build
//! id, and read. Which files were not used, and that it is missing, is said.
//!
//! Does not know: what is in it.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use crate::model::{FilePlace, Missed};
use crate::symbols::AltLink;
use crate::target::Module;

use super::debug_files::{DebugFile, INSTALLED, by_id, by_view, named};

/// Where distributions install them.
const FOLDER: &str = ".dwz";

/// What is shared, and where it was looked for in vain.
#[derive(Default)]
pub(super) struct SharedFile {
    pub(super) content: Option<Vec<u8>>,
    pub(super) missed: Vec<Missed>,
}

impl SharedFile {
    /// Looks for it. `from` is where the file is that says so.
    pub(super) fn find(
        link: &AltLink,
        from: &FilePlace,
        (folders, module): (&[PathBuf], &Module),
        left: &mut u64,
        say: &dyn Fn(u8, &str),
    ) -> Self {
        let (root, mut missed, mut met) = (module.root(), Vec::new(), HashSet::new());
        for place in places(link, from, folders) {
            let file = DebugFile::at(place.clone(), &root);
            missed.push(Missed { place, was: file.as_ref().map(|file| file.state) });
            // The process sees most folders as we do.
            let Some(file) = file.filter(|file| met.insert(file.state)) else { continue };
            let path = file.path.display();
            match own(&file, link, left) {
                Ok(bytes) => {
                    say(2, &format!("shared debug information from {path}"));
                    return Self { content: Some(bytes), missed: Vec::new() };
                }
                Err(why) => say(1, &format!("{path} is not used: {why}")),
            }
        }
        say(1, &lacking(&module.path, link));
        Self { content: None, missed }
    }
}

/// What the file holds, if it is what is shared; else why it is not used, in words.
fn own(file: &DebugFile, link: &AltLink, left: &mut u64) -> Result<Vec<u8>, String> {
    // A link names any file that its author likes: no other than the one that is meant is read.
    file.may_be_shared(link).map_err(|why| why.to_string())?;
    let bytes = file.read(left)?;
    link.check(&bytes).map_err(|why| why.to_string())?;
    Ok(bytes)
}

/// Where it may be, the likeliest first: folders that were named, where the link leads to, where it is installed.
fn places(link: &AltLink, from: &FilePlace, folders: &[PathBuf]) -> Vec<FilePlace> {
    let told = Path::new(&link.path);
    let by_id = by_id(&link.id);
    let mut found = Vec::new();
    for folder in folders {
        found.extend(told.file_name().map(|name| named(folder, name)));
        found.extend(by_id.as_ref().map(|by_id| named(folder, by_id)));
    }
    if told.is_absolute() {
        // What a process says of files is said of those that it sees: of ours it opens none but what was installed for all.
        let is_ours = !from.by_process || is_installed(told);
        found.extend(by_view(told.to_owned()).into_iter().filter(|place| place.by_process || is_ours));
    } else {
        let folder = from.path.parent().unwrap_or(Path::new("/"));
        found.push(FilePlace { path: folder.join(told), by_process: from.by_process });
    }
    found.extend(by_id.into_iter().flat_map(|by_id| by_view(Path::new(INSTALLED).join(by_id))));
    let installed = told.file_name().map(|name| Path::new(INSTALLED).join(FOLDER).join(name));
    found.extend(installed.into_iter().flat_map(by_view));
    found
}

/// Whether a path leads to where debug information is installed, and not out of there.
fn is_installed(path: &Path) -> bool {
    path.starts_with(INSTALLED) && !path.components().any(|part| part == Component::ParentDir)
}

/// What is missing, and what to do.
fn lacking(image: &str, link: &AltLink) -> String {
    format!(
        "{image} shares debug information with other programs (dwz), in a file that is not there ({}): install what belongs to its debug \
         information, or say where it is with --debug-dir; what is only there is not told",
        link.path
    )
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::model::{BuildId, Pid};
    use crate::symbols::own;
    use crate::target::Process;

    fn looked(path: &str, by_process: bool) -> Vec<String> {
        let link = AltLink { path: path.into(), id: vec![0xab, 1] };
        let from = FilePlace { path: "/srv/d/app.debug".into(), by_process };
        let places = places(&link, &from, &["/mine".into()]);
        places.iter().map(|place| place.from(Path::new("/proc/7/root")).display().to_string()).collect()
    }

    #[test]
    fn it_is_looked_for_in_named_folders_where_the_link_leads_from_who_says_it_and_where_it_is_installed() {
        let installed = [
            "/proc/7/root/usr/lib/debug/.build-id/ab/01.debug",
            "/usr/lib/debug/.build-id/ab/01.debug",
            "/proc/7/root/usr/lib/debug/.dwz/all",
            "/usr/lib/debug/.dwz/all",
        ];
        let mine = ["/mine/all", "/mine/.build-id/ab/01.debug"];
        assert_eq!(looked("../.dwz/all", false), [&mine[..], &["/srv/d/../.dwz/all"], &installed].concat());
        assert_eq!(looked("x/all", true), [&mine[..], &["/proc/7/root/srv/d/x/all"], &installed].concat());
        assert_eq!(looked("/x/all", false), [&mine[..], &["/proc/7/root/x/all", "/x/all"], &installed].concat());
    }

    #[test]
    fn a_path_that_a_process_tells_leads_to_none_of_our_files_but_installed_ones() {
        let ours = |told| -> Vec<String> {
            looked(told, true).into_iter().filter(|path| !path.starts_with("/proc/7/root/")).collect()
        };
        let common = |name| -> Vec<String> {
            let mine = [format!("/mine/{name}"), "/mine/.build-id/ab/01.debug".to_owned()];
            let installed = ["/usr/lib/debug/.build-id/ab/01.debug".to_owned(), format!("/usr/lib/debug/.dwz/{name}")];
            [mine, installed].concat()
        };
        let told = ours("/etc/shadow");
        assert_eq!(told, common("shadow"));
        let told = ours("/usr/lib/debug/../../../etc/shadow");
        assert_eq!(told, common("shadow"));
        let told = ours("/usr/lib/debug/x/all");
        assert!(told.contains(&"/usr/lib/debug/x/all".to_owned()), "{told:?}");
    }

    #[test]
    fn of_a_file_that_is_not_the_one_that_is_meant_nothing_is_read() {
        let BuildId::Gnu(id) = own::image().build_id() else { panic!("tests are linked with a build id") };
        let path = std::env::current_exe().expect("tests run from a file");
        let file = DebugFile::at(FilePlace { path, by_process: false }, Path::new("/")).expect("it is there");
        let size = own::bytes().len() as u64;
        let mut left = size;
        let other = AltLink { path: "a".into(), id: vec![1; id.len()] };
        assert!(super::own(&file, &other, &mut left).is_err_and(|why| why.contains("by its build id")));
        assert_eq!(left, size);
        let meant = AltLink { path: "a".into(), id: id.to_vec() };
        assert_eq!(super::own(&file, &meant, &mut left).map(|bytes| bytes.len() as u64), Ok(size));
        assert_eq!(left, 0);
    }

    #[test]
    fn a_file_that_is_met_again_by_another_path_is_refused_once() {
        let path = std::env::current_exe().expect("tests run from a file");
        let process = Process::open(Pid(std::process::id())).expect("this process");
        let module = process.modules().expect("its files").into_iter().find(|module| module.is_exe).expect("its own");
        let link = AltLink { path: path.display().to_string(), id: vec![1; 20] };
        let from = FilePlace { path: path.clone(), by_process: true };
        let (mut left, said) = (u64::MAX, RefCell::new(Vec::new()));
        let folders = [path.parent().expect("a folder").to_owned()];
        let say = |_, text: &str| said.borrow_mut().push(text.to_owned());
        let found = SharedFile::find(&link, &from, (&folders, &module), &mut left, &say);
        assert_eq!((found.content, left), (None, u64::MAX));
        let refused = |said: &&String| said.contains("is not used");
        assert_eq!(said.borrow().iter().filter(refused).count(), 1, "{said:?}");
        let there = found.missed.iter().filter(|missed| missed.was.is_some()).count();
        assert!(there >= 2, "both paths lead there: {:?}", found.missed);
    }
}
