//! Where the objects begin that wakers lie in, and which other tasks hold the address of the same.
//!
//! Does not know: what the objects are. A task that waits on something shared holds its address, so the beginning is the
//! nearest address before the waker that the task's own future holds; an `Arc`'s two counts speak for one. A future has
//! room that is not in use at the moment, with words from before in it: who holds an address may once have held it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::cells::{Cells, TaskIndex};
use super::holder::Holder;
use super::queue::BLOCK;
use super::wakers::Place;
use super::window;
use crate::census::walk::Walk;
use crate::model::{Peers, ProcAddr, TaskId, word_at};
use crate::target::{AddressRange, Memory, MemoryError};

/// Bytes of an object before the waker in it, at most. The shared part of an `mpsc` channel is 500 with its padding.
const REACH: u64 = 1 << 10;
/// Addresses in a future that may be an object's beginning, the nearest ones.
const CANDIDATES: usize = 6;
/// Bytes of one future that are looked at.
const MAX_FUTURE: u64 = 1 << 20;
/// Bytes of a trailer: the list's links, the waker and the hooks.
const TRAILER: usize = 48;
/// Bytes of a set's entry that are looked at: links, the set, the value's place, a few words of its own.
const ENTRY: usize = 64;
/// Counts of an `Arc` are below.
const MAX_COUNT: u64 = 1 << 32;

/// The objects.
#[derive(Debug, Default)]
pub struct Objects {
    /// By place, as an index into what was found.
    begins: HashMap<usize, ProcAddr>,
    /// By the object's address as it is told.
    peers: HashMap<ProcAddr, Peers>,
}

impl Objects {
    /// Of the wakers that were found, in order of task.
    pub fn find(cells: &Cells<'_>, found: &[(Place, Holder)], memory: &Memory<'_>) -> Result<Self, MemoryError> {
        let mut targets: HashMap<TaskIndex, Vec<Target>> = HashMap::new();
        for (index, (place, holder)) in found.iter().enumerate() {
            if let Some(at) = address_of(place, holder) {
                targets.entry(place.task).or_default().push(Target { found: index, at, before: Vec::new() });
            }
        }
        let of_interest = |task: TaskIndex| targets.contains_key(&task);
        let ranges = futures(cells, of_interest);
        each_future(&ranges, memory, |task, words| {
            for target in targets.get_mut(&task).into_iter().flatten() {
                words.iter().for_each(|word| target.offer(*word));
            }
        })?;
        let mut targets: Vec<(TaskIndex, Target)> = targets
            .into_iter()
            .flat_map(|(task, targets)| targets.into_iter().map(move |target| (task, target)))
            .collect();
        targets.sort_unstable_by_key(|(_, target)| target.found);
        let counted = counted(targets.iter().flat_map(|(_, target)| &target.before), memory)?;
        let mut objects = Self::default();
        // The words that stand for an object, and who waits for it.
        let mut names: HashMap<u64, Vec<ProcAddr>> = HashMap::new();
        let mut waiters: HashSet<(ProcAddr, TaskIndex)> = HashSet::new();
        for (task, target) in targets {
            let shared = target.before.iter().find(|at| counted.contains(at)).copied();
            let begin = shared.or_else(|| target.before.first().copied());
            let holder = &found[target.found].1;
            let told = match (holder, begin) {
                (Holder::Object, Some(begin)) => {
                    objects.begins.insert(target.found, ProcAddr(begin));
                    ProcAddr(begin)
                }
                (Holder::Object, None) => continue,
                _ => target.at,
            };
            for name in [Some(told.0), shared].into_iter().flatten() {
                let known = names.entry(name).or_default();
                if !known.contains(&told) {
                    known.push(told);
                }
            }
            waiters.insert((told, task));
        }
        if !names.is_empty() {
            objects.find_peers(cells, &names, &waiters, memory)?;
        }
        Ok(objects)
    }

