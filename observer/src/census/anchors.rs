//! Where a scheduler's lists begin and end, and where it counts what is in them.
//!
//! Mirrors tokio 1.23 to 1.54 `runtime/task/list.rs`, `util/{linked_list,sharded_list}.rs`: a list is a pair of words,
//! its two ends; a scheduler has one, or a power of two of them behind a mutex each, and a task is in that of its id.
//! Does not know: offsets in a scheduler; they are found by what is there. Which of a pair is the head does not matter.

use std::collections::HashMap;

use super::addresses::Addresses;
use super::cell::Cell;
use super::cell_types::{CellTypes, ImageIndex};
use super::counts::Counts;
use super::listing::{SCHEDULER, writable};
use super::look::Look;
use crate::model::{ProcAddr, word_at};
use crate::target::{Memory, MemoryError};

/// Bytes of a shard, `Mutex<LinkedList>`.
const SHARD: u64 = 24;
/// Where the two ends can be in it.
const ENDS: [u64; 2] = [8, 0];
/// `gen_sharded_list_size`: four for each worker's power of two, up to 2^16.
const SHARDS: std::ops::RangeInclusive<u64> = 4..=1 << 16;
/// Words around a list's own that are taken for its count.
const AROUND: usize = 8;
/// Looks at ends that do not fit, while lists change.
const LOOKS: usize = 4;
/// More lists than this are not followed.
const MAX_LISTS: usize = 4096;

/// One runtime's or local set's list of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its image.
    pub image: ImageIndex,
    /// Its id.
    pub owner: u64,
    /// Where its ends are.
    pub anchor: Anchor,
    /// What may be the number of its tasks.
    pub counts: Counts,
}

/// Where the ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The first pair.
    first: ProcAddr,
    /// How many: a power of two.
    shards: u64,
}

/// What is known of the members of one list.
#[derive(Clone, Debug, Default)]
struct Group {
    scheduler: u64,
    members: u64,
    /// Those that lack a neighbour, up to two a shard.
    ends: Vec<u32>,
}

impl List {
    /// Whether it has neither members nor a count of any.
    pub fn is_empty(&self, memory: &Memory<'_>) -> Result<bool, MemoryError> {
        for count in self.counts.words() {
            let mut word = [0; 8];
            if memory.read(*count, &mut word)? < word.len() || word != [0; 8] {
                return Ok(false);
            }
        }
        Ok(self.anchor.read(memory)?.is_some_and(|pairs| pairs.iter().all(|pair| *pair == [0; 2])))
    }
}

impl Anchor {
    /// The pairs now, `None` where they cannot be read.
    pub fn read(&self, memory: &Memory<'_>) -> Result<Option<Vec<[u64; 2]>>, MemoryError> {
        let stride = if self.shards == 1 { 16 } else { SHARD };
        let mut bytes = vec![0; (stride * (self.shards - 1) + 16) as usize];
        let read = memory.read(self.first, &mut bytes)?;
        let pair = |shard: u64| {
            let place = (shard * stride) as usize;
            Some([word_at(&bytes, place)?, word_at(&bytes, place + 8)?])
        };
        Ok((0..self.shards).map(pair).collect::<Option<_>>().filter(|_| read == bytes.len()))
    }

    /// Which pair a task with this id is between.
    pub fn shard_of(&self, id: u64) -> usize {
        (id & (self.shards - 1)) as usize
    }
}

/// Finds every list that has members, `None` where one cannot be found for certain. `slack` is by how much a count may
/// differ from the cells, because something was born or ended meanwhile.
pub fn learn(
    cells: &[Cell],
    addresses: &Addresses,
    look: &Look<'_>,
    memory: &Memory<'_>,
    slack: u64,
) -> Result<Option<Vec<List>>, MemoryError> {
    let Some(groups) = groups(cells, look.types) else { return Ok(None) };
    let mut lists = Vec::new();
    for ((image, owner), group) in groups {
        let Some(range) = writable(look.maps, group.scheduler, SCHEDULER) else { return Ok(None) };
        let mut bytes = vec![0; range.len() as usize];
        let read = memory.read(range.start, &mut bytes)?;
        let words: Vec<u64> = bytes[..read].chunks_exact(8).filter_map(|word| word_at(word, 0)).collect();
        let finder = Finder { list: (image, owner), group: &group, words: &words, cells, addresses, look, memory };
        let sharded = finder.sharded()?;
        let Some((anchor, place)) = (if sharded.is_some() { sharded } else { finder.single()? }) else {
            return Ok(None);
        };
        let around = place.saturating_sub(AROUND)..(place + 2 + AROUND).min(words.len());
        let is_count = |at: &usize| *at != place && *at != place + 1 && words[*at].abs_diff(group.members) <= slack;
        let counts = around.filter(is_count).map(|at| ProcAddr(range.start.0 + 8 * at as u64)).collect();
        lists.push(List { image, owner, anchor, counts: Counts::new(counts, slack) });
    }
    Ok(Some(lists))
}

