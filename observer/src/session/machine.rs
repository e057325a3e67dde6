//! Processes as they are now: who runs code of which files, and what encloses them.

use crate::model::{Enclosure, Pid};
use crate::target::{Backing, Listed, TargetError, enclosure_of, list_processes, listed};

use super::error::SessionError;
use super::roster::{Arrival, Code, Resident};

/// All processes that run code of files, and how many may not be looked at.
pub(super) struct Machine {
    pub(super) residents: Vec<(Pid, Resident)>,
    pub(super) not_permitted: usize,
}

impl Machine {
    /// Looks at all of them.
    pub(super) fn look() -> Result<Self, SessionError> {
        let listing = list_processes().map_err(|source| SessionError::System { what: "list the processes", source })?;
        let not_permitted = listing.not_permitted();
        let residents = listing.processes.into_iter().map(|listed| (listed.pid, resident(listed))).collect();
        Ok(Self { residents, not_permitted })
    }
}

/// One process, if it is there.
pub(super) fn look_at(pid: Pid) -> Result<Option<(Pid, Resident)>, TargetError> {
    Ok(listed(pid)?.map(|listed| (pid, resident(listed))))
}

fn resident(Listed { pid, code }: Listed) -> Resident {
    // Who has ended since has no name any more, and will not be observed.
    let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
    let exe = exe.map_or_else(|_| "".into(), |path| path.to_string_lossy().into());
    let code = code.into_iter().filter_map(|mapping| {
        let Backing::File { path, .. } = mapping.backing else { return None };
        let (start, length) = (mapping.range.start, mapping.range.len());
        Some(Code { file: mapping.file?, path: path.into(), start, length, offset: mapping.offset })
    });
    Resident { exe, enclosure: enclosure(pid), arrival: Arrival::Found, code: code.collect(), program: 0 }
}

/// What encloses a process; nothing is known of one that has ended, or may not be looked at.
pub(super) fn enclosure(pid: Pid) -> Enclosure {
    enclosure_of(pid).unwrap_or_default()
}
