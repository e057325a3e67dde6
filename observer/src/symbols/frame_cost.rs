//! What it costs to name the frames of stacks by debug information: the package that does it keeps all that it reads, without bound, so
//! that is counted before.
//!
//! Does not know: names, lines.

use std::cell::Cell;

use gimli::{AttributeValue, Dwarf, Unit};

use super::located::{Extent, Located};
use super::sections::Bytes;
use super::units::Heads;
use super::{Debug, Image};
use crate::model::VirtAddr;

/// Most pieces of code, functions and names of files that are kept.
const MOST_KEPT: usize = 1 << 22;
/// Longest program of one unit's lines, in bytes: each may be a line that is kept.
const LONGEST_LINES: usize = 16 << 20;
/// Most bytes of the programs of lines, and of the paths of files, of all units that the frames are in.
const MOST_LINES: usize = 32 << 20;
/// Longest part of a file's path.
const LONGEST_NAME: usize = 1 << 14;
/// Deepest entry that is read: the package does so by recursion.
const DEEPEST: isize = 256;

/// Why frames are not named by debug information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooCostly {
    /// Entries that lie deeper in others than is read, or more units than are.
    #[error("its debug information has more units, or entries deeper in others, than is read")]
    Deep,
    /// A unit that cannot be read, or not within bounds.
    #[error("a unit of its debug information cannot be read, or is too large")]
    Unit,
    /// Pieces of code, functions and files.
    #[error("its debug information lists more pieces of code, functions and files than are read")]
    Pieces,
    /// Lines, and paths of files.
    #[error("its debug information has more lines, or longer paths of files, than are read")]
    Lines,
}

impl TooCostly {
    /// Why no frame of an image is named by its debug information, whatever is asked.
    pub fn of(image: &Image<'_>) -> Option<Self> {
        check(&Debug::of(image)?.heads(), &[]).err()
    }
}

/// Whether the functions at these places may be looked for.
pub(super) fn check(heads: &Heads<'_>, places: &[VirtAddr]) -> Result<(), TooCostly> {
    if !heads.is_shallow(DEEPEST) {
        return Err(TooCostly::Deep);
    }
    let mut sorted = places.to_vec();
    sorted.sort_unstable();
    let left = Left { kept: Cell::new(MOST_KEPT), lines: Cell::new(MOST_LINES), places: sorted };
    // One that we do not read within bounds may yet be read without.
    heads.as_slice().iter().try_for_each(|head| left.take(&heads.open(head).ok_or(TooCostly::Unit)?, head.has_code()))
}

/// What may still be kept.
struct Left {
    kept: Cell<usize>,
    lines: Cell<usize>,
    places: Vec<VirtAddr>,
}

impl Left {
    /// What is kept of a unit: of each a little, of one that the places may be in all.
    fn take(&self, unit: &Located<'_>, has_code: bool) -> Result<(), TooCostly> {
        let program = unit.line_program.as_ref().map(gimli::IncompleteLineProgram::header);
        if let Some(header) = program {
            take(&self.kept, header.file_names().len()).ok_or(TooCostly::Pieces)?;
            take(&self.kept, header.include_directories().len()).ok_or(TooCostly::Pieces)?;
        }
        if !has_code {
            return Ok(());
        }
        let (mut any, mut is_in) = (false, false);
        let told = unit.ranges(&self.kept, |range| {
            any |= range.start < range.end;
            is_in |= self.holds(range.start, range.end);
            Some(())
        });
        self.is_left()?;
        if let Some(header) = program {
            let length = header.raw_program_buf().slice().len();
            if length > LONGEST_LINES {
                return Err(TooCostly::Lines);
            }
            // Of a unit that does not say where its code is the lines tell it.
            if is_in || told.is_none() || !any {
                take(&self.lines, length).ok_or(TooCostly::Lines)?;
                self.take_paths(unit)?;
            }
        }
        if is_in || told.is_none() {
            // Where entries cannot be read on from nothing is kept that was not counted.
            _ = self.take_functions(&unit.dwarf, unit);
            self.is_left()?;
        }
        if let Some(skeleton) = unit.skeleton.as_ref().filter(|_| is_in || told.is_none()) {
            _ = self.take_functions(&unit.main, skeleton);
            self.is_left()?;
        }
        Ok(())
    }

    /// The paths of the files of its lines, each with the folder that it is in.
    fn take_paths<'a>(&self, unit: &Located<'a>) -> Result<(), TooCostly> {
        let Some(header) = unit.line_program.as_ref().map(gimli::IncompleteLineProgram::header) else { return Ok(()) };
        let length = |text: AttributeValue<Bytes<'a>>| {
            // What names no text is no path.
            let Some(bytes) = unit.text_of_lines(text) else { return Some(0) };
            memchr::memchr(0, bytes.get(..LONGEST_NAME).unwrap_or(bytes))
                .or((bytes.len() < LONGEST_NAME).then_some(bytes.len()))
        };
        let ran_in = unit.comp_dir.map_or(0, |folder| folder.slice().len());
        for file in header.file_names() {
            let folder = file.directory(header).map_or(Some(0), length);
            let path = folder.zip(length(file.path_name())).map(|(folder, name)| ran_in + folder + name);
            path.and_then(|path| take(&self.lines, path)).ok_or(TooCostly::Lines)?;
        }
        Ok(())
    }

    /// Its functions, and of those that the places may be in what was put into them.
    fn take_functions<'a>(&self, dwarf: &Dwarf<Bytes<'a>>, unit: &Unit<Bytes<'a>>) -> Option<()> {
        let mut entries = unit.entries_raw(None).ok()?;
        let mut inside: Option<isize> = None;
        while !entries.is_empty() {
            let depth = entries.next_depth();
            let Some(abbreviation) = entries.read_abbreviation().ok()? else { continue };
            inside = inside.filter(|around| depth > *around);
            let is_function = abbreviation.tag() == gimli::DW_TAG_subprogram;
            let was_put_in = abbreviation.tag() == gimli::DW_TAG_inlined_subroutine && inside.is_some();
            if !(is_function || was_put_in) {
                entries.skip_attributes(abbreviation.attributes()).ok()?;
                continue;
            }
            take(&self.kept, 1)?;
            let mut extent = Extent::default();
            for specification in abbreviation.attributes() {
                extent.take(&entries.read_attribute(*specification).ok()?);
            }
            let mut is_in = false;
            let told = extent.pieces(dwarf, unit, &self.kept, |range| {
                is_in |= self.holds(range.start, range.end);
                Some(())
            });
            self.is_left().ok()?;
            if is_function && inside.is_none() && (is_in || told.is_none()) {
                inside = Some(depth);
            }
        }
        Some(())
    }

    fn holds(&self, start: VirtAddr, end: VirtAddr) -> bool {
        self.places.get(self.places.partition_point(|at| *at < start)).is_some_and(|at| *at < end)
    }

    fn is_left(&self) -> Result<(), TooCostly> {
        if self.kept.get() > 0 { Ok(()) } else { Err(TooCostly::Pieces) }
    }
}

fn take(left: &Cell<usize>, much: usize) -> Option<()> {
    let rest = left.get().checked_sub(much);
    left.set(rest.unwrap_or(0));
    rest.map(|_| ())
}

#[cfg(test)]
mod tests;
