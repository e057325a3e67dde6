//! What encloses a process: its namespaces, its control group, its container.
//!
//! Does not know: where these are read.

use std::fmt;

use super::Pid;

/// What encloses a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enclosure {
    /// Its number as it sees itself, in its innermost pid namespace; `None` where the kernel does not tell (before 4.1).
    pub ns_pid: Option<Pid>,
    /// Its pid namespace; `None` where we may not look (CAP_SYS_PTRACE).
    pub pid_namespace: Option<NamespaceId>,
    /// Its mount namespace; `None` as above.
    pub mount_namespace: Option<NamespaceId>,
    /// Path of its control group, as seen from ours; `None` where the kernel has none.
    pub cgroup: Option<String>,
    /// The container that the control group's path names; `None` where it names none, which does not prove that there
    /// is none.
    pub container: Option<ContainerId>,
}

/// A namespace, by its inode number in the kernel's `nsfs`; unique among those that live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId(pub u64);

/// A container's id as its engine writes it: 32 to 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

impl Enclosure {
    /// Whether the control group's path has this text in it.
    pub fn cgroup_contains(&self, text: &str) -> bool {
        self.cgroup.as_deref().is_some_and(|path| path.contains(text))
    }

    /// Whether it is in the container whose id begins like this, as engines print ids shortened.
    pub fn container_begins_with(&self, id: &str) -> bool {
        self.container.as_ref().is_some_and(|container| container.0.starts_with(id))
    }
}

impl ContainerId {
    /// A full id; `None` for a text that is not one.
    pub fn new(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_hex && (32..=64).contains(&text.len())).then(|| Self(text.to_owned()))
    }

    /// All its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_by_the_beginning_of_its_id_and_a_group_by_a_part_of_its_path() {
        let id = "ab12".repeat(16);
        let cgroup = Some(format!("/system.slice/docker-{id}.scope"));
        let inside = Enclosure { cgroup, container: ContainerId::new(&id), ..Enclosure::default() };
        assert!(inside.container_begins_with("ab12ab12ab12") && inside.container_begins_with(&id));
        assert!(!inside.container_begins_with("12ab"));
        assert!(inside.cgroup_contains("system.slice") && !inside.cgroup_contains("user.slice"));
        let outside = Enclosure::default();
        assert!(!outside.container_begins_with("") && !outside.cgroup_contains(""));
    }

    #[test]
    fn what_is_no_full_id_is_none() {
        for text in ["", "ab12", &"g".repeat(64), &"A".repeat(64), &"a".repeat(65), &"a".repeat(31)] {
            assert_eq!(ContainerId::new(text), None, "{text:?}");
        }
    }
}