    /// Where the object of this place begins.
    pub fn begin(&self, found: usize) -> Option<ProcAddr> {
        self.begins.get(&found).copied()
    }

    /// Who else holds the object's address.
    pub fn peers(&self, told: ProcAddr) -> Peers {
        self.peers.get(&told).cloned().unwrap_or_default()
    }

    fn find_peers(
        &mut self,
        cells: &Cells<'_>,
        names: &HashMap<u64, Vec<ProcAddr>>,
        waiters: &HashSet<(ProcAddr, TaskIndex)>,
        memory: &Memory<'_>,
    ) -> Result<(), MemoryError> {
        let (lowest, highest) = (names.keys().min().copied(), names.keys().max().copied());
        let in_span = |word: u64| Some(word) >= lowest && Some(word) <= highest;
        let mut last: HashMap<ProcAddr, TaskIndex> = HashMap::new();
        let mut holds = |task, words: &[u64]| {
            let names = words.iter().filter(|word| in_span(**word)).filter_map(|word| names.get(word));
            for told in names.flatten() {
                // A future often holds an address more than once.
                if !waiters.contains(&(*told, task)) && last.insert(*told, task) != Some(task) {
                    add(self.peers.entry(*told).or_default(), cells.task(task).id);
                }
            }
        };
        each_future(&futures(cells, |_| true), memory, &mut holds)?;
        each_joiner(cells, memory, holds)
    }
}

/// An address whose object is looked for.
struct Target {
    found: usize,
    at: ProcAddr,
    /// Addresses before it, the nearest first.
    before: Vec<u64>,
}

impl Target {
    fn offer(&mut self, word: u64) {
        let distance = self.at.0.wrapping_sub(word);
        if distance >= REACH || !window::is_pointer(word) || self.before.contains(&word) {
            return;
        }
        let place = self.before.partition_point(|known| *known > word);
        self.before.insert(place, word);
        self.before.truncate(CANDIDATES);
    }
}

/// What the task waits for, if others may hold its address.
fn address_of(place: &Place, holder: &Holder) -> Option<ProcAddr> {
    match holder {
        Holder::Object => Some(place.at),
        Holder::Queue(queue) => Some(queue.owner),
        _ => None,
    }
}

/// Those of the addresses at which the two counts of an `Arc` stand.
fn counted<'w>(addresses: impl Iterator<Item = &'w u64>, memory: &Memory<'_>) -> Result<HashSet<u64>, MemoryError> {
    let mut wanted: Vec<ProcAddr> = addresses.map(|at| ProcAddr(*at)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut found = HashSet::new();
    memory.read_each(&wanted, 16, |index, bytes| {
        let count = |place: usize| bytes.and_then(|bytes| word_at(bytes, place)).unwrap_or(0);
        let is_count = |count: u64| (1..MAX_COUNT).contains(&count);
        if is_count(count(0)) && is_count(count(8)) {
            found.insert(wanted[index].0);
        }
    })?;
    Ok(found)
}

/// The futures of these tasks, in order of address.
fn futures(cells: &Cells<'_>, wanted: impl Fn(TaskIndex) -> bool) -> Vec<(TaskIndex, Range<u64>)> {
    let future = |index: TaskIndex| {
        let (start, layout) = (cells.task(index).header.0, cells.layout(index));
        // Behind the header, and before what names other tasks for the runtime's own sake.
        let first = start + u64::from(layout.id) + 8;
        (index, first..(start + u64::from(layout.trailer)).min(first + MAX_FUTURE))
    };
    cells.iter().map(|(index, _)| index).filter(|index| wanted(*index)).map(future).collect()
}

