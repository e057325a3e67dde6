//! The runtime's static counters: how many task ids it gave out between two moments, and whether a list was made.
//!
//! Does not know: which counter is which. Every id that was seen is below the task ids' counter, so a counter that is not
//! above all ids of its image is another one; where more than one is left, the most that any of them moved is a bound.

use std::collections::HashMap;
use std::ops::Range;

use super::cell::Cell;
use super::cell_types::{CellTypes, ImageIndex};
use crate::model::ProcAddr;
use crate::target::{FileId, Mapping, Memory, MemoryError};

/// All counters of a process.
#[derive(Clone, Debug, Default)]
pub struct Counters(Vec<Counter>);

#[derive(Clone, Copy, Debug)]
struct Counter {
    at: ProcAddr,
    image: Option<ImageIndex>,
    may_be_ids: bool,
}

/// What they held at one moment; `None` where it could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading(Vec<Option<u64>>);

/// Task ids that one image's runtime gave out between two readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    /// Their number is not above this.
    pub most: u64,
    /// Which they are, where one counter is left.
    pub ids: Option<Range<u64>>,
}

impl Reading {
    #[cfg(test)]
    pub fn of(values: &[u64]) -> Self {
        Self(values.iter().copied().map(Some).collect())
    }
}

impl Counters {
    /// At these addresses. A counter belongs to the image whose file it is mapped from.
    pub fn new(addresses: &[ProcAddr], types: &CellTypes, maps: &[Mapping]) -> Self {
        let images: HashMap<FileId, ImageIndex> =
            types.vtables().filter_map(|(at, image)| Some((file_at(maps, at)?, image))).collect();
        let image_at = |at: ProcAddr| images.get(&file_at(maps, at)?).copied();
        let counter = |at: &ProcAddr| Counter { at: *at, image: image_at(*at), may_be_ids: true };
        let mut all: Vec<Counter> = addresses.iter().map(counter).collect();
        all.sort_unstable_by_key(|counter| counter.at);
        all.dedup_by_key(|counter| counter.at);
        Self(all)
    }

    /// Reads all.
    pub fn read(&self, memory: &Memory<'_>) -> Result<Reading, MemoryError> {
        let mut reading = Vec::with_capacity(self.0.len());
        for counter in &self.0 {
            let mut word = [0; 8];
            let read = memory.read(counter.at, &mut word)?;
            reading.push((read == word.len()).then(|| u64::from_ne_bytes(word)));
        }
        Ok(Reading(reading))
    }

    /// Learns from cells that were read before this reading, which of them cannot be task ids'.
    pub fn rule_out(&mut self, cells: &[Cell], types: &CellTypes, after: &Reading) {
        let mut last: HashMap<ImageIndex, u64> = HashMap::new();
        let mut image = None;
        let mut most = 0;
        for cell in cells {
            let own = types.get(cell.cell_type).image;
            if image != Some(own) {
                image.map(|image| last.insert(image, most));
                most = last.get(&own).copied().unwrap_or(0);
                image = Some(own);
            }
            most = most.max(cell.id);
        }
        image.map(|image| last.insert(image, most));
        for (counter, value) in self.0.iter_mut().zip(&after.0) {
            let seen = counter.image.and_then(|image| last.get(&image)).copied().unwrap_or(0);
            counter.may_be_ids &= value.is_some_and(|value| value > seen);
        }
    }

    /// What this image's runtime gave out; `None` where no counter is known, or one does not count up.
    pub fn minted(&self, image: ImageIndex, from: &Reading, to: &Reading) -> Option<Minted> {
        let moves = self.of(image, true).map(|index| from.0[index].zip(to.0[index]).filter(|(from, to)| from <= to));
        let moves: Vec<(u64, u64)> = moves.collect::<Option<_>>()?;
        let most = moves.iter().map(|(from, to)| to - from).max()?;
        let ids = (moves.len() == 1).then(|| moves[0].0..moves[0].1);
        Some(Minted { most, ids })
    }

    /// Whether a counter moved that is, or may be, another one than the task ids'.
    pub fn others_moved(&self, from: &Reading, to: &Reading) -> bool {
        let moved = |index: &usize| from.0[*index] != to.0[*index];
        (0..self.0.len()).filter(moved).any(|index| {
            let image = self.0[index].image;
            !self.0[index].may_be_ids || image.is_none_or(|image| self.of(image, true).count() != 1)
        })
    }

