//! What one entry of the side band says of a process.
//!
//! Pure. The layouts mirror the comments of `enum perf_event_type` in Linux's `include/uapi/linux/perf_event.h`, for
//! an event opened as [`crate::perf::Source::SideBand`] is. Does not know: where the bytes come from.

use crate::model::{AddressRange, FileId, FileOffset, Ns, Pid, ProcAddr, Tid, word_at};
use crate::perf::{Entry, Kind};

/// Something that happened to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// When, on CLOCK_MONOTONIC.
    pub at: Ns,
    /// What.
    pub change: Change,
}

/// What happened. Numbers are those of our own pid namespace; who is not in it is not told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A process began, as a copy of another, whose mappings it has: they are not told of again.
    Forked {
        /// Whose copy it is.
        parent: Pid,
        /// The new one.
        child: Pid,
    },
    /// A process runs another program from now on. Its earlier mappings are gone, its new ones are told of next. Where
    /// another thread than the leader did it, the leader's end was told of before, and the thread goes on under the
    /// leader's number: the process has not ended.
    Execed {
        /// The process.
        pid: Pid,
    },
    /// A thread ended. The process has ended when all its threads have.
    Exited {
        /// The process.
        pid: Pid,
        /// The thread, in our own pid namespace too.
        tid: Tid,
        /// It is the process's first thread.
        leader: bool,
    },
    /// A process mapped a part of a file as code, or made a part that was mapped executable.
    Mapped {
        /// The process.
        pid: Pid,
        /// Where.
        range: AddressRange,
        /// Offset in the file of the first byte.
        offset: FileOffset,
        /// Which file. `/proc/PID/maps` says the same, but for overlayfs in Linux 6.8 to 6.17 without the fix
        /// (fa4f4bae893f): there, maps names the overlay's device and this the layer's.
        file: FileId,
        /// Path as the kernel names it from the process's own root directory; ` (deleted)` is behind it where that is
        /// so; `//toolong` or `//enomem` where it had no room. Bytes that are not UTF-8 are replaced.
        path: String,
    },
    /// Entries had no room: what they said is not known.
    Lost {
        /// How many.
        count: u64,
    },
}

/// An entry that does not read as the kernel's header says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fields are missing.
    #[error("a {kind:?} entry of {length} bytes is too short")]
    Short {
        /// What it is.
        kind: Kind,
        /// What there is behind the header.
        length: usize,
    },
    /// The range of a mapping is empty or ends beyond all addresses.
    #[error("a mapping of {length} bytes at {start}")]
    Range {
        /// Where it would begin.
        start: ProcAddr,
        /// How long it would be.
        length: u64,
    },
    /// The path of a mapping has no end.
    #[error("a mapping's path has no end")]
    Endless,
    /// A build id stands where device and inode should.
    #[error("a mapping with a build id, which was not asked for")]
    BuildId,
}

/// `PERF_RECORD_MISC_COMM_EXEC`: the name comes from an exec.
const COMM_EXEC: u16 = 1 << 13;
/// `PERF_RECORD_MISC_MMAP_BUILD_ID`.
const MMAP_BUILD_ID: u16 = 1 << 14;
/// `PROT_EXEC` of mmap(2).
const PROT_EXEC: u32 = 4;
/// What every entry ends in (`struct sample_id`): pid, tid (4 bytes each), time (8), CPU and a reserved word (4 each).
const TRAILER: usize = 24;
/// Where the time is in it.
const TIME_AT: usize = 8;
/// `PERF_RECORD_MMAP2` up to its path.
const PATH_AT: usize = 64;

