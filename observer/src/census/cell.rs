//! One candidate for a task's cell: what was read of it and whether it can be a live one, taken by itself.
//!
//! Does not know: other cells, threads, where the bytes come from.

use super::cell_types::{CellType, CellTypeIndex, CellTypes, head_len};
use super::rejection::Rejection;
use crate::model::{LiveTask, ProcAddr, Resource, TaskId, TaskState, Tid, word_at};

/// Task and list ids count up from 1 and stay far below this (at a million a second for half a year); pointers into the
/// images, heaps and stacks of an ordinary process lie above.
const MAX_COUNT: u64 = 1 << 44;

/// What was read of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Where its header is.
    pub header: ProcAddr,
    /// Its type.
    pub cell_type: CellTypeIndex,
    /// Its state word.
    pub state: TaskState,
    /// Its link in a queue, 0 for none.
    pub queue_next: u64,
    /// Its list's id, 0 for none.
    pub owner: u64,
    /// Its scheduler's address.
    pub scheduler: u64,
    /// Its task id, not 0.
    pub id: u64,
    /// Where it was spawned, 0 where the build does not record it.
    pub spawn_location: u64,
    /// Its neighbours in its list, 0 for none; which is before and which behind is not known. 0 also where the place
    /// of the links was not known when it was read.
    pub links: [u64; 2],
}

/// Words of a trailer that hold the list's links (two), the waker (two) and hooks.
pub const TRAILER: usize = 6;

/// The first words of a cell's trailer; 0 where they cannot be read.
pub type Trailer = [u64; TRAILER];

impl Cell {
    /// From the bytes at its header, judged by what each live cell of the type must be.
    pub fn read(header: ProcAddr, index: CellTypeIndex, types: &CellTypes, bytes: &[u8]) -> Result<Self, Rejection> {
        let cell_type = types.get(index);
        let layout = &cell_type.layout;
        let word = |offset: u32| word_at(bytes, offset as usize).ok_or(Rejection::Unreadable);
        let cell = Self {
            header,
            cell_type: index,
            state: TaskState(word(layout.state)?),
            queue_next: word(layout.queue_next)?,
            owner: word(layout.owner)?,
            scheduler: word(layout.scheduler)?,
            id: word(layout.id)?,
            spawn_location: layout.spawn_location.map_or(Ok(0), word)?,
            links: [0; 2],
        };
        if word(layout.vtable)? != types.vtable(index).0 {
            return Err(Rejection::Changed);
        }
        cell.judge(cell_type).map(|()| cell)
    }

    fn judge(&self, cell_type: &CellType) -> Result<(), Rejection> {
        if !cell_type.layout.is_header(self.header) {
            return Err(Rejection::Misaligned);
        }
        if !self.state.is_plausible() {
            return Err(Rejection::State);
        }
        if !(1..MAX_COUNT).contains(&self.id) {
            return Err(Rejection::Id);
        }
        // A future is bound to its list right after it was moved into its cell; a closure never is.
        let is_owned = match cell_type.resource {
            Resource::Task => (1..MAX_COUNT).contains(&self.owner),
            Resource::Blocking => self.owner == 0,
        };
        if !is_owned {
            return Err(Rejection::Owner);
        }
        match cell_type.layout.is_queue_link(self.queue_next) {
            true => Ok(()),
            false => Err(Rejection::QueueLink),
        }
    }

    /// Where its trailer is.
    pub fn trailer(&self, types: &CellTypes) -> ProcAddr {
        ProcAddr(self.header.0.wrapping_add(u64::from(types.get(self.cell_type).layout.trailer)))
    }

    /// Whether it is a future's.
    pub fn is_future(&self, types: &CellTypes) -> bool {
        types.get(self.cell_type).resource == Resource::Task
    }

    /// Whether it is a future's that is not complete.
    pub fn is_live_future(&self, types: &CellTypes) -> bool {
        !self.state.is_complete() && self.is_future(types)
    }

    /// Whether it names a neighbour.
    pub fn is_linked(&self) -> bool {
        self.links != [0; 2]
    }

    /// Whether this is still the task that the other was.
    pub fn is_same_task(&self, other: &Self) -> bool {
        (self.header, self.cell_type, self.id, self.owner) == (other.header, other.cell_type, other.id, other.owner)
    }

    /// As the rest of the program knows it.
    pub fn to_task(self, types: &CellTypes, running_on: Option<Tid>) -> LiveTask {
        LiveTask {
            header: self.header,
            vtable: types.vtable(self.cell_type),
            id: TaskId(self.id),
            state: self.state,
            owner: self.owner,
            spawn_location: Some(ProcAddr(self.spawn_location)).filter(|at| at.0 != 0),
            running_on,
        }
    }
}

/// Candidates in one piece of memory: calls `each` with every cell that passes and its trailer, as far as that is in the
/// piece, `reject` with every other, and `edge` with the header and type of those whose head is not wholly in the piece.
pub fn scan(
    at: ProcAddr,
    bytes: &[u8],
    types: &CellTypes,
    mut each: impl FnMut(Cell, Option<Trailer>),
    mut reject: impl FnMut(Rejection),
    mut edge: impl FnMut(ProcAddr, CellTypeIndex),
) {
    let step = types.step();
    // The first place in the piece that leaves the phase.
    let mut place = (step.phase.wrapping_sub(at.0) & (step.stride - 1)) as usize;
    while let Some(word) = word_at(bytes, place) {
        if let Some(index) = types.find(word) {
            let layout = &types.get(index).layout;
            let header = ProcAddr(at.0.wrapping_add(place as u64).wrapping_sub(u64::from(layout.vtable)));
            let begin = place.checked_sub(layout.vtable as usize);
            match begin.and_then(|begin| bytes.get(begin..begin + head_len(layout))) {
                _ if !layout.is_header(header) => reject(Rejection::Misaligned),
                None => edge(header, index),
                Some(head) => match Cell::read(header, index, types, head) {
                    Ok(cell) => each(cell, begin.and_then(|begin| trailer_at(bytes, begin + layout.trailer as usize))),
                    Err(reason) => reject(reason),
                },
            }
        }
        place += step.stride as usize;
    }
}

