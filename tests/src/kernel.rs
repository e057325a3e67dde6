//! What of eBPF the kernel holds, counted by bpftool, and what of it a process holds; and whether the kernel is of those that
//! have links of many probes. Knows nothing of who made anything.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::fixture::path;

/// eBPF objects by their ids, which the kernel does not give again soon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Attachments.
    pub links: BTreeSet<u64>,
    /// Programs.
    pub programs: BTreeSet<u64>,
    /// Maps.
    pub maps: BTreeSet<u64>,
}

impl Objects {
    /// All that the kernel holds.
    pub fn all() -> Self {
        let ids = |kind: &str| show(kind).iter().filter_map(|object| object["id"].as_u64()).collect();
        Self { links: ids("link"), programs: ids("prog"), maps: ids("map") }
    }

    /// What a process holds: what its descriptors are, and the maps of its programs.
    pub fn held_by(pid: u32) -> Self {
        Self::held_by_each([pid])
    }

    /// What processes hold that run now.
    pub fn held_by_anyone() -> Self {
        let entries = std::fs::read_dir("/proc").expect("processes can be listed");
        Self::held_by_each(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
    }

    fn held_by_each(pids: impl IntoIterator<Item = u32>) -> Self {
        let mut held = Self::default();
        // Who is gone holds nothing.
        let folders = pids.into_iter().filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fdinfo")).ok());
        for text in folders.flatten().filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok()) {
            for (name, id) in text.lines().filter_map(|line| line.split_once(":\t")) {
                let kind = match name {
                    "link_id" => &mut held.links,
                    "prog_id" => &mut held.programs,
                    "map_id" => &mut held.maps,
                    _ => continue,
                };
                kind.insert(id.trim().parse().expect("an id is a number"));
            }
        }
        for program in show("prog") {
            if program["id"].as_u64().is_some_and(|id| held.programs.contains(&id)) {
                held.maps.extend(program["map_ids"].as_array().into_iter().flatten().filter_map(Value::as_u64));
            }
        }
        held
    }

    /// Those that are not in the other.
    pub fn without(&self, other: &Self) -> Self {
        Self {
            links: &self.links - &other.links,
            programs: &self.programs - &other.programs,
            maps: &self.maps - &other.maps,
        }
    }

    /// Those that are in both.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            links: &self.links & &other.links,
            programs: &self.programs & &other.programs,
            maps: &self.maps & &other.maps,
        }
    }

    /// How many links, programs and maps.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.links.len(), self.programs.len(), self.maps.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.counts() == (0, 0, 0)
    }
}

/// Whether this is Linux 6.6 or later, which has uprobe_multi.
pub fn has_uprobe_multi() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel tells its release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 6)
}

fn show(kind: &str) -> Vec<Value> {
    let said =
        Command::new(path("bpftool", "bpftool")).args(["--json", kind, "show"]).output().expect("bpftool starts");
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "bpftool {kind} show: {text} {}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("bpftool {kind} show said no JSON ({error}): {text}"))
}
