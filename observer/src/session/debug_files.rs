//! Debug information that lies apart from its image: where packages and builds put it, found by build id and debuglink.
//!
//! Does not know: what is in it, and so which of several files is the image's own.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::model::{BuildId, FilePlace, FileState};
use crate::symbols::{AltLink, DebugLink, Glance, Image, NotItsFile, NotShared};
use crate::target::{Module, open_regular};

use super::disk::read_at;

/// Where distributions install it.
pub(super) const INSTALLED: &str = "/usr/lib/debug";
/// So many bytes are read of all files of one image together.
pub(super) const MOST_READ: u64 = 4 << 30;
/// A smaller file is none: an ELF file begins with so many bytes.
const SMALLEST: u64 = 64;
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

/// A file that debug information may be in, open: what is read is what was looked at.
#[derive(Debug)]
pub(super) struct DebugFile {
    pub(super) path: PathBuf,
    pub(super) state: FileState,
    pub(super) place: FilePlace,
    file: File,
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
        Self::there(candidates(folders, Path::new(&module.path), id, linked), module)
    }

    /// The files that may have the entries of all split units of the image, if it has any, by its name and those of its debug files.
    pub(super) fn packages(names: &Names, module: &Module, debug: &[Self]) -> Vec<Self> {
        let Names::Wanted(folders) = names else { return Vec::new() };
        let beside = debug.iter().flat_map(|file| {
            let FilePlace { path, by_process } = file.place.clone();
            let mut longer = path.clone().into_os_string();
            longer.push(".dwp");
            [longer.into(), path.with_extension("dwp")].map(|path| FilePlace { path, by_process })
        });
        let named = packages(folders, Path::new(&module.path));
        Self::there(named.into_iter().chain(beside).collect(), module)
    }

    /// Those that are there, each once: the process sees most folders as we do.
    fn there(places: Vec<FilePlace>, module: &Module) -> Vec<Self> {
        let mut met = HashSet::new();
        let there = places.into_iter().filter_map(|place| {
            let Self { path, state, place, file } = Self::at(place, &module.root())?;
            // Where a link has the image's own name it may lead to the image.
            let is_new = !module.is(&file) && met.insert((state.device, state.inode));
            is_new.then_some(Self { path, state, place, file })
        });
        there.take(MOST).collect()
    }

    /// The file at a place, if there is one that may be such a file.
    pub(super) fn at(place: FilePlace, root: &Path) -> Option<Self> {
        let file = open_regular(&place.path, place.by_process.then_some(root)).ok()?;
        let state = FileState::of(&file.metadata().ok()?);
        (state.size >= SMALLEST).then(|| Self { path: place.from(root), state, place, file })
    }

    /// Why it cannot be the image's, by its headers; nothing if it can, or its whole content must tell.
    pub(super) fn is_another(&self, image: &Image<'_>) -> Option<NotItsFile> {
        match Glance::of(|range| read_at(&self.file, range)) {
            Ok(glance) => image.check_debug_id(glance?.build_id.as_ref()).err(),
            Err(_) => Some(NotItsFile::Unreadable),
        }
    }

    /// Whether it may be the file that this is of, by its headers and its build id; its whole content must tell, too.
    pub(super) fn may_be_shared(&self, link: &AltLink) -> Result<(), NotShared> {
        link.glance(|range| read_at(&self.file, range))
    }

    /// Its content, which counts among what may still be read; an error in words.
    pub(super) fn read(&self, left: &mut u64) -> Result<Vec<u8>, String> {
        let size = self.file.metadata().map_err(|error| error.to_string())?.len();
        if size > *left {
            return Err(format!("it is larger than what is still read ({} MiB)", *left >> 20));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        let read = (&self.file).take(*left).read_to_end(&mut bytes);
        // All that is read counts, of use or not.
        *left = left.saturating_sub(bytes.len() as u64);
        read.map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

/// Beside a file, as the process sees it and as we do.
pub(super) fn by_view(path: PathBuf) -> [FilePlace; 2] {
    [true, false].map(|by_process| FilePlace { path: path.clone(), by_process })
}

/// A file of a folder that was named.
pub(super) fn named(folder: &Path, name: impl AsRef<Path>) -> FilePlace {
    FilePlace { path: folder.join(name), by_process: false }
}

/// The path of what has this build id, in folders of such.
pub(super) fn by_id(id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first()?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(PathBuf::from(format!(".build-id/{first:02x}/{rest}.debug")))
}

/// Where a file of this name is that belongs to an image: beside it, and where it is installed.
fn around(image: &Path, name: &Path) -> [PathBuf; 3] {
    let folder = image.parent().unwrap_or(Path::new("/"));
    let installed = Path::new(INSTALLED).join(folder.strip_prefix("/").unwrap_or(folder));
    [folder.join(name), folder.join(".debug").join(name), installed.join(name)]
}

/// Where a package of all split units may be, the likeliest first.
fn packages(folders: &[PathBuf], image: &Path) -> Vec<FilePlace> {
    let Some(own) = image.file_name() else { return Vec::new() };
    let name = PathBuf::from(format!("{}.dwp", own.to_string_lossy()));
    let mut found: Vec<FilePlace> = folders.iter().map(|folder| named(folder, &name)).collect();
    for by_process in [true, false] {
        found.extend(around(image, &name).map(|path| FilePlace { path, by_process }));
    }
    found
}

/// Where it may be, the likeliest first: folders that were named; then, in the process's own view of files and in ours, where it is
/// installed, and beside the image. By its id; and by the name that the image tells, or else by the image's own. Without an id
/// only the former can be verified.
fn candidates(folders: &[PathBuf], image: &Path, id: Option<&[u8]>, linked: Option<&str>) -> Vec<FilePlace> {
    let Some(own) = image.file_name() else { return Vec::new() };
    let by_id = id.and_then(by_id);
    let mut names: Vec<PathBuf> = linked.map(PathBuf::from).into_iter().collect();
    let own = PathBuf::from(format!("{}.debug", own.to_string_lossy()));
    if by_id.is_some() && !names.contains(&own) {
        names.push(own);
    }
    // By its id first: a file that merely has the name may be an older build's.
    let mut found = Vec::new();
    if let Some(by_id) = &by_id {
        found.extend(folders.iter().map(|folder| named(folder, by_id)));
        found.extend(by_view(Path::new(INSTALLED).join(by_id)));
    }
    found.extend(folders.iter().flat_map(|folder| names.iter().map(|name| named(folder, name))));
    for by_process in [true, false] {
        for name in &names {
            // What lies beside it under its own name is itself.
            let around = around(image, name).into_iter().filter(|path| path != image);
            found.extend(around.map(|path| FilePlace { path, by_process }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::own;

    fn looked(id: Option<&[u8]>, linked: Option<&str>) -> Vec<String> {
        paths(&candidates(&["/mine".into()], Path::new("/srv/app"), id, linked))
    }

    fn paths(places: &[FilePlace]) -> Vec<String> {
        places.iter().map(|place| place.from(Path::new("/proc/7/root")).display().to_string()).collect()
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
        let paths = paths(&packages(&["/mine".into()], Path::new("/srv/app")));
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

    #[test]
    fn what_headers_tell_is_not_read_and_all_that_is_read_counts_together() {
        let BuildId::Gnu(id) = own::image().build_id() else { panic!("tests are linked with a build id") };
        let mut other = own::bytes().to_vec();
        let at = other.windows(id.len()).position(|bytes| bytes == id).expect("it is in the file");
        other[at] ^= 1;
        let path = std::env::current_exe().expect("tests run from a file");
        let file = DebugFile::at(FilePlace { path, by_process: false }, Path::new("/")).expect("it is there");
        assert_eq!(file.is_another(own::image()), None);
        assert_eq!(file.is_another(&Image::parse(&other).expect("an image")), Some(NotItsFile::OfAnother));
        let size = own::bytes().len() as u64;
        let mut left = size + 1;
        assert_eq!(file.read(&mut left).map(|bytes| bytes.len() as u64), Ok(size));
        assert!(file.read(&mut left).is_err_and(|why| why.contains("larger than what is still read")));
        assert_eq!(left, 1);
    }
}
