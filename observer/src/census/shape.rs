//! Where in a cell's memory is what a look compares, for each type.
//!
//! Does not know: what a cell must be. It only tells that nothing changed.

use super::cell::Cell;
use super::cell_types::{CellTypeIndex, CellTypes, head_len};
use super::places::Places;
use crate::model::{Resource, word_at};

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::census::cell::TRAILER;
    use crate::census::cell_types::{CellType, ImageIndex};
    use crate::census::tests::layout;
    use crate::model::ProcAddr;

    const VTABLE: u64 = 0x5555_0000_1000;
    const HEADER: ProcAddr = ProcAddr(0x10000);
    const TRAILER_AT: usize = 96;

    fn types(resource: Resource) -> CellTypes {
        CellTypes::new([(ProcAddr(VTABLE), CellType { layout: layout(128), resource, image: ImageIndex(0) })])
    }

    /// Links at the third word of the trailer, learned from three cells in a row.
    fn places(types: &CellTypes) -> Places {
        let headers = [0x10000, 0x20000, 0x30000];
        let read = |header| Cell::read(header, types.find(VTABLE).unwrap(), types, &bytes(0x84, 1, [0; 2])).unwrap();
        let cells = headers.map(|header| read(ProcAddr(header)));
        let trailer = |before, behind| [0, 0, before, behind, 0, 0];
        let trailers = [(0, trailer(0, headers[1])), (1, trailer(headers[0], headers[2])), (2, trailer(headers[1], 0))];
        Places::learn(&cells, &trailers, types, true)
    }

    fn bytes(state: u64, owner: u64, links: [u64; 2]) -> Vec<u8> {
        let mut words = vec![0; TRAILER_AT / 8 + TRAILER];
        words[..6].copy_from_slice(&[state, 0, VTABLE, owner, 0x7777, 17]);
        words[TRAILER_AT / 8 + 2..][..2].copy_from_slice(&links);
        words.into_iter().flat_map(u64::to_ne_bytes).collect()
    }

    fn read(types: &CellTypes, bytes: &[u8], links: Option<usize>) -> Option<Cell> {
        let mut cell = Cell::read(HEADER, types.find(VTABLE)?, types, bytes).ok()?;
        if let Some(at) = links {
            cell.links = [word_at(bytes, at)?, word_at(bytes, at + 8)?];
        }
        Some(cell)
    }

    #[test]
    fn a_closures_cell_is_read_without_links() {
        let types = types(Resource::Blocking);
        let shape = Shape::of(types.find(VTABLE).unwrap(), &types, &Places::default());
        let bytes = bytes(0x84, 0, [0; 2]);
        let cell = read(&types, &bytes, None).unwrap();
        assert_eq!((shape.extent as usize, shape.links), (head_len(&layout(128)), None));
        assert!(shape.is_unchanged(&cell, &bytes[..shape.extent as usize]));
    }

    proptest! {
        #[test]
        fn a_cell_is_unchanged_exactly_where_it_would_be_read_as_the_same(
            word in 0..TRAILER_AT / 8 + TRAILER,
            value in prop_oneof![Just(0u64), Just(0x84), Just(17), Just(VTABLE), any::<u64>()],
        ) {
            let types = types(Resource::Task);
            let shape = Shape::of(types.find(VTABLE).unwrap(), &types, &places(&types));
            let links = TRAILER_AT + 16;
            prop_assert_eq!((shape.links, shape.extent as usize), (Some(links as u32), links + 16));
            let mut bytes = bytes(0x84, 3, [0x20000, 0]);
            let cell = read(&types, &bytes, Some(links)).unwrap();
            bytes[8 * word..][..8].copy_from_slice(&value.to_ne_bytes());
            let own = &bytes[..shape.extent as usize];
            prop_assert_eq!(shape.is_unchanged(&cell, own), read(&types, &bytes, Some(links)) == Some(cell));
            prop_assert!(!shape.is_unchanged(&cell, &own[..own.len() - 1]), "cut off");
        }
    }
}
