//! The folder of entries: who may write to it, how a file is read and written in it, how much it may hold.
//!
//! Does not know: what is in the files. All paths go through the folder as it was opened and checked, so that nobody puts
//! another in its place later. Several observers may use it at once: a file is there whole or not at all, and one that
//! another has removed was not needed.

use std::fs::{DirBuilder, File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::entry::HEAD;
use super::error::{CacheError, Stale};

/// Entries end with this. What does not is not ours, and is left alone.
const ENDING: &str = ".facts";
/// A file that is being written begins with this.
const NEW: &str = ".new-";
/// A use is noted if the last noted one is older: not every look writes to the disk.
const NOTED: Duration = Duration::from_secs(3600);
/// Whoever began to write a file that long ago does not write any more.
const GIVEN_UP: Duration = Duration::from_secs(3600);
/// What was not used for so long is removed when something is written, if it is another version's.
const OUTLIVED: Duration = Duration::from_secs(7 * 24 * 3600);
/// A file takes no less room on the disk.
const BLOCK: u64 = 4096;
/// More files than this are not looked at.
const MOST_LISTED: usize = 1 << 17;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all entries.
    pub total: u64,
    /// Bytes of one.
    pub entry: u64,
    /// Entries: a host has thousands of images with nothing in them.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { total: 256 << 20, entry: 32 << 20, entries: 16 << 10 }
    }
}

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    open: File,
    owner: u32,
    limits: Limits,
    /// What is in it as far as this process knows; `None` before the first write.
    held: Option<Held>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: u64,
    entries: usize,
}

impl Folder {
    /// Opens the folder, made if it is not there.
    pub(super) fn open(path: &Path, owner: u32, limits: Limits) -> Result<Self, CacheError> {
        let open = opened(path, owner)?;
        Ok(Self { path: path.to_owned(), open, owner, limits, held: None })
    }

    /// Whether an entry may have this size.
    pub(super) fn takes(&self, entry: &[u8]) -> bool {
        entry.len() as u64 <= self.limits.entry
    }

    /// A file's content, and when it was used last; `None` where there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<(Vec<u8>, SystemTime)>, Stale> {
        let unreadable = |error: io::Error| Stale::Unreadable(error.kind());
        // A pipe in its place must not hold us.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(self.place(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let found = file.metadata().map_err(unreadable)?;
        let size = found.size();
        if !found.is_file() || found.uid() != self.owner || !(HEAD as u64..=self.limits.entry).contains(&size) {
            self.remove(name);
            return Err(Stale::NotOurs);
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(self.limits.entry).read_to_end(&mut bytes).map_err(unreadable)?;
        Ok(Some((bytes, found.modified().unwrap_or(SystemTime::UNIX_EPOCH))))
    }

    /// Notes that an entry was of use. Where that fails it will be removed earlier than others.
    pub(super) fn note_use(&self, name: &str, last: SystemTime) {
        let now = SystemTime::now();
        if now.duration_since(last).is_ok_and(|age| age < NOTED) {
            return;
        }
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(self.place(name));
        let _ = file.and_then(|file| file.set_times(FileTimes::new().set_modified(now)));
    }

    /// Removes a file. What cannot be removed is refused again the next time.
    pub(super) fn remove(&self, name: &str) {
        let _ = std::fs::remove_file(self.place(name));
    }

