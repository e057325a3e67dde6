//! Whether a process's control group is frozen: nobody in it gets on a CPU, whatever each seems to wait for.
//!
//! Does not know: what a thread was doing then.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::process::Process;

impl Process {
    /// Whether its control group is frozen (`docker pause` does that), in a hierarchy that can be seen from here. In one of version 1 a thread that
    /// slept in a call when it was frozen may look as if it slept there still.
    pub fn is_frozen(&self) -> bool {
        // Hierarchies are mounted when a machine starts.
        static HIERARCHIES: OnceLock<Vec<Hierarchy>> = OnceLock::new();
        let hierarchies = HIERARCHIES
            .get_or_init(|| parse_hierarchies(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()));
        // Of who has ended nothing is frozen; a file that is not there is that of a group without a freezer, as the root is.
        let Ok(groups) = self.text("cgroup") else { return false };
        let files = hierarchies.iter().filter_map(|hierarchy| Some((hierarchy, hierarchy.file(&groups)?)));
        files
            .into_iter()
            .any(|(hierarchy, file)| fs::read_to_string(file).is_ok_and(|text| hierarchy.version.says_frozen(&text)))
    }
}

/// A mounted hierarchy of control groups that can freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    /// The group that is seen at the mount.
    root: PathBuf,
    mount: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// That of the freezer alone, or with others.
    One,
    /// The unified one.
    Two,
}

impl Version {
    fn says_frozen(self, text: &str) -> bool {
        match self {
            // Some of a group that is `FREEZING` are frozen.
            Self::One => matches!(text.trim_end(), "FREEZING" | "FROZEN"),
            Self::Two => text.lines().any(|line| line == "frozen 1"),
        }
    }
}

impl Hierarchy {
    /// The file that tells of the process's group, whose `/proc/PID/cgroup` has this text.
    fn file(&self, groups: &str) -> Option<PathBuf> {
        let path = groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let is_it = match self.version {
                Version::One => controllers.split(',').any(|controller| controller == "freezer"),
                Version::Two => controllers.is_empty(),
            };
            is_it.then_some(path)
        })?;
        // A group outside of what is mounted, and of our own namespace (`/../x`), cannot be seen.
        let below = Path::new(path).strip_prefix(&self.root).ok().filter(|_| !path.starts_with("/.."))?;
        let name = match self.version {
            Version::One => "freezer.state",
            Version::Two => "cgroup.events",
        };
        Some(self.mount.join(below).join(name))
    }
}

/// From the text of `/proc/PID/mountinfo`.
fn parse_hierarchies(text: &str) -> Vec<Hierarchy> {
    let of = |line: &str| {
        let (mounted, kind) = line.split_once(" - ")?;
        let [_, _, _, root, mount, ..] = mounted.split(' ').collect::<Vec<_>>()[..] else { return None };
        let kind: Vec<&str> = kind.split(' ').collect();
        let version = match kind[..] {
            ["cgroup2", ..] => Version::Two,
            ["cgroup", _, options] if options.split(',').any(|option| option == "freezer") => Version::One,
            _ => return None,
        };
        Some(Hierarchy { version, root: root.into(), mount: mount.into() })
    };
    text.lines().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        36 31 0:33 / /sys/fs/cgroup/devices rw,relatime shared:9 - cgroup cgroup rw,devices\n\
        37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime shared:10 - cgroup cgroup rw,freezer\n\
        41 31 0:38 /docker/ab /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    fn files(groups: &str) -> Vec<String> {
        let files = parse_hierarchies(MOUNTS).into_iter().filter_map(|hierarchy| hierarchy.file(groups));
        files.map(|file| file.display().to_string()).collect()
    }

    #[test]
    fn the_file_is_that_of_the_process_s_own_group_as_it_is_mounted() {
        let both = files("6:freezer:/docker/ab/c\n5:devices:/x\n0::/docker/ab/c\n");
        let wanted = ["/sys/fs/cgroup/freezer/docker/ab/c/freezer.state", "/sys/fs/cgroup/unified/c/cgroup.events"];
        assert_eq!(both, wanted);
        assert_eq!(files("6:cpu,freezer:/\n"), ["/sys/fs/cgroup/freezer/freezer.state"]);
        assert_eq!(files("6:devices:/a\n0::/docker/abc\n0::/../a\n"), Vec::<String>::new());
    }

    #[test]
    fn a_group_is_frozen_where_its_file_says_so() {
        for (version, text, frozen) in [
            (Version::One, "FROZEN\n", true),
            (Version::One, "FREEZING\n", true),
            (Version::One, "THAWED\n", false),
            (Version::Two, "populated 1\nfrozen 1\n", true),
            (Version::Two, "populated 1\nfrozen 0\n", false),
            (Version::Two, "", false),
        ] {
            assert_eq!(version.says_frozen(text), frozen, "{version:?} {text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(mounts in "[-0-9a-z:/ ,\n]{0,200}", groups in "[0-9a-z:/,.\n]{0,80}") {
            for hierarchy in parse_hierarchies(&mounts).iter().chain(&parse_hierarchies(MOUNTS)) {
                let _ = hierarchy.file(&groups);
            }
        }
    }
}
