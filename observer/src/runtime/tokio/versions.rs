//! Which tokio it is, and what differs between versions, as rows.
//!
//! Does not know: how to find tasks. The version is told by the source paths that panic messages carry.

use std::collections::BTreeMap;

use memchr::memmem;

use crate::runtime::{Found, Version};
use crate::symbols::Image;

/// `major.minor.patch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(u32, u32, u32);

/// What is alike in a span of versions, and where that was checked.
#[derive(Debug)]
pub(super) struct LayoutRow {
    /// First version of the span.
    from: Number,
    /// Offset of the state word in the header.
    pub(super) state: u32,
    /// Offset of the queue link.
    pub(super) queue_next: u32,
    /// Offset of the vtable pointer.
    pub(super) vtable: u32,
    /// Offset of the owning list's id.
    pub(super) owner: u32,
    /// Smallest alignment of a cell.
    pub(super) align: u32,
    /// `id_offset - scheduler_offset` of a task on a scheduler: its `S` is an `Arc`, one word, in the source of every
    /// version read (`impl Schedule for Arc<..>` in `current_thread`, `multi_thread` and `local`). A blocking task's
    /// `S` has 0 words (`NoopSchedule` and `BlockingSchedule`, 1.23 to 1.36), 2 (hooks, 1.44 on) or 2 to 4 (with
    /// `test-util`); 1 only with `test-util` and without `rt-multi-thread` before the hooks, which nobody ships.
    pub(super) scheduler_arc: u32,
    /// `Stage` is `repr(C)`: its first 32 bits are its variant.
    pub(super) stage_tagged: bool,
    /// Versions whose source was read, or whose binaries were measured, for this row.
    #[expect(dead_code, reason = "evidence, for whoever adds the next row")]
    verified: &'static [&'static str],
}

/// By first version. In all of them the vtable is seven functions (poll, schedule, dealloc, try_read_output,
/// drop_join_handle_slow, drop_abort_handle, shutdown), then the offsets of trailer, scheduler and id, and with
/// `tokio_unstable` (1.46 on) that of the spawn location.
///
/// A return probe on poll, shutdown, drop_join_handle_slow or drop_abort_handle kills a target whose panic unwinds
/// through it. In the source of every version verified here (`runtime/task/harness.rs`) `catch_unwind` stands below
/// them around polling the future, dropping it, storing and dropping its output, waking the join handle and the
/// terminate hook. What is left uncaught is a panic in the destructor of a custom `Waker` or of a panic's payload.
static LAYOUTS: [LayoutRow; 3] = [
    LayoutRow {
        from: Number(1, 23, 0),
        state: 0,
        queue_next: 8,
        vtable: 16,
        owner: 24,
        // The cell itself asks for 8; allocators give at least 16 for its size.
        align: 16,
        scheduler_arc: 8,
        stage_tagged: false,
        verified: &["1.23.0", "1.28.2"],
    },
    LayoutRow {
        from: Number(1, 29, 0),
        state: 0,
        queue_next: 8,
        vtable: 16,
        owner: 24,
        align: 128,
        scheduler_arc: 8,
        stage_tagged: false,
        verified: &["1.29.1", "1.36.0", "1.39.3"],
    },
    LayoutRow {
        from: Number(1, 40, 0),
        state: 0,
        queue_next: 8,
        vtable: 16,
        owner: 24,
        align: 128,
        scheduler_arc: 8,
        stage_tagged: true,
        verified: &["1.40.0", "1.44.2", "1.54.1"],
    },
];

/// Folders and files right under tokio's `src`: what tells its path from that of another crate with `tokio` in its name.
const SOURCES: [&str; 16] = [
    "runtime", "task", "sync", "io", "time", "net", "util", "loom", "macros", "fs", "process", "signal", "future",
    "park", "coop", "lib.rs",
];

/// Version numbers longer than this are not looked at.
const LONGEST_NUMBER: usize = 16;

/// Every tokio version that a source path in the image names, with one such path each.
pub(super) fn named(image: &Image<'_>) -> BTreeMap<Number, String> {
    let finder = memmem::Finder::new(b"tokio-");
    let mut found = BTreeMap::new();
    for segment in image.segments().iter().filter(|s| !s.is_executable()) {
        let bytes = image.bytes().get(segment.file()).unwrap_or_default();
        for at in finder.find_iter(bytes) {
            if let Some((number, path)) = path_at(bytes, at) {
                found.entry(number).or_insert(path);
            }
        }
    }
    found
}

