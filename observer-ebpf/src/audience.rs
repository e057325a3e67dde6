//! Whether a hit is one of a process that is to be reported.
//!
//! Does not know why a process is, or is not: user space has said so.

use aya_ebpf::Global;
use observer_common::{Audience, Counter, Standing};

use crate::maps::{self, PROCESSES};

/// An [`Audience`]. Constant once the programs are loaded: where nobody is to be asked the verifier cuts the question out.
#[unsafe(no_mangle)]
static AUDIENCE: Global<u8> = Global::new(Audience::Linked as u8);

/// Whether hits of this process, as the helper packs it, are reported. Counts those that are not.
#[inline(always)]
pub fn admits(pid_tgid: u64) -> bool {
    let audience = AUDIENCE.load();
    if audience == Audience::Linked as u8 {
        return true;
    }
    let tgid = (pid_tgid >> 32) as u32;
    // SAFETY: the value is copied at once; programs only read it.
    let standing = unsafe { PROCESSES.get(tgid) }.copied();
    let admitted = match standing {
        Some(standing) => standing == Standing::Listed as u32,
        None => audience == Audience::NotExcluded as u8,
    };
    if !admitted {
        maps::count(Counter::Foreign);
    }
    admitted
}
