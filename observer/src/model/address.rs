//! Kinds of addresses. They are types, because mixing them up plants a breakpoint into the middle of an instruction.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Address as the linker gave it (`p_vaddr` terms), the same in every process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct VirtAddr(pub u64);

/// Address in one process's memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ProcAddr(pub u64);

/// Offset in the image's file: what a uprobe is attached by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct FileOffset(pub u64);

/// `ProcAddr = VirtAddr + Bias` for one image in one process; 0 for a non-PIE executable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bias(pub u64);

impl Bias {
    /// Where the process has this link-time address. Wraps, as the loader's own arithmetic does.
    pub fn to_process(self, at: VirtAddr) -> ProcAddr {
        ProcAddr(at.0.wrapping_add(self.0))
    }

    /// The link-time address of a place in the process.
    pub fn to_virtual(self, at: ProcAddr) -> VirtAddr {
        VirtAddr(at.0.wrapping_sub(self.0))
    }
}

macro_rules! hex {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{:x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(0x{:x})"), self.0)
            }
        }
    )*};
}
hex!(VirtAddr, ProcAddr, FileOffset, Bias);