/// Reads an entry; `None` for what is no news: a thread began, a process named itself, memory without a file or
/// without code was mapped, somebody outside of our pid namespace did something.
pub fn parse(entry: &Entry<'_>) -> Result<Option<News>, Malformed> {
    let short = Malformed::Short { kind: entry.kind, length: entry.body.len() };
    let fields = Fields::of(entry.body).ok_or(short.clone())?;
    let change = match entry.kind {
        Kind::Fork => fields.forked(),
        Kind::Exit => fields.exited(),
        Kind::Comm => fields.named(entry.misc),
        Kind::Lost => fields.u64(8).map(|count| Some(Change::Lost { count })),
        Kind::Mmap2 if entry.misc & MMAP_BUILD_ID != 0 => return Err(Malformed::BuildId),
        Kind::Mmap2 => match fields.mapped() {
            Some(mapped) => Some(mapped?),
            None => None,
        },
        Kind::Sample | Kind::Throttle | Kind::Other(_) => Some(None),
    };
    Ok(change.ok_or(short)?.map(|change| News { at: fields.at, change }))
}

/// An entry's own bytes, without the trailer, and the trailer's time.
struct Fields<'a> {
    own: &'a [u8],
    at: Ns,
}

impl<'a> Fields<'a> {
    fn of(body: &'a [u8]) -> Option<Self> {
        let (own, trailer) = body.split_at_checked(body.len().checked_sub(TRAILER)?)?;
        let time = Fields { own: trailer, at: Ns(0) }.u64(TIME_AT)?;
        Some(Self { own, at: Ns(time) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.own.get(at..at + 4)?.try_into().ok()?))
    }

    fn u64(&self, at: usize) -> Option<u64> {
        word_at(self.own, at)
    }

    /// `pid, ppid, tid, ptid, time`. The outer `None`: too short; the inner: no news.
    fn forked(&self) -> Option<Option<Change>> {
        let (child, parent, _) = (self.u32(0)?, self.u32(4)?, self.u32(12)?);
        // A thread's process is its parent's. A parent outside of our pid namespace (0) is no one we know.
        Some((is_ours(child) && child != parent).then_some(Change::Forked { parent: Pid(parent), child: Pid(child) }))
    }

    /// As a fork's.
    fn exited(&self) -> Option<Option<Change>> {
        let (pid, tid) = (self.u32(0)?, self.u32(8)?);
        let exited = Change::Exited { pid: Pid(pid), tid: Tid(tid), leader: pid == tid };
        Some(is_ours(pid).then_some(exited))
    }

    /// `pid, tid, name`.
    fn named(&self, misc: u16) -> Option<Option<Change>> {
        let (pid, _) = (self.u32(0)?, self.u32(4)?);
        Some((is_ours(pid) && misc & COMM_EXEC != 0).then_some(Change::Execed { pid: Pid(pid) }))
    }

    /// `pid, tid, addr, len, pgoff` (8 bytes each from here), `maj, min` (4), `ino, generation` (8), `prot, flags` (4),
    /// path, padded with zeroes to 8 bytes.
    fn mapped(&self) -> Option<Result<Option<Change>, Malformed>> {
        let (pid, start, length, offset) = (self.u32(0)?, self.u64(8)?, self.u64(16)?, self.u64(24)?);
        let file = FileId { major: self.u32(32)?, minor: self.u32(36)?, inode: self.u64(40)? };
        let protection = self.u32(56)?;
        let path = self.own.get(PATH_AT..)?;
        if !is_ours(pid) || file.inode == 0 || protection & PROT_EXEC == 0 {
            return Some(Ok(None));
        }
        let Some(end) = start.checked_add(length).filter(|&end| end > start) else {
            return Some(Err(Malformed::Range { start: ProcAddr(start), length }));
        };
        let Some(path) = path.iter().position(|&byte| byte == 0).map(|end| &path[..end]) else {
            return Some(Err(Malformed::Endless));
        };
        Some(Ok(Some(Change::Mapped {
            pid: Pid(pid),
            range: AddressRange { start: ProcAddr(start), end: ProcAddr(end) },
            offset: FileOffset(offset),
            file,
            path: String::from_utf8_lossy(path).into_owned(),
        })))
    }
}

