//! Identity of an image (an ELF) and of a future type in it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::VirtAddr;

/// What tells one image from another: the linker's build id, or a hash of the content where there is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// 64-bit FNV-1a: tells contents apart, and any two that differ in one byte. No defence against who wants two to be alike.
pub fn content_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::content_hash;

    #[test]
    fn the_content_hash_is_fnv1a_as_published() {
        assert_eq!(content_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(content_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(content_hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
