//! Debug information that lies apart from its image: where packages and builds put it, found by build id and debuglink.
//!
//! Does not know: what is in it, and so which of several files is the image's own.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::model::{BuildId, FileState};
use crate::symbols::DebugLink;
use crate::target::Module;

/// Where distributions install it.
const INSTALLED: &str = "/usr/lib/debug";
/// A larger file is not read.
pub(super) const LARGEST: u64 = 4 << 30;
/// So many files are looked into, until one is the image's.
const MOST: usize = 64;

/// Whether future types are named, and where debug information is looked for besides the usual places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// They are not.
    Unwanted,
    /// With these folders first.
    Wanted(Vec<PathBuf>),
}

impl Names {
    /// Whether types are named.
    pub(super) fn are_wanted(&self) -> bool {
        matches!(self, Self::Wanted(_))
    }
}

/// A file that debug information may be in.
#[derive(Debug)]
pub(super) struct DebugFile {
    pub(super) path: PathBuf,
    pub(super) state: FileState,
}

impl DebugFile {
    /// The files that may be the image's, by its build id and its debuglink, the likeliest first; none where none is wanted. Which of
    /// them is its own tells their content.
    pub(super) fn all(names: &Names, module: &Module, id: Option<&BuildId>, link: Option<&DebugLink>) -> Vec<Self> {
        let Names::Wanted(folders) = names else { return Vec::new() };
        let id = match id {
            Some(BuildId::Gnu(id)) => Some(&id[..]),
            Some(BuildId::Content(_)) | None => None,
        };
        let linked = link.map(|link| link.name.as_str());
        Self::there(candidates(folders, Path::new(&module.path), &module.root(), id, linked), module)
    }

    /// The files that may have the entries of all split units of the image, if it has any, by its name and those of its debug files.
    pub(super) fn packages(names: &Names, module: &Module, debug: &[Self]) -> Vec<Self> {
        let Names::Wanted(folders) = names else { return Vec::new() };
        let beside = debug.iter().flat_map(|file| {
            let mut longer = file.path.clone().into_os_string();
            longer.push(".dwp");
            [longer.into(), file.path.with_extension("dwp")]
        });
        let named = packages(folders, Path::new(&module.path), &module.root());
        Self::there(named.into_iter().chain(beside).collect(), module)
    }

    /// Those that are there, each once: the process sees most folders as we do.
    fn there(paths: Vec<PathBuf>, module: &Module) -> Vec<Self> {
        let mut met = HashSet::new();
        let there = paths.into_iter().filter_map(|path| {
            let metadata = std::fs::metadata(&path).ok().filter(Metadata::is_file)?;
            // Where a link has the image's own name it may lead to the image.
            let is_itself = File::open(&path).is_ok_and(|file| module.is(&file));
            let is_new = !is_itself && met.insert((metadata.dev(), metadata.ino()));
            is_new.then(|| Self { path, state: state(&metadata) })
        });
        there.take(MOST).collect()
    }

    /// Its content; an error in words.
    pub(super) fn read(&self) -> Result<Vec<u8>, String> {
        read(&self.path, LARGEST)
    }
}

