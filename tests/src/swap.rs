//! Room to swap to, for as long as it is held, and a process's memory sent there.
//!
//! Does not know: what is in the memory.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Error, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const PAGE: usize = 4096;

/// A swap file that is in use. Dropping it takes it out of use and removes it.
pub struct Swap(PathBuf);

impl Swap {
    /// So many bytes of it, in the first folder that can hold a swap file.
    ///
    /// # Panics
    /// Where none can: live tests fail, they are never skipped.
    pub fn on(bytes: usize) -> Self {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp");
        let mut refused = Vec::new();
        for folder in [std::env::temp_dir(), target, PathBuf::from("/var/tmp")] {
            let path = folder.join(format!("async-observer-swap-{}", std::process::id()));
            match Self::at(path.clone(), bytes) {
                Ok(swap) => return swap,
                Err(error) => refused.push(format!("{}: {error}", path.display())),
            }
        }
        panic!(
            "no swap file can be used here (it takes root, and a file system that knows holes from blocks): {refused:#?}"
        );
    }

    fn at(path: PathBuf, bytes: usize) -> io::Result<Self> {
        // Held from here on: what is half made is removed, too.
        let swap = Self(path);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&swap.0)?;
        let pages = bytes / PAGE;
        file.write_all(&header(pages))?;
        // Written, not reserved: a swap file has no holes.
        let zeros = vec![0; 1 << 20];
        let mut left = bytes - PAGE;
        while left > 0 {
            let some = left.min(zeros.len());
            file.write_all(&zeros[..some])?;
            left -= some;
        }
        file.sync_all()?;
        // SAFETY: a path that ends with a zero.
        if unsafe { libc::swapon(swap.path()?.as_ptr(), 0) } != 0 {
            return Err(Error::last_os_error());
        }
        Ok(swap)
    }

    fn path(&self) -> io::Result<CString> {
        Ok(CString::new(self.0.as_os_str().as_bytes())?)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if let Ok(path) = self.path() {
            // SAFETY: as above. What was never in use is refused, which is as good.
            unsafe { libc::swapoff(path.as_ptr()) };
        }
        let removed = std::fs::remove_file(&self.0);
        if let Err(error) = removed {
            eprintln!("{} is left: {error}", self.0.display());
        }
    }
}

/// What `mkswap` writes: version, last page, and the magic word at the first page's end.
fn header(pages: usize) -> Vec<u8> {
    let last = u32::try_from(pages - 1).expect("a small swap file");
    let mut page = vec![0; PAGE];
    page[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    page[1028..1032].copy_from_slice(&last.to_ne_bytes());
    page[PAGE - 10..].copy_from_slice(b"SWAPSPACE2");
    page
}

/// Asks the kernel to swap out a process's own memory, and says how much of it is out.
pub fn page_out(pid: u32) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process runs");
    let writable = maps.lines().filter(|line| line.split_whitespace().nth(1) == Some("rw-p"));
    let ranges = writable.filter_map(|line| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
    });
    // SAFETY: two numbers; what comes back is a descriptor of our own.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = libc::c_int::try_from(fd).ok().filter(|fd| *fd >= 0).expect("the process runs");
    // SAFETY: just opened, and nobody else's.
    let process = unsafe { OwnedFd::from_raw_fd(fd) };
    for (start, end) in ranges {
        let range = libc::iovec { iov_base: start as *mut _, iov_len: end - start };
        // SAFETY: one range of the other process, whose content it does not change. Some are refused, which costs nothing.
        unsafe {
            libc::syscall(libc::SYS_process_madvise, process.as_raw_fd(), &raw const range, 1, libc::MADV_PAGEOUT, 0)
        };
    }
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process runs");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Swap:")).expect("the kernel says it");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number of KiB") << 10
}
