//! Programs that do nothing: what a hit costs before anything is done in it. For measuring only.

use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};

/// Does nothing at an entry or any other instruction.
#[uprobe]
pub fn nothing(_: ProbeContext) -> u32 {
    0
}

/// Does nothing at a return.
#[uretprobe]
pub fn nothing_at_return(_: RetProbeContext) -> u32 {
    0
}
