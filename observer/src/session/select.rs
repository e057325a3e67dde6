//! From what the user named to processes.

use std::fs;
use std::sync::Arc;

use crate::model::Pid;
use crate::target::{Launched, Process, TargetError};

use super::Selection;
use super::error::SessionError;

/// The processes of a session.
pub(super) struct Targets {
    /// Those that are there, unless all are asked for.
    pub(super) processes: Vec<Arc<Process>>,
    /// The one we started, still held before its first instruction.
    pub(super) launched: Option<Launched>,
}

/// Opens what is named; launches what is to be launched.
pub(super) fn select(selection: &Selection) -> Result<Targets, SessionError> {
    match selection {
        Selection::Launch(command) => {
            let (program, arguments) = command.split_first().ok_or(SessionError::NoSuchName(String::new()))?;
            let launched = Launched::spawn(program, arguments)?;
            Ok(Targets { processes: vec![Arc::new(Process::open(launched.pid())?)], launched: Some(launched) })
        }
        Selection::Everyone(_) => Ok(Targets { processes: Vec::new(), launched: None }),
        Selection::Running { pids, names } => {
            let processes = open_each(pids, names)?.into_iter().map(|(_, opened)| Ok(Arc::new(opened?)));
            Ok(Targets { processes: processes.collect::<Result<_, SessionError>>()?, launched: None })
        }
    }
}

/// A process that was named, or why it cannot be looked at.
pub(super) type Opened = (Pid, Result<Process, TargetError>);

/// Opens each of the processes that are named, in order of number. Fails if a name is nobody's.
pub(super) fn open_each(pids: &[Pid], names: &[String]) -> Result<Vec<Opened>, SessionError> {
    let mut wanted = pids.to_vec();
    for name in names {
        let found = named(name);
        if found.is_empty() {
            return Err(SessionError::NoSuchName(name.clone()));
        }
        wanted.extend(found);
    }
    wanted.sort_unstable();
    wanted.dedup();
    let own = Pid(std::process::id());
    if wanted.contains(&own) {
        return Err(SessionError::Itself(own));
    }
    Ok(wanted.into_iter().map(|pid| (pid, Process::open(pid))).collect())
}

/// Processes whose `comm` is this, this one excluded.
fn named(name: &str) -> Vec<Pid> {
    // A process that ends while we look is simply not among them.
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid);
    pids.filter(|pid| pid.0 != std::process::id())
        .filter(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name))
        .collect()
}
