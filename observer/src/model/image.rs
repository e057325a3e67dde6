//! Identity of an image (an ELF) and of a future type in it.

use std::fmt;

use super::VirtAddr;

/// What tells one image from another: the linker's build id, or a hash of the content where there is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BuildId {
    /// `NT_GNU_BUILD_ID`, as many bytes as the linker wrote.
    Gnu(Vec<u8>),
    /// No build id in the image: 64-bit FNV-1a of the file's bytes.
    Content(u64),
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gnu(bytes) => bytes.iter().try_for_each(|b| write!(f, "{b:02x}")),
            Self::Content(hash) => write!(f, "content-{hash:016x}"),
        }
    }
}

/// A future type's identity: the image and its task vtable in it. Types without a name stay apart by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId {
    /// The image that holds the vtable.
    pub build_id: BuildId,
    /// The vtable's link-time address.
    pub vtable: VirtAddr,
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.build_id, self.vtable)
    }
}