/// The words of each of these futures, read together where they are close; one may come in two parts.
fn each_future(
    futures: &[(TaskIndex, Range<u64>)],
    memory: &Memory<'_>,
    mut each: impl FnMut(TaskIndex, &[u64]),
) -> Result<(), MemoryError> {
    let near = 8 * BLOCK as u64;
    let together = futures.chunk_by(|(_, one), (_, next)| next.start <= one.end + near);
    let ranges = together.filter_map(|group| {
        let (first, last) = (group.first()?, group.iter().map(|(_, range)| range.end).max()?);
        Some(AddressRange { start: ProcAddr(first.1.start), end: ProcAddr(last) })
    });
    let (mut next, mut words) = (0, Vec::new());
    Walk::over(ranges).run(memory, |at, bytes| {
        let end = at.0 + bytes.len() as u64;
        while let Some((task, range)) = futures.get(next).filter(|(_, range)| range.start < end) {
            let first = range.start.max(at.0);
            let inside = bytes.get(first.wrapping_sub(at.0) as usize..range.end.min(end).wrapping_sub(at.0) as usize);
            words.clear();
            words.extend(inside.unwrap_or_default().chunks_exact(8).filter_map(|word| word_at(word, 0)));
            each(*task, &words);
            // The rest of it is in the next piece.
            if range.end > end {
                break;
            }
            next += 1;
        }
    })?;
    Ok(())
}

/// The words of what waits for a task to end, where that is no task itself: an entry of a `JoinSet` or of another set of
/// futures, which holds the address of the set. The task is one of those that the set's owner waits for.
fn each_joiner(
    cells: &Cells<'_>,
    memory: &Memory<'_>,
    mut each: impl FnMut(TaskIndex, &[u64]),
) -> Result<(), MemoryError> {
    let joined: Vec<TaskIndex> =
        cells.iter().filter(|(_, task)| task.state.has_join_waker()).map(|(index, _)| index).collect();
    let trailer = |index: &TaskIndex| ProcAddr(cells.task(*index).header.0 + u64::from(cells.layout(*index).trailer));
    let trailers: Vec<ProcAddr> = joined.iter().map(trailer).collect();
    let mut entries: Vec<(ProcAddr, TaskIndex)> = Vec::new();
    memory.read_each(&trailers, TRAILER, |position, bytes| {
        let words = bytes.unwrap_or_default().chunks_exact(8).filter_map(|word| word_at(word, 0));
        let entry = |word: &u64| window::is_pointer(*word) && cells.containing(ProcAddr(*word)).is_none();
        entries.extend(words.filter(entry).map(|word| (ProcAddr(word), joined[position])));
    })?;
    entries.sort_unstable();
    let addresses: Vec<ProcAddr> = entries.iter().map(|(at, _)| *at).collect();
    memory.read_each(&addresses, ENTRY, |position, bytes| {
        let words = bytes.unwrap_or_default().chunks_exact(8).filter_map(|word| word_at(word, 0));
        each(entries[position].1, &words.collect::<Vec<_>>());
    })
}

/// The lowest ids are named, the others counted.
fn add(peers: &mut Peers, task: TaskId) {
    let place = peers.tasks.partition_point(|known| *known < task);
    peers.tasks.insert(place, task);
    if peers.tasks.len() > Peers::KEPT {
        peers.tasks.truncate(Peers::KEPT);
        peers.more = peers.more.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_ids_are_named_and_the_others_counted() {
        let mut peers = Peers::default();
        [9, 3, 7, 1, 8, 2].into_iter().for_each(|id| add(&mut peers, TaskId(id)));
        assert_eq!(peers, Peers { tasks: [1, 2, 3, 7].map(TaskId).to_vec(), more: 2 });
    }

    #[test]
    fn the_nearest_addresses_before_the_waker_are_kept() {
        let mut target = Target { found: 0, at: ProcAddr(0x20_0000), before: vec![] };
        for word in [0x1f_fff0, 0x20_0000, 0x20_0008, 0x1f_fc00, 0x1f_fc08, 0x1f_fff0, 0x1f_ff03] {
            target.offer(word);
        }
        assert_eq!(target.before, [0x20_0000, 0x1f_fff0, 0x1f_fc08]);
    }
}