    /// Writes a file, in one step for whoever reads it, and makes room if there is too much.
    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), CacheError> {
        if self.held.is_none() {
            self.held = Some(self.tidy(name)?);
        }
        match self.put(name, bytes) {
            // Somebody deleted the folder: it may be made again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.open = opened(&self.path, self.owner)?;
                self.held = Some(Held { bytes: 0, entries: 0 });
                self.put(name, bytes).map_err(self.failed("write to"))?;
            }
            put => put.map_err(self.failed("write to"))?,
        }
        let Held { bytes: before, entries } = self.held.unwrap_or(Held { bytes: 0, entries: 0 });
        let held = Held { bytes: before + room(bytes.len() as u64), entries: entries + 1 };
        let full = held.bytes > self.limits.total || held.entries > self.limits.entries;
        self.held = Some(if full { self.tidy(name)? } else { held });
        Ok(())
    }

    /// A new file takes the place of the old one. It is not synced: what a crash leaves of it does not pass its checksum.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Nobody else writes here, and who does at the same moment with the same number does not get the file.
        let new = self.folder().join(format!("{NEW}{}-{count}-{now}", std::process::id()));
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&new);
        let put =
            file.and_then(|mut file| file.write_all(bytes)).and_then(|()| std::fs::rename(&new, self.place(name)));
        if put.is_err() {
            // It may not even have been made.
            let _ = std::fs::remove_file(&new);
        }
        put
    }

    /// Removes what nobody needs and, if there is too much, what was not used for longest. Gives what is left.
    fn tidy(&self, own: &str) -> Result<Held, CacheError> {
        let now = SystemTime::now();
        // The part of a name that tells the version.
        let tag = own.split('-').next().unwrap_or_default();
        let mut kept: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        let listed = std::fs::read_dir(self.folder()).map_err(self.failed("list"))?;
        for file in listed.take(MOST_LISTED) {
            let file = file.map_err(self.failed("list"))?;
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_new = name.starts_with(NEW);
            // Who is not there any more was removed by another.
            let Ok(found) = file.metadata() else { continue };
            if !(is_new || name.ends_with(ENDING)) || !found.is_file() {
                continue;
            }
            let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let unused = now.duration_since(used).unwrap_or_default();
            let limit = if is_new { GIVEN_UP } else { OUTLIVED };
            let expendable = is_new || !name.starts_with(tag);
            if expendable && unused > limit {
                // As everywhere here: what stays is met again.
                let _ = std::fs::remove_file(file.path());
            } else if !is_new {
                kept.push((used, room(found.size()), file.path()));
            }
        }
        let held = |kept: &[(SystemTime, u64, PathBuf)]| Held {
            bytes: kept.iter().map(|(_, bytes, _)| bytes).sum(),
            entries: kept.len(),
        };
        let all = held(&kept);
        if all.bytes <= self.limits.total && all.entries <= self.limits.entries {
            return Ok(all);
        }
        // Down to three quarters, so that not every write lists the folder.
        kept.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let mut left = Held { bytes: 0, entries: 0 };
        let stay = kept.iter().take_while(|(_, bytes, _)| {
            let more = Held { bytes: left.bytes + bytes, entries: left.entries + 1 };
            let fits = more.bytes <= self.limits.total / 4 * 3 && more.entries <= self.limits.entries / 4 * 3;
            if fits {
                left = more;
            }
            fits
        });
        let stay = stay.count();
        kept.drain(stay..).for_each(|(_, _, path)| drop(std::fs::remove_file(path)));
        Ok(left)
    }

    /// The folder that was opened, whatever has its name now.
    fn folder(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.open.as_raw_fd()))
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}{ENDING}"))
    }

    fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> CacheError + use<> {
        let path = self.path.clone();
        move |source| CacheError::Io { what, path: path.clone(), source }
    }
}

/// Room that a file of this size takes.
fn room(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK).max(BLOCK)
}

fn opened(path: &Path, owner: u32) -> Result<File, CacheError> {
    let failed = |what| move |source| CacheError::Io { what, path: path.to_owned(), source };
    // Where the place itself is taken, the next step tells by what.
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if std::fs::symlink_metadata(path).is_err() => return Err(failed("make")(error)),
        Ok(()) | Err(_) => {}
    }
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let open = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(open) => open,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
            return Err(CacheError::NotAFolder(path.to_owned()));
        }
        Err(error) => return Err(failed("open")(error)),
    };
    let found = open.metadata().map_err(failed("look at"))?;
    if found.uid() != owner {
        return Err(CacheError::NotOurs { path: path.to_owned(), owner: found.uid(), us: owner });
    }
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(CacheError::Shared { path: path.to_owned(), mode });
    }
    Ok(open)
}