/// The kernel writes 0 for a process that our pid namespace does not see, and all ones where it has no number any more.
fn is_ours(pid: u32) -> bool {
    pid != 0 && pid != u32::MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NUMBERS: [Kind; 8] =
        [Kind::Mmap2, Kind::Lost, Kind::Comm, Kind::Exit, Kind::Fork, Kind::Sample, Kind::Throttle, Kind::Other(77)];

    /// An entry's body: the words (4 bytes each), the text behind them, and a trailer with this time.
    fn body(words: &[u32], text: &[u8], time: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(text);
        bytes.extend([[1u8; 4], [2; 4]].concat());
        bytes.extend(time.to_ne_bytes());
        bytes.extend([3; 8]);
        bytes
    }

    fn read(kind: Kind, misc: u16, body: &[u8]) -> Result<Option<News>, Malformed> {
        parse(&Entry { kind, misc, body })
    }

    fn change(kind: Kind, misc: u16, body: &[u8]) -> Option<Change> {
        read(kind, misc, body).unwrap().map(|news| news.change)
    }

    /// A mapping of `0x7f00_0000_1000-0x7f00_0000_3000` at offset `0x2000` of the file 8:1 4711 by process 42.
    fn mapping(protection: u32, path: &[u8]) -> Vec<u8> {
        let words = [42, 43, 0x1000, 0x7f00, 0x2000, 0, 0x2000, 0, 8, 1, 4711, 0, 9, 0, protection, 2];
        body(&words, path, 77)
    }

    #[test]
    fn a_process_that_forks_is_told_with_its_child_and_the_moment() {
        let fork = body(&[8, 7, 8, 7, 0, 0], b"", 1234);
        let expected = News { at: Ns(1234), change: Change::Forked { parent: Pid(7), child: Pid(8) } };
        assert_eq!(read(Kind::Fork, 0, &fork), Ok(Some(expected)));
    }

    #[test]
    fn a_thread_that_begins_is_no_news() {
        assert_eq!(change(Kind::Fork, 0, &body(&[7, 7, 9, 7, 0, 0], b"", 1)), None);
    }

    #[test]
    fn a_thread_that_ends_is_told_with_whether_it_led() {
        let exited = |tid| Some(Change::Exited { pid: Pid(7), tid: Tid(tid), leader: tid == 7 });
        assert_eq!(change(Kind::Exit, 0, &body(&[7, 1, 7, 1, 0, 0], b"", 1)), exited(7));
        assert_eq!(change(Kind::Exit, 0, &body(&[7, 1, 9, 1, 0, 0], b"", 1)), exited(9));
    }

    #[test]
    fn a_name_is_news_only_from_an_exec() {
        let name = body(&[7, 7], b"sleep\0\0\0", 1);
        assert_eq!(change(Kind::Comm, COMM_EXEC, &name), Some(Change::Execed { pid: Pid(7) }));
        assert_eq!(change(Kind::Comm, 0, &name), None);
    }

    #[test]
    fn mapped_code_is_told_with_range_offset_file_and_path() {
        let expected = Change::Mapped {
            pid: Pid(42),
            range: AddressRange { start: ProcAddr(0x7f00_0000_1000), end: ProcAddr(0x7f00_0000_3000) },
            offset: FileOffset(0x2000),
            file: FileId { major: 8, minor: 1, inode: 4711 },
            path: "/srv/app (deleted)".into(),
        };
        assert_eq!(change(Kind::Mmap2, 2, &mapping(5, b"/srv/app (deleted)\0\0\0\0\0\0")), Some(expected));
    }

    #[test]
    fn memory_without_code_or_without_a_file_is_no_news() {
        assert_eq!(change(Kind::Mmap2, 0, &mapping(1, b"/srv/app\0\0\0\0\0\0\0\0")), None);
        let mut vdso = mapping(5, b"[vdso]\0\0");
        vdso[40..48].fill(0);
        assert_eq!(change(Kind::Mmap2, 0, &vdso), None);
    }

    #[test]
    fn a_mapping_that_cannot_be_is_malformed() {
        let mut endless = mapping(5, b"12345678");
        assert_eq!(read(Kind::Mmap2, 0, &endless), Err(Malformed::Endless));
        endless[16..24].fill(0);
        let start = ProcAddr(0x7f00_0000_1000);
        assert_eq!(read(Kind::Mmap2, 0, &endless), Err(Malformed::Range { start, length: 0 }));
        endless[16..24].fill(0xff);
        assert_eq!(read(Kind::Mmap2, 0, &endless), Err(Malformed::Range { start, length: u64::MAX }));
        assert_eq!(read(Kind::Mmap2, MMAP_BUILD_ID, &endless), Err(Malformed::BuildId));
    }

    #[test]
    fn a_loss_is_told_with_its_count() {
        assert_eq!(change(Kind::Lost, 0, &body(&[1, 0, 900, 0], b"", 1)), Some(Change::Lost { count: 900 }));
    }

    #[test]
    fn who_is_not_in_our_pid_namespace_is_not_told_of() {
        for stranger in [0, u32::MAX] {
            assert_eq!(change(Kind::Exit, 0, &body(&[stranger, 1, stranger, 1, 0, 0], b"", 1)), None);
            assert_eq!(change(Kind::Fork, 0, &body(&[stranger, 7, stranger, 7, 0, 0], b"", 1)), None);
            assert_eq!(change(Kind::Comm, COMM_EXEC, &body(&[stranger, stranger], b"a\0\0\0\0\0\0\0", 1)), None);
        }
    }

    #[test]
    fn a_child_that_came_into_our_pid_namespace_from_outside_is_told_of() {
        let expected = Change::Forked { parent: Pid(0), child: Pid(8) };
        assert_eq!(change(Kind::Fork, 0, &body(&[8, 0, 8, 0, 0, 0], b"", 1)), Some(expected));
    }

    #[test]
    fn an_entry_cut_short_is_malformed_at_every_length() {
        let whole: [(Kind, u16, Vec<u8>, usize); 4] = [
            (Kind::Fork, 0, body(&[8, 7, 8, 7], b"", 1), 16),
            (Kind::Comm, COMM_EXEC, body(&[7, 7], b"", 1), 8),
            (Kind::Lost, 0, body(&[1, 0, 9, 0], b"", 1), 16),
            (Kind::Mmap2, 0, mapping(5, b"/a\0\0\0\0\0\0"), PATH_AT + 3),
        ];
        for (kind, misc, bytes, own) in whole {
            assert!(read(kind, misc, &bytes).unwrap().is_some());
            for length in 0..own {
                let mut cut = bytes[..length].to_vec();
                cut.extend(&bytes[bytes.len() - TRAILER..]);
                assert!(read(kind, misc, &cut).is_err(), "{kind:?} {length}");
            }
            assert!(read(kind, misc, &bytes[bytes.len() - TRAILER + 1..]).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(kind in 0usize..8, misc: u16, bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            let _ = read(NUMBERS[kind], misc, &bytes);
        }

        #[test]
        fn every_path_and_number_comes_out_as_it_went_in(
            pid in 1u32..u32::MAX, start in 0u64..1 << 47, length in 1u64..1 << 40, inode in 1u64.., path in "[^\0]{0,60}",
        ) {
            let mut bytes = mapping(7, &[path.as_bytes(), &[0]].concat());
            bytes[..4].copy_from_slice(&pid.to_ne_bytes());
            for (at, value) in [(8, start), (16, length), (40, inode)] {
                bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
            }
            let range = AddressRange { start: ProcAddr(start), end: ProcAddr(start + length) };
            let file = FileId { major: 8, minor: 1, inode };
            let expected = Change::Mapped { pid: Pid(pid), range, offset: FileOffset(0x2000), file, path };
            prop_assert_eq!(change(Kind::Mmap2, 0, &bytes), Some(expected));
        }
    }
}