/// The trailer at this place, if all of it is there.
pub fn trailer_at(bytes: &[u8], place: usize) -> Option<Trailer> {
    let words = bytes.get(place..place.checked_add(8 * TRAILER)?)?;
    Some(std::array::from_fn(|word| word_at(words, 8 * word).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::census::cell_types::ImageIndex;
    use crate::census::tests::layout;
    use crate::model::CellLayout;

    const FUTURE: u64 = 0x5555_0000_1000;
    const CLOSURE: u64 = 0x5555_0000_1100;

    fn types() -> CellTypes {
        let cell = |resource| CellType { layout: layout(128), resource, image: ImageIndex(0) };
        CellTypes::new([(ProcAddr(FUTURE), cell(Resource::Task)), (ProcAddr(CLOSURE), cell(Resource::Blocking))])
    }

    /// Words at offsets: state 0, queue link 8, vtable 16, owner 24, id 40.
    fn scanned(base: u64, words: &[u64]) -> (Vec<Cell>, Vec<Rejection>, Vec<ProcAddr>) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let (mut cells, mut rejected, mut edges) = (vec![], vec![], vec![]);
        let edge = |header, _| edges.push(header);
        scan(ProcAddr(base), &bytes, &types(), |cell, _| cells.push(cell), |reason| rejected.push(reason), edge);
        (cells, rejected, edges)
    }

    #[test]
    fn an_idle_future_is_read_word_for_word() {
        let (cells, rejected, edges) = scanned(0x10000, &[0x84, 0, FUTURE, 3, 0xdead, 17, 0, 0]);
        assert_eq!((rejected, edges), (vec![], vec![]));
        assert_eq!(cells.len(), 1);
        let task = cells[0].to_task(&types(), None);
        assert_eq!((task.header.0, task.vtable.0, task.id.0, task.owner), (0x10000, FUTURE, 17, 3));
        assert_eq!(task.state.references(), 2);
    }

    #[test]
    fn what_cannot_be_live_is_rejected_with_its_reason() {
        for (words, reason) in [
            ([0x04, 0, FUTURE, 3, 0, 17], Rejection::State),
            ([0x43, 0, FUTURE, 3, 0, 17], Rejection::State),
            ([0x7f00_0000_0000, 0, FUTURE, 3, 0, 17], Rejection::State),
            ([0x84, 0, FUTURE, 3, 0, 0], Rejection::Id),
            ([0x84, 0, FUTURE, 3, 0, 0x7f0d_7b43_5d28], Rejection::Id),
            ([0x84, 0, FUTURE, 0, 0, 17], Rejection::Owner),
            ([0x84, 0, FUTURE, 0x7f0d_7b43_5d28, 0, 17], Rejection::Owner),
            ([0x84, 0, CLOSURE, 3, 0, 17], Rejection::Owner),
            ([0x84, 0x10010, FUTURE, 3, 0, 17], Rejection::QueueLink),
        ] {
            let (cells, rejected, _) = scanned(0x10000, &words);
            assert_eq!((cells, rejected), (vec![], vec![reason]), "{words:x?}");
        }
    }

    #[test]
    fn a_head_cut_by_the_pieces_end_is_left_to_another_read() {
        let (cells, rejected, edges) = scanned(0x10000, &[0x84, 0, FUTURE, 3, 0]);
        assert_eq!((cells, rejected, edges), (vec![], vec![], vec![ProcAddr(0x10000)]));
        let (_, _, edges) = scanned(0x10010, &[FUTURE, 3, 0, 17]);
        assert_eq!(edges, [ProcAddr(0x10000)]);
    }

    #[test]
    fn a_word_in_the_wrong_place_is_passed_over() {
        let (cells, rejected, edges) = scanned(0x10000, &[0, 0, 0, FUTURE, 0x84, 0, FUTURE, 3, 0, 17]);
        assert_eq!((cells, rejected, edges), (vec![], vec![], vec![]));
    }

    proptest! {
        #[test]
        fn no_bytes_and_no_layout_panic(
            base: u64,
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            offsets in proptest::array::uniform8(0u32..400),
            align: u32,
        ) {
            let [state, queue_next, vtable, owner, scheduler, id, location, trailer] = offsets;
            let spawn_location = (location > 200).then_some(location);
            let layout =
                CellLayout { state, queue_next, vtable, owner, scheduler, id, spawn_location, trailer, align, stage_tagged: false };
            let known = word_at(&bytes, 16).unwrap_or(8);
            let cell = CellType { layout, resource: Resource::Task, image: ImageIndex(0) };
            let types = CellTypes::new([(ProcAddr(known), cell), (ProcAddr(0), cell)]);
            scan(ProcAddr(base), &bytes, &types, |_, _| (), |_| (), |_, _| ());
        }
    }
}
