//! The system calls that aya 0.14 does not wrap: bpf(2) for uprobe_multi.
//!
//! Each struct mirrors the member of `union bpf_attr` in Linux's `include/uapi/linux/bpf.h` that its command reads; the
//! kernel takes a shorter struct than its own for one that ends in zeroes.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use aya_obj::generated::{BPF_F_UPROBE_MULTI_RETURN, bpf_attach_type, bpf_cmd, bpf_insn, bpf_prog_type};

/// `BPF_PROG_LOAD`, up to `expected_attach_type`.
#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// `BPF_LINK_CREATE` with its `uprobe_multi`.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    count: u32,
    multi_flags: u32,
    pid: u32,
    pad: u32,
}

/// A refused program load: the error, and what the verifier said.
pub(super) struct Rejected {
    pub(super) source: io::Error,
    pub(super) log: String,
}

/// How much of the verifier's text is taken; its last line is the one that counts.
const LOG_SIZE: usize = 1 << 20;
/// How much of that is shown.
const LOG_SHOWN: usize = 600;

/// Loads a program of kprobe type for uprobe_multi links.
pub(super) fn load_multi_program(name: &str, instructions: &[bpf_insn], license: &CStr) -> Result<OwnedFd, Rejected> {
    let mut load = ProgramLoad {
        prog_type: bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        expected_attach_type: bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
        ..ProgramLoad::default()
    };
    // The last byte stays zero.
    for (to, from) in load.prog_name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: instructions and licence outlive the call, with the lengths given.
    let first = match unsafe { bpf_fd(bpf_cmd::BPF_PROG_LOAD, &load) } {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    // Once more for the log, which costs too much to ask for at first.
    let mut log = vec![0u8; LOG_SIZE];
    load.log_level = 1;
    load.log_size = log.len() as u32;
    load.log_buf = log.as_mut_ptr() as u64;
    // SAFETY: as above; the kernel writes at most `log_size` bytes to `log`.
    match unsafe { bpf_fd(bpf_cmd::BPF_PROG_LOAD, &load) } {
        Ok(program) => Ok(program),
        Err(_) => {
            let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
            let shown = &log[end.saturating_sub(LOG_SHOWN)..end];
            Err(Rejected { source: first, log: String::from_utf8_lossy(shown).trim().to_owned() })
        }
    }
}

/// Attaches a program to all these places of a file, for one process. `offsets` and `cookies` pair up.
pub(super) fn link_multi(
    program: BorrowedFd<'_>,
    path: &CStr,
    offsets: &[u64],
    cookies: &[u64],
    pid: u32,
    at_return: bool,
) -> io::Result<OwnedFd> {
    debug_assert_eq!(offsets.len(), cookies.len());
    let link = LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        target_fd: 0,
        attach_type: bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
        flags: 0,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        ref_ctr_offsets: 0,
        cookies: cookies.as_ptr() as u64,
        count: offsets.len().min(cookies.len()) as u32,
        multi_flags: if at_return { BPF_F_UPROBE_MULTI_RETURN } else { 0 },
        pid,
        pad: 0,
    };
    // SAFETY: path, offsets and cookies outlive the call, and both arrays hold `count` entries.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &link) }
}

/// # Safety
/// Pointers in `attr`, and `attr` itself, must be what this command expects.
pub(super) unsafe fn bpf<T>(command: bpf_cmd, attr: *const T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise; the size is that of what `attr` points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, attr, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// # Safety
/// As [`bpf`], for a command that returns a new descriptor.
unsafe fn bpf_fd<T>(command: bpf_cmd, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, &raw const *attr) }?;
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