/// Whether the cell is in a list, if none that is alone was taken out of its list.
pub fn is_member(cell: &Cell, types: &CellTypes) -> bool {
    cell.is_future(types) && (cell.is_linked() || !cell.state.is_complete())
}

fn groups(cells: &[Cell], types: &CellTypes) -> Option<HashMap<(ImageIndex, u64), Group>> {
    let mut groups: HashMap<(ImageIndex, u64), Group> = HashMap::new();
    let mut rest = cells.iter().enumerate().filter(|(_, cell)| is_member(cell, types)).peekable();
    while let Some((_, first)) = rest.peek() {
        let list = (types.get(first.cell_type).image, first.owner);
        let group = groups.entry(list).or_insert(Group { scheduler: first.scheduler, ..Group::default() });
        // Neighbours in memory are mostly of one list.
        let is_same = |(_, cell): &(usize, &Cell)| (types.get(cell.cell_type).image, cell.owner) == list;
        while let Some((position, cell)) = rest.next_if(is_same) {
            group.members += 1;
            if cell.links.contains(&0) && group.ends.len() < 2 * *SHARDS.end() as usize {
                group.ends.push(position as u32);
            }
        }
        if groups.len() > MAX_LISTS {
            return None;
        }
    }
    Some(groups)
}

struct Finder<'a> {
    list: (ImageIndex, u64),
    group: &'a Group,
    /// Of the scheduler.
    words: &'a [u64],
    cells: &'a [Cell],
    addresses: &'a Addresses,
    look: &'a Look<'a>,
    memory: &'a Memory<'a>,
}

impl Finder<'_> {
    /// Shards behind a pointer and their number, with the mask beside them; and where in the words the pointer is.
    fn sharded(&self) -> Result<Option<(Anchor, usize)>, MemoryError> {
        for (place, pair) in self.words.windows(2).enumerate() {
            let [base, shards] = [pair[0], pair[1]];
            let near = &self.words[place.saturating_sub(AROUND)..(place + 2 + AROUND).min(self.words.len())];
            let is_plausible = SHARDS.contains(&shards) && shards.is_power_of_two() && near.contains(&(shards - 1));
            let whole = |range: crate::target::AddressRange| range.len() == SHARD * shards;
            if !is_plausible || !writable(self.look.maps, base, SHARD * shards).is_some_and(whole) {
                continue;
            }
            for ends in ENDS {
                let anchor = Anchor { first: ProcAddr(base + ends), shards };
                if self.fits(&anchor)? {
                    return Ok(Some((anchor, place)));
                }
            }
        }
        Ok(None)
    }

    /// The only pair of words that are the ends of the only list.
    fn single(&self) -> Result<Option<(Anchor, usize)>, MemoryError> {
        let mut found = None;
        for (place, pair) in self.words.windows(2).enumerate() {
            if pair.contains(&0) || self.known(pair[0]).or(self.known(pair[1])).is_none() {
                continue;
            }
            let at = self.group.scheduler + 8 * place as u64;
            let anchor = Anchor { first: ProcAddr(at), shards: 1 };
            if self.fits(&anchor)? && found.replace((anchor, place)).is_some() {
                return Ok(None);
            }
        }
        Ok(found)
    }

    /// Whether the ends that are there are ends of this list, and most of those that are known are there.
    fn fits(&self, anchor: &Anchor) -> Result<bool, MemoryError> {
        for _ in 0..LOOKS {
            if self.fits_now(anchor)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn fits_now(&self, anchor: &Anchor) -> Result<bool, MemoryError> {
        let Some(pairs) = anchor.read(self.memory)? else { return Ok(false) };
        let mut known = 0;
        for (shard, pair) in pairs.iter().enumerate() {
            if *pair == [0; 2] {
                continue;
            }
            for end in pair {
                let Some(cell) = self.end(*end)? else { return Ok(false) };
                let own = (self.look.types.get(cell.cell_type).image, cell.owner);
                if own != self.list || anchor.shard_of(cell.id) != shard {
                    return Ok(false);
                }
                known += usize::from(self.known(*end).is_some());
            }
        }
        let is_there = |position: &&u32| {
            let cell = &self.cells[**position as usize];
            pairs[anchor.shard_of(cell.id)].contains(&cell.header.0)
        };
        let there = self.group.ends.iter().filter(is_there).count();
        Ok(known > 0 && 4 * there >= self.group.ends.len())
    }

    /// The cell at this address, if it lacks a neighbour.
    fn end(&self, address: u64) -> Result<Option<Cell>, MemoryError> {
        let is_end = |cell: &Cell| cell.links.contains(&0);
        Ok(match self.known(address) {
            Some(cell) if is_end(cell) => Some(*cell),
            // Born since, or an end since.
            _ => self.look.meet(ProcAddr(address))?.filter(is_end),
        })
    }

    fn known(&self, address: u64) -> Option<&Cell> {
        self.addresses.position(address).map(|position| &self.cells[position])
    }
}
