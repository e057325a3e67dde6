//! The system calls that aya 0.14 does not wrap: bpf(2) for programs and links, perf_event_open(2), a mount nobody sees.
//!
//! Each struct mirrors the member of `union bpf_attr` in Linux's `include/uapi/linux/bpf.h` that its command reads; the
//! kernel takes a shorter struct than its own for one that ends in zeroes.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use aya_obj::generated::{
    BPF_F_UPROBE_MULTI_RETURN, PERF_FLAG_FD_CLOEXEC, bpf_attach_type, bpf_cmd, bpf_insn, bpf_prog_type,
    perf_event_attr, perf_type_id,
};

use crate::model::Pid;

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

/// `BPF_LINK_CREATE` with its `perf_event`.
#[repr(C)]
struct LinkPerfEvent {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    cookie: u64,
}

/// What a program is loaded to be attached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttachedBy {
    /// A uprobe_multi link, at one moment of a call.
    Multi,
    /// A uprobe_multi link that is a session: at both.
    Session,
    PerfEvent,
}

/// At which moment of a call a link's program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Entry,
    Return,
    /// Both, if its program says so at the entry.
    Session,
}

/// `BPF_TRACE_UPROBE_SESSION` of `enum bpf_attach_type`, which aya-obj 0.3 does not have yet.
const UPROBE_SESSION: u32 = 57;

/// A refused program load: the error, and what the verifier said.
pub(super) struct Rejected {
    pub(super) source: io::Error,
    pub(super) log: String,
}

/// How much of the verifier's text is taken; its last line is the one that counts.
const LOG_SIZE: usize = 1 << 20;
/// How much of that is shown.
const LOG_SHOWN: usize = 600;

/// Loads a program of kprobe type.
pub(super) fn load_program(
    name: &str,
    instructions: &[bpf_insn],
    license: &CStr,
    by: AttachedBy,
) -> Result<OwnedFd, Rejected> {
    let mut load = ProgramLoad {
        prog_type: bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        expected_attach_type: match by {
            AttachedBy::Multi => bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
            AttachedBy::Session => UPROBE_SESSION,
            AttachedBy::PerfEvent => 0,
        },
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

/// Attaches a program to all these places of a file, for one process or, by 0, for all. `offsets` and `cookies` pair up.
pub(super) fn link_multi(
    program: BorrowedFd<'_>,
    path: &CStr,
    offsets: &[u64],
    cookies: &[u64],
    pid: u32,
    moment: Moment,
) -> io::Result<OwnedFd> {
    debug_assert_eq!(offsets.len(), cookies.len());
    let link = LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        target_fd: 0,
        attach_type: match moment {
            Moment::Entry | Moment::Return => bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
            Moment::Session => UPROBE_SESSION,
        },
        flags: 0,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        ref_ctr_offsets: 0,
        cookies: cookies.as_ptr() as u64,
        count: offsets.len().min(cookies.len()) as u32,
        multi_flags: if moment == Moment::Return { BPF_F_UPROBE_MULTI_RETURN } else { 0 },
        pid,
        pad: 0,
    };
    // SAFETY: path, offsets and cookies outlive the call, and both arrays hold `count` entries.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &link) }
}

/// Attaches a program to an opened event.
pub(super) fn link_perf_event(program: BorrowedFd<'_>, event: BorrowedFd<'_>, cookie: u64) -> io::Result<OwnedFd> {
    let link = LinkPerfEvent {
        prog_fd: program.as_raw_fd() as u32,
        target_fd: event.as_raw_fd() as u32,
        attach_type: bpf_attach_type::BPF_PERF_EVENT as u32,
        flags: 0,
        cookie,
    };
    // SAFETY: plain numbers.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &link) }
}

/// Opens a trace event, for one process or for all.
pub(super) fn open_tracepoint(id: u64, pid: Option<Pid>) -> io::Result<OwnedFd> {
    // SAFETY: all zeroes is a valid value of this plain struct.
    let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
    attr.type_ = perf_type_id::PERF_TYPE_TRACEPOINT as u32;
    attr.size = size_of::<perf_event_attr>() as u32;
    attr.config = id;
    attr.__bindgen_anon_1.sample_period = 1;
    // For everyone it is opened on one CPU, and the programs run on all nevertheless: they belong to the event.
    let (pid, cpu) = match pid {
        Some(pid) => (pid.0 as libc::pid_t, -1),
        None => (-1, 0),
    };
    // SAFETY: `attr` outlives the call and says its own size.
    unsafe { perf_event_open(&attr, pid, cpu) }
}

/// # Safety
/// `attr` must say its own size.
unsafe fn perf_event_open(attr: &perf_event_attr, pid: libc::pid_t, cpu: libc::c_int) -> io::Result<OwnedFd> {
    let no_group: libc::c_int = -1;
    let flags = libc::c_ulong::from(PERF_FLAG_FD_CLOEXEC);
    // SAFETY: `attr` outlives the call; the rest is the caller's promise.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const *attr, pid, cpu, no_group, flags) };
    new_descriptor(fd)
}

/// Mounts a file system where nobody sees it: it is reached by the descriptor only, and is gone with it.
pub(super) fn private_mount(kind: &CStr) -> io::Result<OwnedFd> {
    // From Linux's `include/uapi/linux/mount.h`.
    const CLOEXEC: libc::c_uint = 1;
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: the name outlives the call.
    let opened = new_descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), CLOEXEC) })?;
    let (opening, zero) = (opened.as_raw_fd(), 0 as libc::c_int);
    // SAFETY: this command takes neither key nor value.
    if unsafe { libc::syscall(libc::SYS_fsconfig, opening, FSCONFIG_CMD_CREATE, nothing, nothing, zero) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers.
    new_descriptor(unsafe { libc::syscall(libc::SYS_fsmount, opening, CLOEXEC, zero) })
}

/// What a system call has returned: a new descriptor, or an error.
fn new_descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
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
    new_descriptor(unsafe { bpf(command, &raw const *attr) }?)
}
