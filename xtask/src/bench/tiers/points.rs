//! Where the poll functions of a program stand, so that others can be given the same job: async-observer takes hold of them
//! alone, by trace events, and the kernel lists those.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::process::Pid;
use super::watcher::{Ours, Watcher};

/// A place in a file, in bytes from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileOffset(pub(super) u64);

/// Where the kernel lists them.
const LIST: &str = "/sys/kernel/tracing/uprobe_events";

/// The poll functions of a running program.
pub(super) fn poll_functions(root: &Path, target: Pid) -> Result<BTreeSet<FileOffset>> {
    let arguments = ["trace", "--attach-with", "tracefs", "--events", "before,after"];
    let ours = Box::new(Ours::attach(root, target, &arguments)?);
    let listed = std::fs::read_to_string(LIST).context(LIST)?;
    let functions = returns(&listed, ours.pid());
    ours.end()?;
    ensure!(!functions.is_empty(), "{LIST} lists no return probe of async-observer");
    Ok(functions)
}

/// The functions at whose return this process has a probe: a return probe stands at a function's entry.
fn returns(listed: &str, of: Pid) -> BTreeSet<FileOffset> {
    let owner = format!("_{}/", of.0);
    listed
        .lines()
        .filter(|line| line.starts_with("r:async_observer") && line.contains(&owner))
        .filter_map(|line| line.split_whitespace().nth(1)?.rsplit_once(":0x"))
        .filter_map(|(_, offset)| u64::from_str_radix(offset, 16).ok().map(FileOffset))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_return_probes_of_this_observer_count() {
        let listed = "r:async_observer_effffffc_17339/e0 /proc/self/fd/35:0x0000000000020ed0\n\
                      r:async_observer_effffffc_17339/e0 /proc/self/fd/35:0x0000000000020ec0\n\
                      p:async_observer_effffffc_17339/e1 /proc/self/fd/35:0x0000000000000001\n\
                      r:async_observer_effffffc_7339/e0 /proc/self/fd/35:0x0000000000000002\n\
                      r:perf/another /proc/self/fd/35:0x0000000000000003 arg\n";
        let functions: Vec<_> = returns(listed, Pid(17339)).into_iter().collect();
        assert_eq!(functions, [FileOffset(0x20ec0), FileOffset(0x20ed0)]);
    }
}
