//! `/proc/PID/maps`: which ranges of addresses a process has, with which rights, backed by what.
//!
//! Does not know: where the text comes from, what lies in the ranges.

use crate::model::{AddressRange, FileId, FileOffset, ProcAddr};

/// Rights of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Permissions {
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub execute: bool,
    /// Writes reach others who map it; otherwise they are the process's own.
    pub shared: bool,
}

/// What stands behind a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Backing {
    /// Memory without a name.
    Anonymous,
    /// The `brk` heap.
    Heap,
    /// The first thread's stack.
    Stack,
    /// Another name in brackets: `[vdso]`, `[vvar]`, `[anon:...]`.
    Special(String),
    /// A file, which may have no name any more.
    File {
        /// Path as the kernel names it in the process's own mount namespace, without the mark of deletion.
        path: String,
        /// The name is gone or belongs to another file now.
        deleted: bool,
    },
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Where.
    pub range: AddressRange,
    /// With which rights.
    pub permissions: Permissions,
    /// Offset in the file of the first byte.
    pub offset: FileOffset,
    /// The file; `None` for memory without one.
    pub file: Option<FileId>,
    /// What stands behind it.
    pub backing: Backing,
}

impl Mapping {
    /// Memory that only this process writes: heaps, stacks, statics.
    pub fn is_private_writable(&self) -> bool {
        self.permissions.read && self.permissions.write && !self.permissions.shared
    }
}

/// A line that does not read as `proc_pid_maps(5)` says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {field}")]
pub struct MapsError {
    /// Which line, from 1.
    pub line: usize,
    /// The field that could not be read.
    pub field: &'static str,
}

/// All lines of the file's text, in order of address.
pub fn parse_maps(text: &str) -> Result<Vec<Mapping>, MapsError> {
    text.lines()
        .enumerate()
        .map(|(index, line)| parse_line(line).map_err(|field| MapsError { line: index + 1, field }))
        .collect()
}

/// One line; the field that could not be read otherwise.
pub(super) fn parse_line(line: &str) -> Result<Mapping, &'static str> {
    let (range, rest) = field(line).ok_or("range")?;
    let (permissions, rest) = field(rest).ok_or("permissions")?;
    let (offset, rest) = field(rest).ok_or("offset")?;
    let (device, rest) = field(rest).ok_or("device")?;
    let (inode, rest) = field(rest).ok_or("inode")?;

    let (start, end) = range.split_once('-').ok_or("range")?;
    let range = AddressRange { start: ProcAddr(hex(start, "range")?), end: ProcAddr(hex(end, "range")?) };
    if range.is_empty() {
        return Err("range");
    }
    let (major, minor) = device.split_once(':').ok_or("device")?;
    let major = u32::from_str_radix(major, 16).map_err(|_| "device")?;
    let minor = u32::from_str_radix(minor, 16).map_err(|_| "device")?;
    let inode: u64 = inode.parse().map_err(|_| "inode")?;
    Ok(Mapping {
        range,
        permissions: parse_permissions(permissions).ok_or("permissions")?,
        offset: FileOffset(hex(offset, "offset")?),
        file: (inode != 0).then_some(FileId { major, minor, inode }),
        backing: parse_backing(rest.trim_start_matches(' ')),
    })
}

