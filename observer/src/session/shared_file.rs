//! The file that an image's debug information shares with that of other programs: found by what it says of that file, checked by its build
//! id, and read. Which files were not used, and that it is missing, is said.
//!
//! Does not know: what is in it.

use std::path::{Path, PathBuf};

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
        let (root, mut missed) = (module.root(), Vec::new());
        for place in places(link, from, folders) {
            let file = DebugFile::at(place.clone(), &root);
            missed.push(Missed { place, was: file.as_ref().map(|file| file.state) });
            let Some(file) = file else { continue };
            let path = file.path.display();
            let own = file.read(left).and_then(|bytes| {
                link.check(&bytes).map_err(|why| why.to_string())?;
                Ok(bytes)
            });
            match own {
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
        found.extend(by_view(told.to_owned()));
    } else {
        let folder = from.path.parent().unwrap_or(Path::new("/"));
        found.push(FilePlace { path: folder.join(told), by_process: from.by_process });
    }
    found.extend(by_id.into_iter().flat_map(|by_id| by_view(Path::new(INSTALLED).join(by_id))));
    let installed = told.file_name().map(|name| Path::new(INSTALLED).join(FOLDER).join(name));
    found.extend(installed.into_iter().flat_map(by_view));
    found
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
    use super::*;

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
        assert_eq!(looked("/x/all", true), [&mine[..], &["/proc/7/root/x/all", "/x/all"], &installed].concat());
    }
}
