//! The system calls of this floor that the standard library does not wrap, each behind a safe function.
//!
//! Does not know: what they are for. All `unsafe` of this floor is here.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use crate::model::{Ns, Pid, ProcAddr};

/// From here on a vector is large.
const HUGE: u64 = 4 << 20;

/// What `waitpid` told of a traced child.
pub enum Wait {
    /// Stopped, by this signal.
    Stopped(i32),
    /// Gone.
    Ended(ExitStatus),
}

/// CLOCK_MONOTONIC, the clock of the kernel's probes.
pub fn monotonic_now() -> Ns {
    now(libc::CLOCK_MONOTONIC)
}

/// CLOCK_BOOTTIME, the clock of `/proc/PID/stat`: it goes on while the machine sleeps.
pub fn since_boot() -> Ns {
    now(libc::CLOCK_BOOTTIME)
}

fn now(clock: libc::clockid_t) -> Ns {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to fill; both clocks exist on every Linux since 2.6.39.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Ns(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// The user whose files this process makes.
pub fn effective_user() -> u32 {
    // SAFETY: no argument, no failure.
    unsafe { libc::geteuid() }
}

/// The unit of times in `/proc`; 0 where the system does not tell.
pub fn ticks_a_second() -> u64 {
    // SAFETY: sysconf has no preconditions.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(0)
}

/// Bytes of a page of memory.
pub fn page_size() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).ok().filter(|size| size.is_power_of_two()).unwrap_or(4096)
}

/// Asks the kernel for huge pages behind a large, growing vector: a hundredth of the page faults.
pub fn prefer_huge_pages<T>(vector: &mut Vec<T>) {
    let page = page_size();
    let start = (vector.as_mut_ptr() as u64).next_multiple_of(page);
    let end = (vector.as_ptr() as u64 + (vector.capacity() * size_of::<T>()) as u64) / page * page;
    if end.saturating_sub(start) < HUGE {
        return;
    }
    // A wish: where it is not granted, nothing is lost but time.
    // SAFETY: the range is within the vector's own allocation, and the advice changes no content.
    unsafe { libc::madvise(start as *mut libc::c_void, (end - start) as usize, libc::MADV_HUGEPAGE) };
}

/// Leaves a signal that says "something can be read or written" without effect.
pub fn ignore_io_signals() {
    // SAFETY: SIG_IGN is a valid disposition, and nothing in this process waits for this signal.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}

/// Takes a read lease on an open file, or gives it back.
pub fn set_read_lease(file: RawFd, take: bool) -> io::Result<()> {
    let kind = if take { libc::F_RDLCK } else { libc::F_UNLCK };
    // SAFETY: fcntl with an integer touches no memory of ours.
    match unsafe { libc::fcntl(file, libc::F_SETLEASE, kind) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether the file has a read lease that nobody asks for.
pub fn has_read_lease(file: RawFd) -> bool {
    // SAFETY: fcntl without a further argument touches no memory of ours.
    unsafe { libc::fcntl(file, libc::F_GETLEASE) == libc::F_RDLCK }
}

/// The first page of a file, mapped for nobody to look into. Dropping it unmaps it.
pub struct MappedPage(ProcAddr);

impl MappedPage {
    /// Maps it.
    pub fn of(file: &File) -> io::Result<Self> {
        // SAFETY: a new private mapping at an address of the kernel's choice; nothing is overwritten.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), 1, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self(ProcAddr(at as u64))) }
    }

    /// Where.
    pub fn at(&self) -> ProcAddr {
        self.0
    }
}

impl Drop for MappedPage {
    fn drop(&mut self) {
        // SAFETY: this value's own mapping, with the length it was made with; nothing ever pointed into it.
        unsafe { libc::munmap(self.0.0 as *mut libc::c_void, 1) };
    }
}

/// A descriptor that names the process itself, not its number; readable from its end on.
pub fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    let number = libc::pid_t::try_from(pid.0).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor (close-on-exec), nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Whether reading the descriptor would not block, now.
pub fn is_readable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd, count 1, no waiting.
    match unsafe { libc::poll(&mut poll, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        n => Ok(n > 0),
    }
}

/// Copies another process's memory from `at` on into `to`.
///
/// Gives the number of bytes copied; it stops at the first page that cannot be read.
pub fn read_remote(pid: Pid, at: ProcAddr, to: &mut [u8]) -> io::Result<usize> {
    let number = libc::pid_t::try_from(pid.0).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    let local = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    let remote = libc::iovec { iov_base: at.0 as *mut libc::c_void, iov_len: to.len() };
    // SAFETY: `local` is exactly the exclusive slice `to`, which the kernel may fill; `remote` is only interpreted in
    // the other process, from where the kernel copies after checking each page.
    let copied = unsafe { libc::process_vm_readv(number, &local, 1, &remote, 1, 0) };
    usize::try_from(copied).map_err(|_| io::Error::last_os_error())
}

/// Makes the command's child ask to be traced by this thread, so that it stops right after its exec.
pub fn stop_after_exec(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec; it makes one async-signal-safe system call and allocates
    // nothing (an OS error is a number).
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
}

/// Waits until a traced child stops or ends.
pub fn wait_traced(pid: Pid) -> io::Result<Wait> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid place for the call to fill.
        if unsafe { libc::waitpid(pid.0 as libc::pid_t, &mut status, libc::__WALL) } >= 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(match libc::WIFSTOPPED(status) {
        true => Wait::Stopped(libc::WSTOPSIG(status)),
        false => Wait::Ended(ExitStatus::from_raw(status)),
    })
}

/// Lets a stopped, traced child go on, still traced, with this signal delivered (0 is none).
pub fn trace_continue(pid: Pid, signal: i32) -> io::Result<()> {
    trace_request(libc::PTRACE_CONT, pid, signal)
}

/// Ends the tracing of a stopped child, which goes on.
pub fn trace_detach(pid: Pid) -> io::Result<()> {
    trace_request(libc::PTRACE_DETACH, pid, 0)
}

fn trace_request(request: libc::c_uint, pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: both requests used here take no pointer: address is ignored, the fourth argument is a signal number.
    match unsafe { libc::ptrace(request, pid.0 as libc::pid_t, 0, libc::c_long::from(signal)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