/// The version and the path of which `tokio-` at `at` is the crate's folder.
fn path_at(bytes: &[u8], at: usize) -> Option<(Number, String)> {
    // A crate's folder stands behind a separator; `__` is how Bazel names external ones.
    let before = bytes.get(..at)?;
    if !(before.ends_with(b"/") || before.ends_with(b"\\") || before.ends_with(b"__")) {
        return None;
    }
    let rest = bytes.get(at + b"tokio-".len()..)?;
    let end = rest.iter().take(LONGEST_NUMBER).position(|b| matches!(b, b'/' | b'\\'))?;
    let (number, path) = rest.split_at_checked(end)?;
    let number = Number::parse(std::str::from_utf8(number).ok()?)?;
    let inside = path.get(1..)?.strip_prefix(b"src").filter(|rest| matches!(rest.first(), Some(b'/' | b'\\')))?;
    let source = SOURCES.iter().find(|s| inside.get(1..).is_some_and(|rest| rest.starts_with(s.as_bytes())))?;
    Some((number, format!("tokio-{number}/src/{source}")))
}

/// The newest version named that can be observed. An image holds one copy of tokio 1; older majors may stand beside it.
pub(super) fn supported(named: &BTreeMap<Number, String>) -> Option<Version> {
    let (number, path) = named.range(LAYOUTS[0].from..Number(2, 0, 0)).next_back()?;
    Some(Version { number: number.to_string(), evidence: path.clone() })
}

/// Whether the newest tokio named is older than the first known layout. Asked before any vtable is looked for: a probe
/// on what only looks like one would sit on the wrong function.
pub(super) fn too_old(named: &BTreeMap<Number, String>) -> Option<Found> {
    let oldest_supported = LAYOUTS[0].from;
    let (number, path) = named.last_key_value().filter(|(number, _)| **number < oldest_supported)?;
    Some(Found::TooOld {
        version: number.to_string(),
        reason: format!(
            "its tokio is {number} (from the source path {path:?} in it); the task layout is known from \
             {oldest_supported} on"
        ),
    })
}

/// The row of a version; where none is known, the oldest, which holds for all but for a weaker alignment.
pub(super) fn layout(version: Option<&Version>) -> &'static LayoutRow {
    let number = version.and_then(|v| Number::parse(&v.number));
    let row = number.and_then(|number| LAYOUTS.iter().rev().find(|row| row.from <= number));
    row.unwrap_or(&LAYOUTS[0])
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| part.parse::<u32>().ok());
        let number = Self(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(number)
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Option<(String, String)> {
        let at = path.find("tokio-")?;
        path_at(path.as_bytes(), at).map(|(number, path)| (number.to_string(), path))
    }

    #[test]
    fn the_crates_own_folder_tells_the_version() {
        let expected = Some(("1.54.1".into(), "tokio-1.54.1/src/runtime".into()));
        assert_eq!(read("/root/.cargo/registry/src/index-0a1b/tokio-1.54.1/src/runtime/task/core.rs"), expected);
        assert_eq!(read("external/crates__tokio-1.54.1/src/runtime/park.rs"), expected);
        assert_eq!(read("C:\\cargo\\registry\\tokio-1.54.1\\src\\runtime\\park.rs"), expected);
    }

    #[test]
    fn other_crates_with_tokio_in_their_name_tell_nothing() {
        assert_eq!(read("/registry/hyper-tokio-0.4.0/src/runtime/mod.rs"), None);
        assert_eq!(read("/registry/tokio-util-0.7.1/src/sync/mod.rs"), None);
        assert_eq!(read("/registry/tokio-3.0.6/src/tungstenite.rs"), None);
        assert_eq!(read("/registry/tokio-1.54/src/runtime/mod.rs"), None);
        assert_eq!(read("tokio-1.54.1/src/runtime/mod.rs"), None, "nothing shows that the folder's name starts here");
    }

    #[test]
    fn an_old_tokio_is_named_with_its_version_and_the_reason() {
        let named = BTreeMap::from([(Number(1, 22, 0), "tokio-1.22.0/src/runtime".to_owned())]);
        let Some(Found::TooOld { version, reason }) = too_old(&named) else { panic!("1.22 is too old") };
        assert_eq!(version, "1.22.0");
        assert!(reason.contains("known from 1.23.0 on"), "{reason}");
        let both = BTreeMap::from([(Number(0, 2, 25), String::new()), (Number(1, 23, 0), String::new())]);
        assert!(too_old(&both).is_none(), "one copy is supported");
        assert!(too_old(&BTreeMap::new()).is_none(), "nothing tells the version");
    }

    #[test]
    fn the_alignment_follows_the_version() {
        let align = |text: &str| layout(Some(&Version { number: text.into(), evidence: String::new() })).align;
        assert_eq!((align("1.23.0"), align("1.28.2"), align("1.29.0"), align("1.54.1")), (16, 16, 128, 128));
        assert_eq!(layout(None).align, 16);
    }
}
