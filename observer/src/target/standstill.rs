//! Whether something holds a process as a whole, so that nothing happens in it: a signal, or its control group's freezer.
//!
//! Does not know: who did it, nor single threads that wait.

use std::fs;
use std::path::PathBuf;

use super::process::Process;

/// What holds a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standstill {
    /// A signal (SIGSTOP, ^Z), or a tracer.
    Stopped,
    /// Its control group is frozen.
    Frozen,
}

impl Standstill {
    /// `stopped`, `frozen`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Frozen => "frozen",
        }
    }
}

impl Process {
    /// What holds it now. `None` also where its control group cannot be looked at from here.
    pub fn standstill(&self) -> Option<Standstill> {
        if self.status().is_ok_and(|status| status.is_stopped()) {
            return Some(Standstill::Stopped);
        }
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", self.pid())).ok()?;
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let frozen =
            freezers(&groups, &mounts).iter().any(|file| fs::read_to_string(file).is_ok_and(|text| says_frozen(&text)));
        frozen.then_some(Standstill::Frozen)
    }
}

/// The files that tell whether the groups of a text of `/proc/PID/cgroup` are frozen, with the mounts of `/proc/self/mounts`: of the
/// one hierarchy, and of that of the freezer beside it.
fn freezers(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let file = |group: &str| {
        let (number, rest) = group.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (kind, option, name) = match controllers {
            "" if number == "0" => ("cgroup2", None, "cgroup.events"),
            _ if controllers.split(',').any(|one| one == "freezer") => ("cgroup", Some("freezer"), "freezer.state"),
            _ => return None,
        };
        let root = mounts.lines().find_map(|mount| {
            let words: Vec<&str> = mount.split(' ').collect();
            let [_, at, of, options, ..] = words[..] else { return None };
            let fits = of == kind && option.is_none_or(|option| options.split(',').any(|one| one == option));
            fits.then_some(at)
        })?;
        Some(PathBuf::from(format!("{root}{path}")).join(name))
    };
    groups.lines().filter_map(file).collect()
}

/// `frozen 1` of `cgroup.events`; `FROZEN` of `freezer.state`. Both count what groups above it do.
fn says_frozen(text: &str) -> bool {
    text.lines().any(|line| matches!(line, "frozen 1" | "FROZEN"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_freezers_are_asked_where_they_are_mounted() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup /sys/fs/cgroup/freezer cgroup rw,freezer 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let files = freezers("7:cpu:/c\n5:freezer:/a\n0::/b\nx\n", mounts);
        let expected = ["/sys/fs/cgroup/freezer/a/freezer.state", "/sys/fs/cgroup/unified/b/cgroup.events"];
        assert_eq!(files, expected.map(PathBuf::from));
        assert!(freezers("5:freezer:/a\n0::/b\n", "").is_empty());
    }

    #[test]
    fn a_group_that_is_about_to_be_frozen_is_not_yet() {
        assert!(says_frozen("populated 1\nfrozen 1\n") && says_frozen("FROZEN\n"));
        assert!(!says_frozen("populated 1\nfrozen 0\n") && !says_frozen("THAWED\n") && !says_frozen("FREEZING\n"));
    }
}
