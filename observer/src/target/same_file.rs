//! Whether an open file is the one that a process has mapped.
//!
//! stat(2) and `/proc/PID/maps` name a file by the same numbers on most file systems, but not on all: overlayfs with
//! layers on several file systems, and btrfs, give stat another device. Where they differ the file is mapped here too:
//! how the kernel names our own mapping can be compared with how it names the other. Does not know: whose file it is.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use super::maps::parse_maps;
use super::syscall::MappedPage;
use crate::model::FileId;

/// Whether a mapping of this open file would be named `id`.
pub(super) fn is_mapped_as(file: &File, id: FileId) -> io::Result<bool> {
    let found = file.metadata()?;
    if !found.is_file() {
        return Ok(false);
    }
    let device = found.dev();
    let named = FileId { major: libc::major(device), minor: libc::minor(device), inode: found.ino() };
    Ok(named == id || (found.len() > 0 && name_of_mapping(file)? == Some(id)))
}

/// What the kernel names a mapping of this file.
fn name_of_mapping(file: &File) -> io::Result<Option<FileId>> {
    let page = MappedPage::of(file)?;
    let text = fs::read("/proc/self/maps")?;
    let maps = parse_maps(&String::from_utf8_lossy(&text)).map_err(io::Error::other)?;
    Ok(maps.into_iter().find(|mapping| mapping.range.contains(page.at())).and_then(|mapping| mapping.file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_of_a_file_is_named_as_others_name_it() {
        let exe = File::open("/proc/self/exe").unwrap();
        let maps = parse_maps(&fs::read_to_string("/proc/self/maps").unwrap()).unwrap();
        let code = crate::model::ProcAddr(a_mapping_of_a_file_is_named_as_others_name_it as *const () as u64);
        let truth = maps.into_iter().find(|mapping| mapping.range.contains(code)).unwrap().file.unwrap();
        assert_eq!(name_of_mapping(&exe).unwrap(), Some(truth));
        assert!(is_mapped_as(&exe, truth).unwrap());
        assert!(!is_mapped_as(&exe, FileId { inode: truth.inode + 1, ..truth }).unwrap());
        assert!(!is_mapped_as(&exe, FileId { minor: truth.minor + 1, ..truth }).unwrap());
    }

    #[test]
    fn what_cannot_be_mapped_is_not_the_file() {
        let id = FileId { major: 0, minor: 0, inode: 1 };
        assert!(!is_mapped_as(&File::open("/").unwrap(), id).unwrap());
        assert!(!is_mapped_as(&File::open("/dev/null").unwrap(), id).unwrap());
    }
}
