//! The types whose cells are looked for, arranged so that a word that is no vtable's address is passed over quickly.
//!
//! Does not know: where the types come from, what a cell must look like.

use std::collections::{BTreeSet, HashMap};

use crate::model::{CellLayout, ProcAddr, Resource, TargetEntry};

/// Vtables further apart than this belong to different stretches.
const GAP: u64 = 1 << 20;

/// Which copy of the runtime a type belongs to: task ids are unique within one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageIndex(pub u32);

/// What a census must know of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellType {
    /// Where the cell's fields are.
    pub layout: CellLayout,
    /// Future or closure.
    pub resource: Resource,
    /// Its runtime.
    pub image: ImageIndex,
}

/// All types of one process, by their vtable's address in it.
#[derive(Clone, Debug)]
pub struct CellTypes {
    /// In order of address.
    vtables: Vec<(ProcAddr, CellType)>,
    stretches: Vec<Stretch>,
    step: Step,
    vtable_offsets: BTreeSet<u32>,
}

/// Where in memory the vtable's word of a cell can be: every address that leaves `phase` when divided by `stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// A power of two, at least 8.
    pub stride: u64,
    /// Below `stride`.
    pub phase: u64,
}

/// Vtables close to each other, one bit for each word from the first to the last.
#[derive(Clone, Debug)]
struct Stretch {
    first: u64,
    span: u64,
    words: Vec<u64>,
}

/// A type among [`CellTypes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CellTypeIndex(u32);

impl CellTypeIndex {
    /// Its place among all, from 0 on.
    #[inline]
    pub(super) fn place(self) -> usize {
        self.0 as usize
    }
}

impl CellTypes {
    /// From vtable addresses and what is known of each; of two entries for one address the later counts.
    pub fn new(types: impl IntoIterator<Item = (ProcAddr, CellType)>) -> Self {
        let by_address: HashMap<ProcAddr, CellType> = types.into_iter().collect();
        let mut vtables: Vec<_> = by_address.into_iter().collect();
        vtables.sort_unstable_by_key(|(at, _)| *at);
        let stretches = vtables.chunk_by(|(one, _), (next, _)| next.0 - one.0 <= GAP).map(Stretch::new).collect();
        let step = Step::of(vtables.iter().map(|(_, cell)| &cell.layout));
        let vtable_offsets = vtables.iter().map(|(_, cell)| cell.layout.vtable).collect();
        Self { vtables, stretches, step, vtable_offsets }
    }

    /// From a catalog's types of one target.
    pub fn of_target(target: &TargetEntry) -> Self {
        let mut images = HashMap::new();
        let entries = target.types().map(|(at, entry)| {
            let next = images.len() as u32;
            let image = ImageIndex(*images.entry(&entry.id.build_id).or_insert(next));
            (at, CellType { layout: entry.task.layout, resource: entry.task.resource, image })
        });
        Self::new(entries.collect::<Vec<_>>())
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.vtables.is_empty()
    }

    /// A power of two that every header is a multiple of.
    pub(super) fn stride(&self) -> u64 {
        let zeros = self.vtables.iter().map(|(_, cell)| cell.layout.align.max(8).trailing_zeros()).min();
        1 << zeros.unwrap_or(3)
    }

    pub(super) fn step(&self) -> Step {
        self.step
    }

    /// The type whose vtable is at this address.
    #[inline]
    pub(super) fn find(&self, word: u64) -> Option<CellTypeIndex> {
        let stretch = self.stretches.iter().find(|stretch| word.wrapping_sub(stretch.first) <= stretch.span)?;
        stretch.holds(word).then(|| self.index_of(word))?
    }

    /// Every type.
    pub(super) fn indices(&self) -> impl Iterator<Item = CellTypeIndex> {
        (0..self.vtables.len() as u32).map(CellTypeIndex)
    }

    /// Every vtable with its image.
    pub(super) fn vtables(&self) -> impl Iterator<Item = (ProcAddr, ImageIndex)> {
        self.vtables.iter().map(|(at, cell)| (*at, cell.image))
    }

    /// Every image once.
    pub(super) fn images(&self) -> BTreeSet<ImageIndex> {
        self.vtables.iter().map(|(_, cell)| cell.image).collect()
    }

    /// Where in a cell its vtable's address can be.
    pub(super) fn vtable_offsets(&self) -> &BTreeSet<u32> {
        &self.vtable_offsets
    }

