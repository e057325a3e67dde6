//! bpftrace doing the same job: at entry and return of every poll function.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::points::FileOffset;
use super::process::Pid;
use super::watcher::{Ending, Peer};

/// What a machine without it should do.
pub(super) const INSTALL: &str = "apt-get install bpftrace";
/// It counts by task: more than any load has at a time, and than the addresses that tasks of the loads had one after the other.
const TASKS: &str = "1100000";

/// What it is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Polls counted by task, the time of all in one histogram: the least that says something.
    Counts,
    /// What the tier `polls` tells: of each task how many, how long together, the longest, and a histogram.
    Sums,
    /// What the tier `full` tells of polls: each entry and each return, with its time, thread and task.
    Events,
}

impl Job {
    /// What is done at the entry and at the return.
    fn actions(self) -> (&'static str, &'static str) {
        match self {
            Self::Counts => (
                "@start[tid] = nsecs; @count[arg0] = count();",
                "@dur = hist(nsecs - @start[tid]); delete(@start[tid]);",
            ),
            Self::Sums => (
                "@start[tid] = nsecs; @task[tid] = arg0;",
                "$d = nsecs - @start[tid]; $t = @task[tid]; @polls[$t] = count(); @busy[$t] = sum($d); @longest[$t] = max($d); \
                 @dur[$t] = hist($d); delete(@start[tid]); delete(@task[tid]);",
            ),
            Self::Events => (
                r#"@start[tid] = arg0; printf("%lld %d B %lx\n", nsecs, tid, arg0);"#,
                r#"printf("%lld %d A %lx\n", nsecs, tid, @start[tid]); delete(@start[tid]);"#,
            ),
        }
    }

    /// What the table says of it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Counts => "polls counted by task, the time of all in one histogram",
            Self::Sums => "of each task count, sum, longest and histogram, as `polls` tells",
            Self::Events => {
                "each entry and return printed with time, thread and task, as `full` tells of polls (what it loses is not counted)"
            }
        }
    }
}

/// The version that is here.
pub(super) fn version() -> Option<String> {
    let said = Command::new("bpftrace").arg("--version").output().ok()?;
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// Attaches it to a process of this program.
pub(super) fn attach(job: Job, target: Pid, program: &Path, functions: &BTreeSet<FileOffset>) -> Result<Peer> {
    let mut command = Command::new("bpftrace");
    // A program without symbols has no boundaries that it could check: where functions begin we know.
    command.args(["--unsafe", "-p", &target.0.to_string(), "-e", &script(job, program, functions)]);
    command.env("BPFTRACE_MAP_KEYS_MAX", TASKS).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Ending(command.spawn().context("starting bpftrace")?);
    let says = child.0.stdout.take().context("is piped")?;
    Peer::attached("bpftrace", child, says, |line| line.trim() == READY)
}

const READY: &str = "attached";

/// The program in bpftrace's language. Of a program without symbols it takes the number for a place in the file.
fn script(job: Job, program: &Path, functions: &BTreeSet<FileOffset>) -> String {
    let places = |kind: &str| {
        let places: Vec<String> = functions.iter().map(|at| format!("{kind}:{}:{}", program.display(), at.0)).collect();
        places.join(",")
    };
    let mut script = format!("BEGIN {{ printf(\"{READY}\\n\"); }}\n");
    // Infallible: a String takes all.
    let (enter, leave) = job.actions();
    let _ = writeln!(script, "{} {{ {enter} }}", places("uprobe"));
    let _ = writeln!(script, "{} /@start[tid]/ {{ {leave} }}", places("uretprobe"));
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_poll_function_is_entered_and_returned_from() {
        let functions = [FileOffset(16), FileOffset(32)].into_iter().collect();
        let script = script(Job::Counts, Path::new("/p"), &functions);
        assert!(
            script.contains("uprobe:/p:16,uprobe:/p:32 { @start[tid] = nsecs; @count[arg0] = count(); }"),
            "{script}"
        );
        assert!(script.contains("uretprobe:/p:16,uretprobe:/p:32 /@start[tid]/"), "{script}");
    }
}
