//! Where in a cell's memory is what a look compares, for each type.
//!
//! Does not know: what a cell must be. It only tells that nothing changed.

use super::cell::{Cell, word_at};
use super::cell_types::{CellTypeIndex, CellTypes, head_len};
use super::places::Places;
use crate::model::Resource;

/// Links further behind their header than this are read by themselves.
const FAR: u32 = 4 << 10;

/// One type's.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes from the header on that are read in one piece.
    pub extent: u32,
    /// Of a list's links, where they are known.
    pub links: Option<u32>,
    vtable: u64,
    /// Offsets, in the order of [`words_of`].
    words: [u32; WORDS],
    spawn_location: Option<u32>,
}

/// All types' shapes.
pub struct Shapes(Vec<Shape>);

const WORDS: usize = 6;

impl Shape {
    /// Of this type, where the links are at these places.
    pub fn of(index: CellTypeIndex, types: &CellTypes, places: &Places) -> Self {
        let cell_type = types.get(index);
        let layout = &cell_type.layout;
        // A closure is in no list.
        let place = places.of(cell_type.image).filter(|_| cell_type.resource == Resource::Task);
        let links = place.map(|place| layout.trailer.saturating_add(8 * place as u32));
        let head = head_len(layout) as u32;
        Self {
            extent: links.filter(|links| *links < FAR).map_or(head, |links| head.max(links + 16)),
            links,
            vtable: types.vtable(index).0,
            words: [layout.state, layout.queue_next, layout.vtable, layout.owner, layout.scheduler, layout.id],
            spawn_location: layout.spawn_location,
        }
    }

    /// Whether the bytes from its header on say that the cell is what it was. `false` where they do not tell.
    #[inline]
    pub fn is_unchanged(&self, cell: &Cell, bytes: &[u8]) -> bool {
        let is = |offset: u32, word: u64| word_at(bytes, offset as usize) == Some(word);
        let head = self.words.into_iter().zip(words_of(cell, self.vtable)).all(|(offset, word)| is(offset, word));
        let [one, other] = cell.links;
        head && match self.links {
            Some(offset) => is(offset, one) && is(offset.saturating_add(8), other),
            None => cell.links == [0; 2],
        } && self.spawn_location.is_none_or(|offset| is(offset, cell.spawn_location))
    }
}

impl Shapes {
    /// Of all types.
    pub fn new(types: &CellTypes, places: &Places) -> Self {
        Self(types.indices().map(|index| Shape::of(index, types, places)).collect())
    }

    /// Of this one.
    #[inline]
    pub fn get(&self, index: CellTypeIndex) -> &Shape {
        &self.0[index.place()]
    }
}

#[inline]
fn words_of(cell: &Cell, vtable: u64) -> [u64; WORDS] {
    [cell.state.0, cell.queue_next, vtable, cell.owner, cell.scheduler, cell.id]
}
