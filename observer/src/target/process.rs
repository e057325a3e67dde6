//! One process, held so that its number cannot come to mean another, and its files in `/proc`.
//!
//! Does not know: what the files mean; each has its own module.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::TargetError;
use super::maps::{Mapping, parse_maps};
use super::memory::Memory;
use super::module::{self, Module};
use super::pagemap::Pagemap;
use super::stat::Stat;
use super::status::Status;
use super::syscall;
use super::threads::{self, Thread};
use crate::model::{Capability, Ns, Pid};

/// Text of one `/proc` file that is read at most; a process with a million mappings stays below.
const MAX_TEXT: u64 = 256 << 20;

/// A live process.
///
/// The process is held by two descriptors: a pidfd, which becomes readable when it ends, and its `/proc` folder, whose
/// files fail from then on even if the number is given to another process.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    folder: File,
    exe: String,
    start: StartTime,
    program: Program,
}

/// The program that a process runs: an exec replaces it, and with it all memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Program {
    /// Device and inode of the executable.
    file: (u64, u64),
    /// What the kernel told it at its start: its entry, and addresses that are random for each exec.
    start: Vec<u8>,
}

/// When a process began, in clock ticks after boot. With the pid it tells processes apart across reuse of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StartTime(pub u64);

impl Process {
    /// Takes hold of the process and checks that its memory map may be read.
    pub fn open(pid: Pid) -> Result<Self, TargetError> {
        let pidfd = syscall::pidfd_open(pid).map_err(|source| no_pidfd(pid, source))?;
        let folder = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC)
            .open(format!("/proc/{pid}"))
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => TargetError::Vanished { pid },
                _ => TargetError::Io { pid, what: format!("/proc/{pid}"), source },
            })?;
        let mut process =
            Self { pid, pidfd, folder, exe: String::new(), start: StartTime(0), program: Program::default() };

        let text = process.text("stat")?;
        let stat = Stat::parse(&text).ok_or_else(|| process.malformed("stat", text.clone()))?;
        if stat.kernel_thread {
            return Err(TargetError::KernelThread { pid });
        }
        if stat.is_dead() {
            return Err(TargetError::Zombie { pid });
        }
        process.start = StartTime(stat.start_ticks);
        // The pidfd came first: while it has not ended, the number, and so the folder, cannot be another's.
        if process.has_ended() {
            return Err(TargetError::Vanished { pid });
        }
        process.exe = process.link("exe")?.to_string_lossy().into_owned();
        // Every process has a stack mapped; its memory is the first thing that one that ends gives back.
        if process.maps()?.is_empty() {
            return Err(TargetError::Vanished { pid });
        }
        process.program = process.current_program()?;
        Ok(process)
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The executable's path as `/proc` names it, with ` (deleted)` behind it where that is so.
    pub fn exe(&self) -> &str {
        &self.exe
    }

    /// When it began.
    pub fn start_time(&self) -> StartTime {
        self.start
    }

    /// How long ago it began; `None` where the clock cannot be read.
    pub fn age(&self) -> Option<Ns> {
        let ticks_a_second = syscall::ticks_a_second();
        let began = self.start.0.checked_mul(1_000_000_000)?.checked_div(ticks_a_second)?;
        Some(syscall::since_boot().since(Ns(began)))
    }

    /// A moment before which nothing happened in it: its age includes the time that the machine slept, which this clock
    /// does not count. `None` where the age is not known.
    pub fn not_before(&self) -> Option<Ns> {
        Some(syscall::monotonic_now().before(self.age()?.0))
    }

    /// Whether it still runs the program that it ran when it was opened.
    pub fn runs_same_program(&self) -> Result<bool, TargetError> {
        Ok(self.current_program()? == self.program)
    }

    /// Whether it has ended. Once true, stays true.
    pub fn has_ended(&self) -> bool {
        // A poll of a valid descriptor fails only for lack of memory; then nothing says that it has ended.
        syscall::is_readable(self.pidfd.as_fd()).unwrap_or(false)
    }

    /// Its mappings now, in order of address.
    pub fn maps(&self) -> Result<Vec<Mapping>, TargetError> {
        parse_maps(&self.text("maps")?).map_err(|error| self.malformed("maps", error.to_string()))
    }

    /// The files it has mapped as code now.
    pub fn modules(&self) -> Result<Vec<Module>, TargetError> {
        let entry = module::entry_address(&self.bytes("auxv")?);
        Ok(module::group(self.pid, &self.exe, entry, &self.maps()?))
    }

    /// Paths of the images whose code it has moved to memory without a file, as programs do that want huge pages for it.
    pub fn moved_images(&self) -> Result<Vec<String>, TargetError> {
        let moved = module::moved(&self.maps()?);
        let is_image = |start: &crate::model::ProcAddr| {
            let mut magic = [0; 4];
            self.memory().read_exact(*start, &mut magic).is_ok() && &magic == b"\x7fELF"
        };
        Ok(moved.into_iter().filter(|(_, start)| is_image(start)).map(|(path, _)| path).collect())
    }

    /// Who it is, what it may do and what has a hand on it, now.
    pub fn status(&self) -> Result<Status, TargetError> {
        let text = self.text("status")?;
        Status::parse(&text).ok_or_else(|| self.malformed("status", "a field is missing".to_owned()))
    }

    /// What names one of its namespaces (`pid`, `mnt`, `user`, ...), the same for all processes in it.
    pub fn namespace(&self, kind: &str) -> Result<String, TargetError> {
        Ok(self.link(&format!("ns/{kind}"))?.to_string_lossy().into_owned())
    }

    /// Its threads now, each with its stack pointer where the kernel tells.
    pub fn threads(&self) -> Result<Vec<Thread>, TargetError> {
        threads::list(self)
    }

    /// Its memory, for reading.
    pub fn memory(&self) -> Memory<'_> {
        Memory::new(self)
    }

    /// Which of its pages are there; `None` where the kernel does not let us ask.
    pub fn pagemap(&self) -> Option<Pagemap> {
        self.open_file("pagemap").ok().map(Pagemap::new)
    }

    /// A path under which the process's own file of this name is found for as long as the process lives, by us only.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        Path::new("/proc/self/fd").join(self.folder.as_raw_fd().to_string()).join(name)
    }

    /// One of its files, opened for reading.
    pub(super) fn open_file(&self, name: &str) -> Result<File, TargetError> {
        File::open(self.path(name)).map_err(|source| self.refused(name, source))
    }

    /// One of its files as text; bytes that are not UTF-8 (in paths and names) are replaced.
    pub(super) fn text(&self, name: &str) -> Result<String, TargetError> {
        let bytes = self.bytes(name)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Names in one of its folders.
    pub(super) fn names(&self, folder: &str) -> Result<Vec<String>, TargetError> {
        let refused = |source| self.refused(folder, source);
        fs::read_dir(self.path(folder))
            .map_err(refused)?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()).map_err(refused))
            .collect()
    }

    /// What a failure of one of its files means.
    pub(super) fn refused(&self, name: &str, source: io::Error) -> TargetError {
        let pid = self.pid;
        let what = format!("/proc/{pid}/{name}");
        match source.raw_os_error() {
            _ if self.has_ended() => TargetError::Vanished { pid },
            Some(libc::EACCES | libc::EPERM) => {
                TargetError::NotPermitted { pid, what, capability: self.capability_for_files(), source }
            }
            _ => TargetError::of_file(pid, what, source),
        }
    }

    /// Who may follow `exe` may read the process: then it is the file's mode that stands in the way, as that of `auxv` does,
    /// which lets only the process's own user in.
    fn capability_for_files(&self) -> Capability {
        match fs::read_link(self.path("exe")) {
            Ok(_) => Capability::DacReadSearch,
            Err(_) => Capability::SysPtrace,
        }
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, TargetError> {
        let mut bytes = Vec::new();
        let read = self.open_file(name)?.take(MAX_TEXT).read_to_end(&mut bytes);
        match read {
            Ok(_) => Ok(bytes),
            Err(source) => Err(self.refused(name, source)),
        }
    }

    fn current_program(&self) -> Result<Program, TargetError> {
        let file = fs::metadata(self.path("exe")).map_err(|source| self.refused("exe", source))?;
        Ok(Program { file: (file.dev(), file.ino()), start: self.bytes("auxv")? })
    }

    fn link(&self, name: &str) -> Result<PathBuf, TargetError> {
        fs::read_link(self.path(name)).map_err(|source| self.refused(name, source))
    }

    fn malformed(&self, what: &'static str, reason: String) -> TargetError {
        TargetError::Malformed { pid: self.pid, what, reason }
    }
}

