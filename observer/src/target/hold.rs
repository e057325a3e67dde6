//! Being asked before a file is changed.
//!
//! A breakpoint stands at a place of a file, in whatever process maps it next. Were the file overwritten meanwhile, it would
//! stand in the middle of an instruction. The kernel forbids to write to a running program, not to a library, and not to
//! a program that nobody runs just now. Does not know: probes.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use super::syscall;

/// A file whose next writer waits until this is dropped (a read lease, see fcntl(2)): the kernel holds back open(2) for
/// writing and truncate(2), for `/proc/sys/fs/lease-break-time` seconds at most (45 unless somebody changed it).
#[derive(Debug)]
pub struct Hold {
    file: File,
}

impl Hold {
    /// Takes it. Fails for a file that somebody has open for writing, for one of another user's without CAP_LEASE, and on
    /// file systems without leases.
    pub fn take(file: File) -> io::Result<Self> {
        // Whoever is asked for a lease back gets a signal, which would end this process.
        syscall::ignore_io_signals();
        // Who is stopped gives nothing back: after the kernel's patience its breakpoints would stand in what was written. What only says
        // that somebody wishes a stop is not obeyed from the first hold on.
        syscall::ignore_stops_of_terminals();
        syscall::set_read_lease(file.as_raw_fd(), true)?;
        Ok(Self { file })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether somebody waits to write to it, or whether the kernel has stopped to hold them back.
    pub fn is_asked_back(&self) -> bool {
        !syscall::has_read_lease(self.file.as_raw_fd())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Closing gives it back, too: nothing is lost if this fails.
        let _ = syscall::set_read_lease(self.file.as_raw_fd(), false);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_terminal_does_not_stop_who_holds_a_file() {
        let path = std::env::temp_dir().join(format!("async-observer-hold-stops-{}", std::process::id()));
        std::fs::write(&path, "held").unwrap();
        let _hold = Hold::take(File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
        for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
            assert!(ignored & 1 << (signal - 1) != 0, "signal {signal}");
        }
    }

    #[test]
    fn a_writer_waits_until_the_hold_is_dropped() {
        let path = std::env::temp_dir().join(format!("async-observer-hold-{}", std::process::id()));
        std::fs::write(&path, "before").unwrap();
        let hold = Hold::take(File::open(&path).unwrap()).unwrap();
        assert!(!hold.is_asked_back());
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all(b"later!"))
        };
        let begin = std::time::Instant::now();
        while !hold.is_asked_back() {
            assert!(begin.elapsed() < std::time::Duration::from_secs(10), "nobody asks for it");
            std::thread::yield_now();
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"before", "the writer is held back");
        drop(hold);
        writer.join().unwrap().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"later!");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_open_for_writing_cannot_be_held() {
        let path = std::env::temp_dir().join(format!("async-observer-hold-open-{}", std::process::id()));
        let writer = File::create(&path).unwrap();
        let refused = Hold::take(File::open(&path).unwrap()).unwrap_err();
        drop(writer);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(refused.raw_os_error(), Some(libc::EAGAIN));
    }
}
