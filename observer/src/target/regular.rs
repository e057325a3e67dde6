//! Opens files by names that others chose, and links that others laid: only regular files of file systems that keep what is in
//! them. What waits, or acts, when it is opened or read is not opened.
//!
//! Does not know: what the files are.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The kernel makes up what is read there, some of it only when something happens.
const MADE_UP: [i64; 4] = [libc::PROC_SUPER_MAGIC, libc::SYSFS_MAGIC, libc::TRACEFS_MAGIC, libc::DEBUGFS_MAGIC];

/// Opens a regular file, as it is seen from a root folder: links cannot lead out of it. `None` is our own.
pub fn open_regular(path: &Path, root: Option<&Path>) -> io::Result<File> {
    // Not for reading yet: to open a device may be to act on it, and to open a pipe is to wait.
    let named = match root {
        Some(root) => open_within(root, path)?,
        None => File::options().read(true).custom_flags(libc::O_PATH).open(path)?,
    };
    if !named.metadata()?.is_file() || MADE_UP.contains(&file_system(&named)?) {
        return Err(io::Error::other("it is no regular file"));
    }
    let again = format!("/proc/self/fd/{}", named.as_raw_fd());
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(again)
}

fn open_within(root: &Path, path: &Path) -> io::Result<File> {
    let root = File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(root)?;
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a valid open_how, as the kernel has it.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((libc::O_PATH | libc::O_CLOEXEC).unsigned_abs());
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path ends with 0 and the structure is as long as is said; both outlive the call, which writes to neither.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<libc::open_how>())
    };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just given it, to nobody else.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// The magic number of the file system that a file is on.
fn file_system(file: &File) -> io::Result<i64> {
    // SAFETY: all-zero is a valid statfs.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and the kernel writes one such structure.
    match unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut found) } {
        0 => Ok(found.f_type),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("async-observer-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("srv")).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_link_leads_to_where_the_process_sees_it_lead() {
        let root = Folder::new("links");
        std::fs::write(root.0.join("real"), b"its own").unwrap();
        symlink("/real", root.0.join("srv/absolute")).unwrap();
        symlink("../../../../real", root.0.join("srv/above")).unwrap();
        for name in ["/real", "/srv/absolute", "/srv/above"] {
            let mut text = String::new();
            open_regular(name.as_ref(), Some(&root.0)).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "its own", "{name}");
        }
        symlink("/etc/passwd", root.0.join("srv/outside")).unwrap();
        assert!(open_regular("/srv/outside".as_ref(), Some(&root.0)).is_err());
        assert!(open_regular(&root.0.join("srv/outside"), None).is_ok(), "as we see it");
    }

    #[test]
    fn what_waits_or_is_made_up_is_not_opened_whatever_leads_there() {
        let folder = Folder::new("pipes");
        let pipe = CString::new(folder.0.join("pipe").as_os_str().as_bytes()).unwrap();
        // SAFETY: the path ends with 0.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        let mut paths = vec![folder.0.clone(), folder.0.join("pipe"), folder.0.join("none")];
        for (name, to) in [("proc", "/proc/version"), ("sys", "/sys/kernel/uevent_seqnum"), ("device", "/dev/null")] {
            symlink(to, folder.0.join(name)).unwrap();
            assert!(std::fs::exists(to).unwrap(), "{to}");
            paths.push(folder.0.join(name));
        }
        for path in paths {
            assert!(open_regular(&path, None).is_err(), "{}", path.display());
        }
    }
}
