//! A `&'static Location` in a process: where a task of a `tokio_unstable` build was spawned, where a panic was.
//!
//! Does not know: whose it is. Mirrors the layout of `core::panic::Location`, rustc 1.50 to 1.97: file pointer, file
//! length, line, column.

use crate::model::{Place, ProcAddr, word_at};
use crate::target::Memory;

/// Longest path that is believed.
const LONGEST_PATH: usize = 4096;
/// Last line and last column that are believed.
const LAST: u32 = 1 << 20;

/// Reads it; `None` if what is there cannot be one.
pub fn location(memory: &Memory<'_>, at: ProcAddr) -> Option<Place> {
    let mut bytes = [0; 24];
    memory.read_exact(at, &mut bytes).ok()?;
    let (file, length) = (word_at(&bytes, 0)?, usize::try_from(word_at(&bytes, 8)?).ok()?);
    let position = word_at(&bytes, 16)?;
    let (line, column) = (position as u32, (position >> 32) as u32);
    if !(1..=LONGEST_PATH).contains(&length) || !(1..=LAST).contains(&line) || !(1..=LAST).contains(&column) {
        return None;
    }
    let mut path = vec![0; length];
    memory.read_exact(ProcAddr(file), &mut path).ok()?;
    let file = String::from_utf8(path).ok().filter(|path| !path.contains(char::is_control))?;
    Some(Place { file, line, column: Some(column), certain: true })
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;
    use crate::model::Pid;
    use crate::target::Process;

    #[test]
    fn reads_what_the_compiler_wrote_and_nothing_else() {
        let us = Process::open(Pid(std::process::id())).unwrap();
        let memory = us.memory();
        let here: &'static Location<'static> = Location::caller();
        let truth = Place { file: file!().into(), line: here.line(), column: Some(here.column()), certain: true };
        let at = |what: *const u8| ProcAddr(what as u64);
        assert_eq!(location(&memory, at(std::ptr::from_ref(here).cast())), Some(truth));
        assert_eq!(location(&memory, at([0xffu8; 32].as_ptr())), None);
        assert_eq!(location(&memory, ProcAddr(8)), None);
    }
}
