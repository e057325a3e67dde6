//! Whether cells known from before still stand where they stood.
//!
//! Does not know: who else stands anywhere. For what a whole census cannot vouch for, such as closures.

use super::cell::Cell;
use super::cell_types::CellTypes;
use crate::model::{ProcAddr, TaskId};
use crate::target::{Memory, MemoryError};

/// A cell as it was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its header.
    pub header: ProcAddr,
    /// Its type's vtable.
    pub vtable: ProcAddr,
    /// Its task.
    pub task: TaskId,
}

/// For each of them, whether its memory still is that task's.
pub fn standing(memory: &Memory<'_>, types: &CellTypes, known: &[Known]) -> Result<Vec<bool>, MemoryError> {
    let headers: Vec<ProcAddr> = known.iter().map(|cell| cell.header).collect();
    let mut stand = vec![false; known.len()];
    memory.read_each(&headers, types.head_len(), |position, bytes| {
        let (cell, stands) = (known[position], &mut stand[position]);
        let index = types.find(cell.vtable.0);
        let read = index.zip(bytes).map(|(index, bytes)| Cell::read(cell.header, index, types, bytes));
        *stands = matches!(read, Some(Ok(now)) if now.id == cell.task.0);
    })?;
    Ok(stand)
}
