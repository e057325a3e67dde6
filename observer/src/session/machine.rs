//! Processes as they are now: who runs code of which files, and where they live.

use crate::model::{Housing, Pid};
use crate::target::{Backing, parse_maps};

use super::error::SessionError;
use super::roster::{Arrival, Code, Resident};

/// All processes that run code of files.
pub(super) fn list_machine() -> Result<Vec<(Pid, Resident)>, SessionError> {
    let entries = std::fs::read_dir("/proc")
        .map_err(|source| SessionError::System { what: "list the processes", source })?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid);
    Ok(list_residents(pids))
}

/// These, as far as they are there.
pub(super) fn list_residents(pids: impl Iterator<Item = Pid>) -> Vec<(Pid, Resident)> {
    pids.filter_map(|pid| Some((pid, resident(pid)?))).collect()
}

fn resident(pid: Pid) -> Option<Resident> {
    let maps = parse_maps(&std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?).ok()?;
    let code = maps.into_iter().filter(|mapping| mapping.permissions.execute).filter_map(|mapping| {
        let Backing::File { path, .. } = mapping.backing else { return None };
        let (start, length) = (mapping.range.start, mapping.range.len());
        Some(Code { file: mapping.file?, path: path.into(), start, length, offset: mapping.offset })
    });
    let code: Vec<Code> = code.collect();
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let exe = exe.to_string_lossy().into();
    (!code.is_empty()).then(|| Resident { exe, housing: housing(pid), arrival: Arrival::Found, code, program: 0 })
}

/// Where a process lives.
pub(super) fn housing(_pid: Pid) -> Housing {
    Housing::default()
}
