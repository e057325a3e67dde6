//! The running test binary as an image: its file, and its memory as the truth to compare with.
//!
//! Does not know: what the tests look for.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::Image;
use crate::model::{Bias, ProcAddr, VirtAddr};

/// The file's bytes.
pub(crate) fn bytes() -> Vec<u8> {
    std::fs::read(std::env::current_exe().expect("tests run from a file")).expect("which can be read")
}

/// A function whose place is known without the image's help.
#[inline(never)]
pub(crate) fn landmark() -> u32 {
    std::hint::black_box(0x5eed)
}

/// Where the landmark runs.
pub(crate) fn landmark_here() -> ProcAddr {
    ProcAddr(landmark as fn() -> u32 as usize as u64)
}

/// Where the symbol table says that it is.
pub(crate) fn landmark_in(image: &Image<'_>) -> VirtAddr {
    let symbol = image.symbols().find(|s| s.name.contains("symbols3own8landmark") && s.is_function);
    symbol.expect("the landmark has a symbol").at
}

/// Where this process has the image.
pub(crate) fn bias(image: &Image<'_>) -> Bias {
    Bias(landmark_here().0.wrapping_sub(landmark_in(image).0))
}

/// This process's memory.
pub(crate) fn memory(at: ProcAddr, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let memory = File::open("/proc/self/mem").expect("own memory");
    memory.read_exact_at(&mut bytes, at.0).expect("which is mapped");
    bytes
}

/// One word of it.
pub(crate) fn word(at: ProcAddr) -> u64 {
    memory(at, 8).try_into().map(u64::from_le_bytes).expect("eight bytes")
}