/// The content of a file of no more than `most` bytes; an error in words.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    // What was a file may be a pipe by now, which would be waited for.
    let file =
        File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(|error| error.to_string())?;
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    if size > most {
        return Err(format!("it is larger than what is still read ({} MiB)", most >> 20));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(most).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// A file as it was last changed.
pub(super) fn state(file: &Metadata) -> FileState {
    let changed = (file.ctime(), file.ctime_nsec());
    FileState { device: file.dev(), inode: file.ino(), size: file.size(), changed }
}

/// A path from another root folder.
pub(super) fn within(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Where a package of all split units may be, the likeliest first.
fn packages(folders: &[PathBuf], image: &Path, root: &Path) -> Vec<PathBuf> {
    let Some(own) = image.file_name() else { return Vec::new() };
    let name = PathBuf::from(format!("{}.dwp", own.to_string_lossy()));
    let folder = image.parent().unwrap_or(Path::new("/"));
    let mut found: Vec<PathBuf> = folders.iter().map(|dir| dir.join(&name)).collect();
    for root in [root, Path::new("/")] {
        found.push(within(root, &folder.join(&name)));
        found.push(within(root, &folder.join(".debug").join(&name)));
        found.push(within(root, &within(Path::new(INSTALLED), &folder.join(&name))));
    }
    found
}

/// Where it may be, the likeliest first: folders that were named; then, in the process's own view of files and in ours, where it is
/// installed, and beside the image. By its id; and by the name that the image tells, or else by the image's own. Without an id
/// only the former can be verified.
fn candidates(folders: &[PathBuf], image: &Path, root: &Path, id: Option<&[u8]>, linked: Option<&str>) -> Vec<PathBuf> {
    let Some(own) = image.file_name() else { return Vec::new() };
    let by_id = id.and_then(|id| id.split_first()).map(|(first, rest)| {
        let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
        PathBuf::from(format!(".build-id/{first:02x}/{rest}.debug"))
    });
    let mut names: Vec<PathBuf> = linked.map(PathBuf::from).into_iter().collect();
    let own = PathBuf::from(format!("{}.debug", own.to_string_lossy()));
    if by_id.is_some() && !names.contains(&own) {
        names.push(own);
    }
    let folder = image.parent().unwrap_or(Path::new("/"));
    let roots = [root, Path::new("/")];
    // By its id first: a file that merely has the name may be an older build's.
    let mut found: Vec<PathBuf> =
        by_id.iter().flat_map(|by_id| folders.iter().map(move |dir| dir.join(by_id))).collect();
    if let Some(by_id) = &by_id {
        found.extend(roots.iter().map(|root| within(root, &Path::new(INSTALLED).join(by_id))));
    }
    found.extend(folders.iter().flat_map(|dir| names.iter().map(|name| dir.join(name))));
    for root in roots {
        for name in &names {
            // Beside it: what lies under its own name there is itself.
            found.extend((folder.join(name) != image).then(|| within(root, &folder.join(name))));
            found.push(within(root, &folder.join(".debug").join(name)));
            found.push(within(root, &within(Path::new(INSTALLED), &folder.join(name))));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(id: Option<&[u8]>, linked: Option<&str>) -> Vec<String> {
        let paths = candidates(&["/mine".into()], Path::new("/srv/app"), Path::new("/proc/7/root"), id, linked);
        paths.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn without_an_id_it_is_looked_for_by_the_name_that_the_image_tells_and_by_no_other() {
        let expected = [
            "/mine/app",
            "/proc/7/root/srv/.debug/app",
            "/proc/7/root/usr/lib/debug/srv/app",
            "/srv/.debug/app",
            "/usr/lib/debug/srv/app",
        ];
        assert_eq!(looked(None, Some("app")), expected);
        assert!(looked(None, None).is_empty());
        let both = looked(Some(&[0xab, 1]), Some("app.dbg"));
        assert_eq!(both[3..5], ["/mine/app.dbg", "/mine/app.debug"]);
    }

    #[test]
    fn a_package_of_split_units_is_looked_for_by_the_image_s_name() {
        let paths = packages(&["/mine".into()], Path::new("/srv/app"), Path::new("/proc/7/root"));
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let expected = [
            "/mine/app.dwp",
            "/proc/7/root/srv/app.dwp",
            "/proc/7/root/srv/.debug/app.dwp",
            "/proc/7/root/usr/lib/debug/srv/app.dwp",
            "/srv/app.dwp",
            "/srv/.debug/app.dwp",
            "/usr/lib/debug/srv/app.dwp",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn it_is_looked_for_by_build_id_and_by_name_as_the_process_sees_files_and_as_we_do() {
        let paths = looked(Some(&[0xab, 0x01, 0xff]), None);
        let expected = [
            "/mine/.build-id/ab/01ff.debug",
            "/proc/7/root/usr/lib/debug/.build-id/ab/01ff.debug",
            "/usr/lib/debug/.build-id/ab/01ff.debug",
            "/mine/app.debug",
            "/proc/7/root/srv/app.debug",
            "/proc/7/root/srv/.debug/app.debug",
            "/proc/7/root/usr/lib/debug/srv/app.debug",
            "/srv/app.debug",
            "/srv/.debug/app.debug",
            "/usr/lib/debug/srv/app.debug",
        ];
        assert_eq!(paths, expected);
    }
}