/// The pidfd: readable once the process has ended.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

/// Kernels say EINVAL (ENOENT from 6.17 on) for a thread that leads no process, ESRCH for a number that nothing has.
fn no_pidfd(pid: Pid, source: io::Error) -> TargetError {
    if pid.0 == 0 {
        return TargetError::NoSuchProcess { pid };
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let leader = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    match (leader, source.raw_os_error()) {
        (Some(leader), _) if leader != pid.0 => TargetError::IsThread { pid, process: Pid(leader) },
        (_, Some(libc::ESRCH | libc::EINVAL | libc::ENOENT)) => TargetError::NoSuchProcess { pid },
        _ => TargetError::Io { pid, what: "a pidfd".into(), source },
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::target::sleeper::Sleeper;

    fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < Duration::from_secs(10), "{what} did not come about");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn our_own_process_opens_and_names_its_executable() {
        let us = Process::open(Pid(std::process::id())).unwrap();
        assert_eq!(us.exe(), std::env::current_exe().unwrap().to_str().unwrap());
        assert!(us.start_time().0 > 0);
        assert!(!us.has_ended());
    }

    #[test]
    fn a_process_is_as_old_as_its_life_is_long() {
        let begin = Instant::now();
        let mut child = Sleeper::start();
        let process = child.process();
        std::thread::sleep(Duration::from_millis(30));
        let age = Duration::from_nanos(process.age().unwrap().0);
        child.end();
        // A process's start is known in ticks of 10 ms.
        assert!((Duration::from_millis(20)..begin.elapsed() + Duration::from_millis(20)).contains(&age), "{age:?}");
    }

    #[test]
    fn a_number_that_nothing_has_is_no_such_process() {
        for pid in [Pid(0), Pid(0x7fff_fff0), Pid(u32::MAX)] {
            let error = Process::open(pid).unwrap_err();
            assert!(matches!(error, TargetError::NoSuchProcess { .. }), "{pid}: {error:?}");
        }
    }

    #[test]
    fn a_kernel_thread_is_told_apart() {
        let kthreadd = fs::read_to_string("/proc/2/stat").ok().and_then(|text| Stat::parse(&text));
        // In a container with its own pid namespace no kernel thread can be seen, and there is nothing to tell apart.
        if kthreadd.is_some_and(|stat| stat.kernel_thread) {
            assert!(matches!(Process::open(Pid(2)), Err(TargetError::KernelThread { .. })));
        }
    }

    #[test]
    fn a_zombie_is_told_apart_until_it_is_reaped() {
        let mut child = Sleeper::start();
        let pid = child.pid();
        child.kill();
        wait_for("zombie", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            Stat::parse(&stat).unwrap().is_dead()
        });
        assert!(matches!(Process::open(pid), Err(TargetError::Zombie { .. })));
        child.end();
        assert!(matches!(Process::open(pid), Err(TargetError::NoSuchProcess { .. })));
    }

    #[test]
    fn a_process_that_ends_later_has_vanished() {
        let mut child = Sleeper::start();
        let process = child.process();
        assert!(!process.has_ended());
        child.end();
        assert!(process.has_ended());
        assert!(matches!(process.maps(), Err(TargetError::Vanished { .. })));
        assert!(matches!(process.modules(), Err(TargetError::Vanished { .. })));
        assert!(matches!(process.threads(), Err(TargetError::Vanished { .. })));
    }

    #[test]
    fn a_process_that_ends_while_it_is_opened_is_never_taken_for_anything_else() {
        for round in 0..300 {
            let mut child = std::process::Command::new("true").spawn().unwrap();
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_micros(round * 10) {}
            let opened = Process::open(Pid(child.id()));
            child.wait().unwrap();
            let ended =
                |error: &TargetError| matches!(error, TargetError::Vanished { .. } | TargetError::Zombie { .. });
            assert!(opened.as_ref().err().is_none_or(ended), "{opened:?}");
        }
    }

    #[test]
    fn a_thread_is_refused_with_the_process_it_belongs_to() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _ = receiver.recv();
        });
        let us = std::process::id();
        let tids = fs::read_dir("/proc/self/task").unwrap();
        let other = tids
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok())
            .find(|tid| *tid != us)
            .unwrap();
        let error = Process::open(Pid(other)).unwrap_err();
        drop(sender);
        thread.join().unwrap();
        assert!(matches!(error, TargetError::IsThread { process, .. } if process == Pid(us)), "{error:?}");
    }
}
