//! Debug information that lies apart from its image: where packages and builds put it, found by build id.
//!
//! Does not know: what is in it. A file that is not the image's is passed over, with a word about it.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::model::BuildId;
use crate::target::Module;

/// Where distributions install it.
const INSTALLED: &str = "/usr/lib/debug";
/// A larger file is not read.
const LARGEST: u64 = 4 << 30;

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

/// A file of debug information.
#[derive(Debug)]
pub(super) struct DebugFile {
    pub(super) path: PathBuf,
    pub(super) metadata: Metadata,
}

impl DebugFile {
    /// The file that may be the image's; `None` where there is none, or none is wanted.
    pub(super) fn find(names: &Names, module: &Module, id: Option<&BuildId>) -> Option<Self> {
        let (Names::Wanted(folders), Some(BuildId::Gnu(id))) = (names, id) else { return None };
        candidates(folders, Path::new(&module.path), &module.root(), id).into_iter().find_map(|path| {
            let metadata = std::fs::metadata(&path).ok().filter(Metadata::is_file)?;
            Some(Self { path, metadata })
        })
    }

    /// Its content; an error in words.
    pub(super) fn read(&self) -> Result<Vec<u8>, String> {
        if self.metadata.len() > LARGEST {
            return Err(format!("it is larger than {} GiB", LARGEST >> 30));
        }
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
        read.map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

/// Where it may be, the likeliest first: folders that were named; then, in the process's own view of files and in ours, where it is
/// installed, and beside the image.
fn candidates(folders: &[PathBuf], image: &Path, root: &Path, id: &[u8]) -> Vec<PathBuf> {
    let (Some(first), Some(name)) = (id.first(), image.file_name()) else { return Vec::new() };
    let rest: String = id[1..].iter().map(|byte| format!("{byte:02x}")).collect();
    let by_id = PathBuf::from(format!(".build-id/{first:02x}/{rest}.debug"));
    let named = PathBuf::from(format!("{}.debug", name.to_string_lossy()));
    let within = |root: &Path, path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let folder = image.parent().unwrap_or(Path::new("/"));
    let mut found: Vec<PathBuf> = folders.iter().flat_map(|dir| [dir.join(&by_id), dir.join(&named)]).collect();
    for root in [root, Path::new("/")] {
        found.push(within(root, &Path::new(INSTALLED).join(&by_id)));
        found.push(within(root, &folder.join(&named)));
        found.push(within(root, &folder.join(".debug").join(&named)));
        found.push(within(root, &within(Path::new(INSTALLED), &folder.join(&named))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_for_by_build_id_and_by_name_as_the_process_sees_files_and_as_we_do() {
        let paths =
            candidates(&["/mine".into()], Path::new("/srv/app"), Path::new("/proc/7/root"), &[0xab, 0x01, 0xff]);
        let paths: Vec<&str> = paths.iter().filter_map(|path| path.to_str()).collect();
        let expected = [
            "/mine/.build-id/ab/01ff.debug",
            "/mine/app.debug",
            "/proc/7/root/usr/lib/debug/.build-id/ab/01ff.debug",
            "/proc/7/root/srv/app.debug",
            "/proc/7/root/srv/.debug/app.debug",
            "/proc/7/root/usr/lib/debug/srv/app.debug",
            "/usr/lib/debug/.build-id/ab/01ff.debug",
            "/srv/app.debug",
            "/srv/.debug/app.debug",
            "/usr/lib/debug/srv/app.debug",
        ];
        assert_eq!(paths, expected);
    }
}
