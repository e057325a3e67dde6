//! What a mapping is of: a range of a process's addresses, and a file.

use super::ProcAddr;

/// Addresses from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    /// First address.
    pub start: ProcAddr,
    /// First address behind.
    pub end: ProcAddr,
}

impl AddressRange {
    /// Bytes in it.
    pub fn len(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the address lies in it.
    pub fn contains(&self, at: ProcAddr) -> bool {
        self.start <= at && at < self.end
    }
}

/// Which file, as the kernel's mapping names it.
///
/// Not what stat(2) says on every file system (overlayfs, btrfs), and on an overlay whose layers are on several file
/// systems not one file's alone: two files of different layers with the same inode number have the same name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Major number of the device.
    pub major: u32,
    /// Minor number of the device.
    pub minor: u32,
    /// Inode number on it.
    pub inode: u64,
}
