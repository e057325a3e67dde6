//! The running test binary as an image: its file, and its memory as the truth to compare with.
//!
//! Does not know: what the tests look for.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use super::Image;
use crate::model::{Bias, ProcAddr, VirtAddr};

/// The file's bytes.
pub(crate) fn bytes() -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        std::fs::read(std::env::current_exe().expect("tests run from a file")).expect("a readable one")
    });
    &BYTES
}

/// The image in it.
pub(crate) fn image() -> &'static Image<'static> {
    static IMAGE: LazyLock<Image<'static>> =
        LazyLock::new(|| Image::parse(bytes()).expect("the test binary is an image"));
    &IMAGE
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
pub(crate) fn landmark_in_file() -> VirtAddr {
    let symbol = image().symbols().find(|s| s.name.contains("symbols3own8landmark") && s.is_function);
    symbol.expect("the landmark has a symbol").at
}

/// Where this process has the image.
pub(crate) fn bias() -> Bias {
    Bias(landmark_here().0.wrapping_sub(landmark_in_file().0))
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
