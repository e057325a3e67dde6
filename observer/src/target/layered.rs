//! Files that are one behind several names of devices: an overlay file system shows a layer's file under its own device, once in
//! each container.
//!
//! Does not know: probes. The kernel puts them into the layer's file, so that two overlays of it have them in common.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use super::syscall;

/// What tells the file behind an overlay: the overlay shows the layer's inode number, size and times (Linux 4.17 and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layered {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds of the last change of the inode: a copy has another.
    changed: (i64, i64),
    overlaid: bool,
}

impl Layered {
    /// Of an open file.
    pub fn of(file: &File) -> io::Result<Self> {
        let about = file.metadata()?;
        Ok(Self {
            device: about.dev(),
            inode: about.ino(),
            bytes: about.len(),
            changed: (about.ctime(), about.ctime_nsec()),
            overlaid: syscall::is_on_overlay(file)?,
        })
    }

    /// Whether both are one file of one layer. Files of ordinary file systems are told apart by their devices.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let same = (self.inode, self.bytes, self.changed) == (other.inode, other.bytes, other.changed);
        same && (self.device == other.device || self.overlaid || other.overlaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Layered = Layered { device: 1, inode: 10, bytes: 100, changed: (5, 6), overlaid: false };

    #[test]
    fn a_file_is_the_same_behind_two_overlays_and_on_its_own_device() {
        let [one, other] = [2, 3].map(|device| Layered { device, overlaid: true, ..FILE });
        assert!(FILE.is_same_as(&FILE) && FILE.is_same_as(&one) && one.is_same_as(&FILE) && one.is_same_as(&other));
    }

    #[test]
    fn the_same_number_on_another_device_is_another_file_and_so_is_a_copy() {
        assert!(!FILE.is_same_as(&Layered { device: 2, ..FILE }));
        let overlaid = Layered { device: 2, overlaid: true, ..FILE };
        for other in [Layered { changed: (5, 7), ..overlaid }, Layered { inode: 11, ..overlaid }] {
            assert!(!FILE.is_same_as(&other), "{other:?}");
        }
    }

    #[test]
    fn an_open_file_is_the_same_as_itself() {
        let own = || Layered::of(&File::open("/proc/self/exe").unwrap()).unwrap();
        assert!(own().is_same_as(&own()));
    }
}