    /// Whether this image's runtime cannot have made more lists than these: their ids count up from 1.
    pub fn are_all_lists(&self, image: ImageIndex, lists: u64, now: &Reading) -> bool {
        let mut others = self.of(image, false).peekable();
        others.peek().is_some() && others.all(|index| now.0[index].is_some_and(|next| next <= lists + 1))
    }

    fn of(&self, image: ImageIndex, may_be_ids: bool) -> impl Iterator<Item = usize> {
        let wanted = move |counter: &Counter| counter.image == Some(image) && counter.may_be_ids == may_be_ids;
        self.0.iter().enumerate().filter(move |(_, counter)| wanted(counter)).map(|(index, _)| index)
    }
}

/// The file mapped here, or right before here: zeroed statics stand behind the file's part.
fn file_at(maps: &[Mapping], at: ProcAddr) -> Option<FileId> {
    let after = maps.partition_point(|mapping| mapping.range.start <= at);
    let index = after.checked_sub(1).filter(|index| maps[*index].range.contains(at))?;
    let before = index.checked_sub(1).filter(|before| maps[*before].range.end == maps[index].range.start);
    maps[index].file.or_else(|| maps[before?].file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::cell_types::CellType;
    use crate::census::tests::layout;
    use crate::model::{Resource, TaskState};
    use crate::target::parse_maps;

    const VTABLE: u64 = 0x5000;
    const IMAGE: ImageIndex = ImageIndex(0);

    /// Two counters of the image and one of another file.
    fn counters() -> (Counters, CellTypes) {
        let maps =
            parse_maps("5000-6000 r--p 0 fe:00 7 /a\n6000-7000 rw-p 0 fe:00 7 /a\n7000-8000 rw-p 0 fe:00 8 /b\n");
        let cell = CellType { layout: layout(128), resource: Resource::Task, image: IMAGE };
        let types = CellTypes::new([(ProcAddr(VTABLE), cell)]);
        (Counters::new(&[0x6000, 0x6008, 0x7000].map(ProcAddr), &types, &maps.unwrap()), types)
    }

    fn reading(values: [u64; 3]) -> Reading {
        Reading::of(&values)
    }

    fn cell(types: &CellTypes, id: u64) -> Cell {
        let (header, cell_type) = (ProcAddr(0x10000), types.find(VTABLE).unwrap());
        let (queue_next, owner, scheduler, spawn_location, links) = (0, 1, 0, 0, [0; 2]);
        Cell { header, cell_type, state: TaskState(0x84), queue_next, owner, scheduler, id, spawn_location, links }
    }

    #[test]
    fn a_counter_that_is_not_above_every_id_is_not_the_ids() {
        let (mut counters, types) = counters();
        let (begin, end) = (reading([2, 90, 5]), reading([2, 100, 5]));
        assert_eq!(counters.minted(IMAGE, &begin, &end), Some(Minted { most: 10, ids: None }));
        assert!(counters.others_moved(&begin, &end), "either may be the lists'");
        counters.rule_out(&[cell(&types, 50)], &types, &end);
        assert_eq!(counters.minted(IMAGE, &begin, &end), Some(Minted { most: 10, ids: Some(90..100) }));
        assert!(!counters.others_moved(&begin, &end));
        assert!(counters.others_moved(&begin, &reading([3, 100, 5])));
        assert!(counters.are_all_lists(IMAGE, 1, &end) && !counters.are_all_lists(IMAGE, 0, &end));
    }

    #[test]
    fn where_no_counter_is_known_or_one_went_back_nobody_knows_what_was_born() {
        let (mut counters, types) = counters();
        assert_eq!(counters.minted(IMAGE, &reading([2, 90, 5]), &reading([2, 80, 5])), None);
        assert_eq!(counters.minted(ImageIndex(1), &reading([2, 90, 5]), &reading([2, 90, 5])), None);
        let now = reading([2, 90, 5]);
        counters.rule_out(&[cell(&types, 1000)], &types, &now);
        assert_eq!(counters.minted(IMAGE, &now, &now), None);
        assert!(!counters.are_all_lists(ImageIndex(1), 9, &now), "no counter of lists, no certainty");
    }
}