    pub(super) fn get(&self, index: CellTypeIndex) -> &CellType {
        &self.vtables[index.0 as usize].1
    }

    pub(super) fn vtable(&self, index: CellTypeIndex) -> ProcAddr {
        self.vtables[index.0 as usize].0
    }

    /// The longest head of all types, in bytes.
    pub(super) fn head_len(&self) -> usize {
        self.vtables.iter().map(|(_, cell)| head_len(&cell.layout)).max().unwrap_or(0)
    }

    fn index_of(&self, word: u64) -> Option<CellTypeIndex> {
        self.vtables.binary_search_by_key(&word, |(at, _)| at.0).ok().map(|index| CellTypeIndex(index as u32))
    }
}

/// Bytes from the header on that hold everything a census reads of a cell in one piece.
pub(super) fn head_len(layout: &CellLayout) -> usize {
    let fields = [layout.state, layout.queue_next, layout.vtable, layout.owner, layout.scheduler, layout.id];
    let last = fields.into_iter().chain(layout.spawn_location).max().unwrap_or(0);
    last as usize + 8
}

impl Stretch {
    fn new(vtables: &[(ProcAddr, CellType)]) -> Self {
        let (first, last) = (vtables[0].0.0, vtables[vtables.len() - 1].0.0);
        let span = last - first;
        let mut words = vec![0; (span / 8 / 64 + 1) as usize];
        for (at, _) in vtables {
            let bit = (at.0 - first) / 8;
            words[(bit / 64) as usize] |= 1 << (bit % 64);
        }
        Self { first, span, words }
    }

    #[inline]
    fn holds(&self, word: u64) -> bool {
        let bit = word.wrapping_sub(self.first) / 8;
        self.words.get((bit / 64) as usize).is_some_and(|bits| bits & 1 << (bit % 64) != 0)
    }
}

impl Step {
    fn of<'l>(layouts: impl Iterator<Item = &'l CellLayout> + Clone) -> Self {
        let every_word = Self { stride: 8, phase: 0 };
        let Some(stride) = layouts.clone().map(|layout| u64::from(layout.align)).min() else { return every_word };
        if stride < 8 || !stride.is_power_of_two() {
            return every_word;
        }
        let mut phases = layouts.map(|layout| u64::from(layout.vtable) % stride);
        match phases.next() {
            Some(phase) if phases.all(|other| other == phase) => Self { stride, phase },
            _ => every_word,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::tests::layout;

    fn types(addresses: &[u64]) -> CellTypes {
        let cell = CellType { layout: layout(128), resource: Resource::Task, image: ImageIndex(0) };
        CellTypes::new(addresses.iter().map(|at| (ProcAddr(*at), cell)))
    }

    #[test]
    fn finds_exactly_the_known_addresses() {
        let known = [0x40_0000, 0x40_0008, 0x40_1238, 0x7f00_0000_0010, 0x7f00_0000_0110];
        let types = types(&known);
        let near = known.iter().flat_map(|at| (at - 24..at + 24).step_by(1));
        for word in near.chain([0, 7, u64::MAX, 0x5000_0000]) {
            let found = types.find(word).map(|index| types.vtable(index).0);
            assert_eq!(found, known.contains(&word).then_some(word), "0x{word:x}");
        }
    }

    #[test]
    fn no_types_find_nothing() {
        assert!(types(&[]).is_empty());
        assert_eq!(types(&[]).find(0), None);
        assert_eq!(types(&[]).head_len(), 0);
    }

    #[test]
    fn steps_by_the_smallest_alignment_where_all_agree_on_the_offset() {
        let step = |layouts: &[CellLayout]| Step::of(layouts.iter());
        assert_eq!(step(&[layout(128)]), Step { stride: 128, phase: 16 });
        assert_eq!(step(&[layout(128), layout(16)]), Step { stride: 16, phase: 0 });
        assert_eq!(step(&[layout(128), layout(8)]), Step { stride: 8, phase: 0 });
        assert_eq!(step(&[layout(128), CellLayout { vtable: 24, ..layout(128) }]), Step { stride: 8, phase: 0 });
        assert_eq!(step(&[layout(0)]), Step { stride: 8, phase: 0 });
        assert_eq!(step(&[]), Step { stride: 8, phase: 0 });
    }
}
