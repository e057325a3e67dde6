//! The system calls of this floor that the standard library does not wrap, each behind a safe function.
//!
//! Does not know: what they are for. All `unsafe` of this floor is here and in `filling`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use crate::model::{CapabilitySet, Ns, Pid, ProcAddr};

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

/// `struct sched_attr` of Linux's `include/uapi/linux/sched/types.h`, as its first version has it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Scheduling {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Asks the kernel to run this thread soon after it is woken, for short times, with no larger share than it has: from Linux
/// 6.12 on a thread with a short slice does not wait for the end of another's. Earlier kernels take it without effect.
pub fn wake_soon() -> io::Result<()> {
    const SLICE_NS: u64 = 100_000;
    const SIZE: u32 = size_of::<Scheduling>() as u32;
    let mut had = Scheduling::default();
    // SAFETY: the struct is there for the call to fill, as long as is said.
    if unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut had, SIZE, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let wanted = Scheduling { size: SIZE, runtime: SLICE_NS, ..had };
    // SAFETY: the struct outlives the call and says its length.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives pages that the allocator holds and nobody uses back to the kernel.
pub fn give_memory_back() {
    // SAFETY: no pointers; the allocator locks its own state.
    unsafe { libc::malloc_trim(0) };
}

/// Whether the file is shown by an overlay file system (`OVERLAYFS_SUPER_MAGIC` in Linux's `include/uapi/linux/magic.h`).
pub fn is_on_overlay(file: &File) -> io::Result<bool> {
    const OVERLAY: i64 = 0x794c_7630;
    // SAFETY: all zeroes is a valid value of this plain struct.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and `about` is there for the call to fill.
    match unsafe { libc::fstatfs(file.as_raw_fd(), &mut about) } {
        0 => Ok(about.f_type as i64 == OVERLAY),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Leaves a signal that says "something can be read or written" without effect.
pub fn ignore_io_signals() {
    // SAFETY: SIG_IGN is a valid disposition, and nothing in this process waits for this signal.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}

/// Leaves SIGUSR1 without effect until somebody hears it, in this process and in no program that it begins.
pub fn take_questions() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the function is one that a signal may call at any moment: it does nothing.
    unsafe { libc::signal(libc::SIGUSR1, nothing as extern "C" fn(libc::c_int) as libc::sighandler_t) };
}

/// Whether SIGHUP is ignored, as `nohup` has it.
pub fn ignores_hangups() -> bool {
    // SAFETY: an all-zero `sigaction` is valid.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is changed, and `now` is there for the call to fill.
    let asked = unsafe { libc::sigaction(libc::SIGHUP, std::ptr::null(), &mut now) };
    asked == 0 && now.sa_sigaction == libc::SIG_IGN
}

/// Leaves the signals without effect with which a terminal stops a program: ^Z, and reading or writing in the background.
pub fn ignore_stops_of_terminals() {
    for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        // SAFETY: SIG_IGN is a valid disposition, and nothing in this process waits for these signals.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
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
            -1 => Err(not_as_exec_says_it(io::Error::last_os_error())),
            _ => Ok(()),
        });
    }
}

/// SELinux refuses with the number by which exec says that a file is no program; only the number comes back from the child.
fn not_as_exec_says_it(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EACCES) => io::Error::from_raw_os_error(libc::EPERM),
        _ => error,
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

/// What a thread may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Now.
    pub effective: CapabilitySet,
    /// If it takes it up.
    pub permitted: CapabilitySet,
    /// What a program that it becomes would take over.
    pub inheritable: CapabilitySet,
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`, the lower half of the bits and then the upper.
type CapabilityWords = [[u32; 3]; 2];

/// `_LINUX_CAPABILITY_VERSION_3`, for this thread.
const OWN_CAPABILITIES: CapabilityHeader = CapabilityHeader { version: 0x2008_0522, pid: 0 };

/// What the calling thread may do.
pub fn capabilities() -> io::Result<Capabilities> {
    let (mut header, mut words): (_, CapabilityWords) = (OWN_CAPABILITIES, [[0; 3]; 2]);
    // SAFETY: both outlive the call and have the layout of this version; the kernel fills two triples.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let set = |which: usize| CapabilitySet(u64::from(words[0][which]) | u64::from(words[1][which]) << 32);
    Ok(Capabilities { effective: set(0), permitted: set(1), inheritable: set(2) })
}

/// Sets what the calling thread, and no other, may do.
pub fn set_capabilities(to: Capabilities) -> io::Result<()> {
    let half = |shift: u32| [to.effective, to.permitted, to.inheritable].map(|set| (set.0 >> shift) as u32);
    let words: CapabilityWords = [half(0), half(32)];
    let header = OWN_CAPABILITIES;
    // SAFETY: both outlive the call and have the layout of this version.
    match unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A copy of this process that only waits, to try on it what is done to others. Dropping it ends it.
#[derive(Debug)]
pub struct Copied {
    pid: Pid,
    ours: OwnedFd,
}

/// Whom a copy of this process lets read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Those of the same user, as usual.
    SameUser,
    /// Only those who may read anybody.
    Privileged,
}

impl Copied {
    /// Forks. It is ready when this returns.
    pub fn start(readers: Readers) -> io::Result<Self> {
        let mut ends: [RawFd; 2] = [-1; 2];
        // SAFETY: room for the two descriptors.
        if unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr()) } < 0
        {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: two new descriptors that nobody else knows.
        let [ours, theirs] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: what the child does until it ends is async-signal-safe: system calls, no allocation, no return.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let mut byte = 1u8;
                // SAFETY: as above. When our end is closed, for whatever reason, the read ends, and so does the child.
                unsafe {
                    libc::close(ours.as_raw_fd());
                    if readers == Readers::Privileged {
                        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
                    }
                    libc::write(theirs.as_raw_fd(), (&raw const byte).cast(), 1);
                    while libc::read(theirs.as_raw_fd(), (&raw mut byte).cast(), 1) < 0
                        && *libc::__errno_location() == libc::EINTR
                    {}
                    libc::_exit(0)
                }
            }
            pid => {
                drop(theirs);
                let copied = Self { pid: Pid(pid.cast_unsigned()), ours };
                io::Read::read_exact(&mut std::fs::File::from(copied.ours.try_clone()?), &mut [0])?;
                Ok(copied)
            }
        }
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let pid = self.pid.0.cast_signed();
        // SAFETY: our own child, which is reaped nowhere else; no status is asked for.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            while libc::waitpid(pid, std::ptr::null_mut(), 0) < 0 && *libc::__errno_location() == libc::EINTR {}
        }
    }
}

/// A file in memory, of this user, whose mode lets nobody read it.
pub fn unreadable_file() -> io::Result<OwnedFd> {
    // SAFETY: a name that ends in a zero byte.
    let fd = unsafe { libc::memfd_create(c"async-observer-doctor".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else knows.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a valid descriptor and a number.
    match unsafe { libc::fchmod(fd.as_raw_fd(), 0) } {
        0 => Ok(fd),
        _ => Err(io::Error::last_os_error()),
    }
}
