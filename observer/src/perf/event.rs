//! Opening the events that fill a ring.
//!
//! [`Attr`] and the numbers mirror Linux's `include/uapi/linux/perf_event.h`. Does not know: how a ring is read.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// What fills a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// BPF programs, through a perf event array that this event is put into.
    BpfOutput,
    /// The kernel itself, of every process: it forks, execs, maps code, ends. Every entry ends in who, when and where
    /// (`PERF_SAMPLE_TID | TIME | CPU`), the time is CLOCK_MONOTONIC.
    SideBand,
    /// Whoever runs, again and again, also while it is in the kernel: registers and stack in user space ([`super::tick`] reads them). A CPU that has
    /// nothing to do is not sampled.
    Running(Sampling),
}

/// How whoever runs is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Time on a CPU from one sample to the next, nanoseconds.
    pub period: u64,
    /// Bytes of stack that are copied at most, a multiple of 8.
    pub stack: u32,
}

impl Source {
    /// What opening it is called in a message.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::BpfOutput => "open a perf ring",
            Self::SideBand => "open a perf ring of processes that come and go",
            Self::Running(_) => "sample who runs on every CPU",
        }
    }

    /// Opens the event for every process on this CPU; it wakes its reader when `watermark` bytes are unread. Whether reading it tells
    /// how many entries had no room: since Linux 6.0, where anybody wants to know.
    pub(super) fn open(self, cpu: u32, watermark: u32) -> io::Result<(OwnedFd, bool)> {
        let attr = self.attr(watermark);
        if self != Self::BpfOutput {
            match open(&Attr { read_format: FORMAT_LOST, ..attr }, cpu) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                opened => return opened.map(|fd| (fd, true)),
            }
        }
        open(&attr, cpu).map(|fd| (fd, false))
    }

    fn attr(self, watermark: u32) -> Attr {
        let attr = Attr {
            kind: TYPE_SOFTWARE,
            size: size_of::<Attr>() as u32,
            flags: WATERMARK,
            wakeup_watermark: watermark,
            ..Attr::default()
        };
        match self {
            Self::BpfOutput => Attr { config: BPF_OUTPUT, sample_period: 1, sample_type: SAMPLE_RAW, ..attr },
            Self::SideBand => Attr {
                config: DUMMY,
                sample_type: SAMPLE_TID | SAMPLE_TIME | SAMPLE_CPU,
                flags: WATERMARK | MMAP | MMAP2 | COMM | COMM_EXEC | TASK | SAMPLE_ID_ALL | USE_CLOCKID,
                clockid: libc::CLOCK_MONOTONIC,
                ..attr
            },
            Self::Running(Sampling { period, stack }) => Attr {
                config: CPU_CLOCK,
                sample_period: period,
                sample_type: SAMPLE_TID | SAMPLE_TIME | SAMPLE_REGS_USER | SAMPLE_STACK_USER,
                sample_regs_user: USER_REGISTERS.iter().fold(0, |all, number| all | 1 << number),
                sample_stack_user: stack,
                flags: WATERMARK | USE_CLOCKID | EXCLUDE_IDLE,
                clockid: libc::CLOCK_MONOTONIC,
                ..attr
            },
        }
    }
}

fn open(attr: &Attr, cpu: u32) -> io::Result<OwnedFd> {
    let every_process: libc::pid_t = -1;
    let no_group: libc::c_int = -1;
    let cpu = libc::c_int::try_from(cpu).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: `attr` outlives the call and says its own size.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const *attr, every_process, cpu, no_group, FD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `struct perf_event_attr` as far as `PERF_ATTR_SIZE_VER3` (Linux 3.7); the kernel takes a shorter struct than its own
/// for one that ends in zeroes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    /// A bit field in C, here in little-endian order: its first member is bit 0.
    flags: u64,
    wakeup_watermark: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
}

const _: () = assert!(size_of::<Attr>() == 96);

/// The registers that are sampled, in the order in which a record has them: `enum perf_event_x86_regs` of Linux's
/// `arch/x86/include/uapi/asm/perf_regs.h`, here rbx, rbp, rsp, rip, r12 to r15.
pub(super) const USER_REGISTERS: [u32; 8] = [1, 6, 7, 8, 20, 21, 22, 23];

const TYPE_SOFTWARE: u32 = 1;
/// `PERF_COUNT_SW_CPU_CLOCK`.
const CPU_CLOCK: u64 = 0;
/// `PERF_COUNT_SW_DUMMY`: counts nothing, its ring gets the side band.
const DUMMY: u64 = 9;
/// `PERF_COUNT_SW_BPF_OUTPUT`.
const BPF_OUTPUT: u64 = 10;

/// `PERF_FORMAT_LOST`.
const FORMAT_LOST: u64 = 1 << 4;

const SAMPLE_TID: u64 = 1 << 1;
const SAMPLE_TIME: u64 = 1 << 2;
const SAMPLE_CPU: u64 = 1 << 7;
const SAMPLE_RAW: u64 = 1 << 10;
const SAMPLE_REGS_USER: u64 = 1 << 12;
const SAMPLE_STACK_USER: u64 = 1 << 13;

const EXCLUDE_IDLE: u64 = 1 << 7;

/// Executable mappings; with [`MMAP2`], with their device and inode.
const MMAP: u64 = 1 << 8;
const COMM: u64 = 1 << 9;
const TASK: u64 = 1 << 13;
const WATERMARK: u64 = 1 << 14;
const SAMPLE_ID_ALL: u64 = 1 << 18;
const MMAP2: u64 = 1 << 23;
/// Names that an exec gave are marked as such.
const COMM_EXEC: u64 = 1 << 24;
const USE_CLOCKID: u64 = 1 << 25;

const FD_CLOEXEC: libc::c_ulong = 1 << 3;
