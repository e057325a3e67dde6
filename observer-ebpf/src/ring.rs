//! This CPU's ring, of an array of them.
//!
//! Does not know what is put into it.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_F_CURRENT_CPU;
use aya_ebpf::helpers::bpf_perf_event_output;
use aya_ebpf::maps::PerfEventByteArray;

/// Puts so many bytes into it; whether there was room.
///
/// # Safety
/// `bytes` must point to `len` written bytes of the program's own.
#[inline(always)]
pub unsafe fn put<C: EbpfContext>(ctx: &C, rings: &'static PerfEventByteArray, bytes: *mut c_void, len: u64) -> bool {
    // SAFETY: a map made for it, and the caller's promise. The helper is called directly, because
    // `PerfEventByteArray::output` keeps its result to itself, and a lost record must be counted.
    let sent = unsafe {
        bpf_perf_event_output(
            ctx.as_ptr(),
            (&raw const *rings).cast_mut().cast(),
            u64::from(BPF_F_CURRENT_CPU as u32),
            bytes,
            len,
        )
    };
    sent == 0
}
