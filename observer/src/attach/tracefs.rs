//! tracefs: where trace events are defined, wherever it is mounted, and also where it is not.
//!
//! Does not know what an event is for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{AttachError, kernel};
use crate::model::Pid;

/// Where it usually is.
const MOUNTED: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const DEFINITIONS: &str = "uprobe_events";
const DEFINE: &str = "define trace events";
/// What our groups' names begin with.
const OURS: &str = "async_observer_";

/// The file system.
pub(super) struct Tracefs {
    /// Its root, by descriptor: a mount of our own has no name.
    root: PathBuf,
    #[expect(dead_code, reason = "held open for `root`")]
    held: OwnedFd,
    /// The list of definitions, held open: it is root's, and the right to open what is root's is given up after attaching.
    definitions: File,
    /// What the names of this process's groups begin with, up to its number: processes are counted anew in each pid
    /// namespace, so the namespace is part of it.
    namespace: String,
}

/// A definition's name: group and event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EventName {
    group: String,
    event: String,
}

impl Tracefs {
    /// Finds it, and removes what observers that were killed have left behind.
    pub(super) fn open() -> Result<Self, AttachError> {
        let failed = |source| AttachError::event_refused(DEFINE, source);
        let mounted = MOUNTED.iter().find(|folder| Path::new(folder).join(DEFINITIONS).exists());
        let held = match mounted {
            Some(folder) => File::open(folder).map(OwnedFd::from),
            None => kernel::private_mount(c"tracefs"),
        };
        let held = held.map_err(failed)?;
        let root = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
        let namespace = fs::metadata("/proc/self/ns/pid").map_err(failed)?.ino();
        // Also tells whether definitions are possible at all.
        let definitions = OpenOptions::new().append(true).open(root.join(DEFINITIONS));
        let definitions = definitions.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => AttachError::NoUprobeEvents { source },
            io::ErrorKind::PermissionDenied => {
                AttachError::NotPermitted { what: DEFINE, needs: super::error::DEFINITIONS, source }
            }
            _ => failed(source),
        })?;
        let tracefs = Self { root, held, definitions, namespace: format!("{OURS}{namespace:x}_") };
        // What bears our own number and is older than we are is not ours.
        static FIRST: Once = Once::new();
        let mut first = false;
        FIRST.call_once(|| first = true);
        tracefs.sweep(|pid| (pid.0 != std::process::id() || !first) && super::error::is_alive(pid)).map_err(failed)?;
        Ok(tracefs)
    }

    /// A name that nobody else has.
    pub(super) fn new_name(&self) -> EventName {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let event = format!("e{}", NEXT.fetch_add(1, Ordering::Relaxed));
        EventName { group: format!("{}{}", self.namespace, std::process::id()), event }
    }

    /// Defines an event at all these places of a file, at returns from there or at the places themselves.
    pub(super) fn define(&self, name: &EventName, file: &File, offsets: &[u64], at_return: bool) -> io::Result<()> {
        let mut definitions = &self.definitions;
        let kind = if at_return { 'r' } else { 'p' };
        let EventName { group, event } = name;
        let file = file.as_raw_fd();
        for offset in offsets {
            // Each line in one write: the kernel takes or refuses it as a whole.
            let line = format!("{kind}:{group}/{event} /proc/self/fd/{file}:{offset:#x}\n");
            definitions.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    /// The number by which perf knows the event.
    pub(super) fn id(&self, name: &EventName) -> io::Result<u64> {
        let text = fs::read_to_string(self.root.join("events").join(&name.group).join(&name.event).join("id"))?;
        text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Removes a definition. Refused as busy while somebody has the event open.
    pub(super) fn remove(&self, name: &EventName) -> io::Result<()> {
        (&self.definitions).write_all(format!("-:{}/{}\n", name.group, name.event).as_bytes())
    }

    /// Names of all events that observers of this pid namespace have defined, with the observer's number.
    pub(super) fn names(&self) -> io::Result<Vec<(Pid, EventName)>> {
        let mut names = Vec::new();
        for group in folders(&self.root.join("events"))? {
            let number = group.strip_prefix(&self.namespace).and_then(|number| number.parse().ok());
            let Some(pid) = number.map(Pid) else { continue };
            for event in folders(&self.root.join("events").join(&group))? {
                names.push((pid, EventName { group: group.clone(), event }));
            }
        }
        Ok(names)
    }

    /// Removes the definitions of observers that are not alive.
    fn sweep(&self, is_alive: impl Fn(Pid) -> bool) -> io::Result<()> {
        for (pid, name) in self.names()? {
            if !is_alive(pid)
                && let Err(error) = self.remove(&name)
                // Another observer that starts now does the same; and the dead one's descriptors may be just closing.
                && !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EBUSY))
            {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Names of the folders in a folder; none if it is gone.
fn folders(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}