/// The first blank-separated field and what follows it.
fn field(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(' ');
    let end = text.find(' ').unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn hex(text: &str, field: &'static str) -> Result<u64, &'static str> {
    u64::from_str_radix(text, 16).map_err(|_| field)
}

fn parse_permissions(text: &str) -> Option<Permissions> {
    let &[read, write, execute, sharing] = text.as_bytes() else { return None };
    Some(Permissions {
        read: flag(read, b'r')?,
        write: flag(write, b'w')?,
        execute: flag(execute, b'x')?,
        shared: match sharing {
            b's' => true,
            b'p' => false,
            _ => return None,
        },
    })
}

fn flag(found: u8, set: u8) -> Option<bool> {
    (found == set || found == b'-').then_some(found == set)
}

fn parse_backing(text: &str) -> Backing {
    match text {
        "" => Backing::Anonymous,
        "[heap]" => Backing::Heap,
        "[stack]" => Backing::Stack,
        name if name.starts_with('[') => Backing::Special(name.to_owned()),
        name => {
            let bare = name.strip_suffix(" (deleted)");
            // A line break in a path is the one character that the kernel escapes here.
            let path = bare.unwrap_or(name).replace("\\012", "\n");
            Backing::File { path, deleted: bare.is_some() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(line: &str) -> Mapping {
        parse_maps(line).unwrap().remove(0)
    }

    #[test]
    fn reads_every_field_of_a_mapped_file() {
        let mapping = one("561523fc1000-561523fc6000 r-xp 00002000 fe:0a 247774                     /usr/bin/sleep\n");
        let expected = Mapping {
            range: AddressRange { start: ProcAddr(0x5615_23fc_1000), end: ProcAddr(0x5615_23fc_6000) },
            permissions: Permissions { read: true, write: false, execute: true, shared: false },
            offset: FileOffset(0x2000),
            file: Some(FileId { major: 0xfe, minor: 0x0a, inode: 247_774 }),
            backing: Backing::File { path: "/usr/bin/sleep".into(), deleted: false },
        };
        assert_eq!(mapping, expected);
    }

    #[test]
    fn tells_heap_stack_special_and_nameless_memory_apart() {
        let head = "7f0000000000-7f0000001000 rw-p 00000000 00:00 0";
        assert_eq!(one(&format!("{head} \n")).backing, Backing::Anonymous);
        assert_eq!(one(head).backing, Backing::Anonymous);
        assert_eq!(one(&format!("{head}    [heap]")).backing, Backing::Heap);
        assert_eq!(one(&format!("{head}    [stack]")).backing, Backing::Stack);
        assert_eq!(
            one(&format!("{head}    [anon:tokio arena]")).backing,
            Backing::Special("[anon:tokio arena]".into())
        );
        assert!(one(head).is_private_writable());
        assert!(!one(&head.replace("rw-p", "rw-s")).is_private_writable());
    }

    #[test]
    fn a_deleted_file_keeps_its_path_without_the_mark() {
        let mapping = one("1000-2000 r-xp 0 fe:00 12 /srv/my app (old) (deleted)");
        assert_eq!(mapping.backing, Backing::File { path: "/srv/my app (old)".into(), deleted: true });
    }

    #[test]
    fn an_escaped_line_break_in_a_path_is_one_again() {
        assert_eq!(
            one("1000-2000 r-xp 0 fe:00 12 /a\\012b").backing,
            Backing::File { path: "/a\nb".into(), deleted: false }
        );
    }

    #[test]
    fn a_bad_line_is_named_with_its_field() {
        let good = "1000-2000 r-xp 0 fe:00 12 /a\n";
        for (bad, field) in [
            ("1000 r-xp 0 fe:00 12 /a", "range"),
            ("2000-1000 r-xp 0 fe:00 12 /a", "range"),
            ("1000-2000 r-zp 0 fe:00 12 /a", "permissions"),
            ("1000-2000 r-x 0 fe:00 12 /a", "permissions"),
            ("1000-2000 r-xp g fe:00 12 /a", "offset"),
            ("1000-2000 r-xp 0 fe 12 /a", "device"),
            ("1000-2000 r-xp 0 fe:00 x /a", "inode"),
            ("1000-2000 r-xp 0 fe:00", "inode"),
            ("", "range"),
        ] {
            let text = format!("{good}{bad}\n");
            assert_eq!(parse_maps(&text), Err(MapsError { line: 2, field }), "{bad:?}");
        }
    }

    #[test]
    fn our_own_maps_hold_our_own_code_and_stack() {
        let maps = parse_maps(&std::fs::read_to_string("/proc/self/maps").unwrap()).unwrap();
        let code = ProcAddr(our_own_maps_hold_our_own_code_and_stack as *const () as u64);
        let home = maps.iter().find(|m| m.range.contains(code)).unwrap();
        assert!(home.permissions.execute && home.file.is_some());
        let local = 0u8;
        let stack = ProcAddr(&raw const local as u64);
        assert!(maps.iter().find(|m| m.range.contains(stack)).unwrap().is_private_writable());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse_maps(&text);
        }

        #[test]
        fn no_text_made_of_the_files_own_signs_panics(text in "[-0-9a-f:rwxps /\\[\\]()\n]{0,200}") {
            let _ = parse_maps(&text);
        }
    }
}
