//! A census along known lists: cells looked at again, links followed to those born since, and whether it adds up.
//!
//! Does not know: how the lists were found. What does not add up is a doubt, never a guess.

use super::addresses::Addresses;
use super::anchors::List;
use super::bounds::Bounds;
use super::cell::Cell;
use super::cell_types::CellTypes;
use super::counters::{Counters, Reading};
use super::execution::{Execution, Surroundings};
use super::following::{Followed, Following, Lost, loose};
use super::last_look::LastLook;
use super::look::{Differing, Look};
use super::places::Places;
use super::rejection::{Rejected, Rejection};
use super::tally::{Members, Tally};
use super::tasks::{Place, Room, to_tasks};
use super::{Census, CensusError, Doubt, High, How, Unlisted};
use crate::model::{LiveTask, Ns, ProcAddr, Tid};
use crate::target::{Mapping, Memory, MemoryError, Process, monotonic_now};

/// What the last census left for the next.
#[derive(Debug)]
pub struct Known {
    /// Every cell in it, in order of address.
    pub cells: Vec<Cell>,
    /// Their headers.
    pub addresses: Addresses,
    /// Those whose links led to nothing.
    pub loose: Vec<ProcAddr>,
    /// What the counters held at its beginning.
    pub counted: Reading,
    /// When the last scan ended.
    pub scan: Ns,
}

/// One walk.
pub struct Walking<'a> {
    /// The process.
    pub process: &'a Process,
    /// Its types.
    pub types: &'a CellTypes,
    /// Where links are.
    pub places: &'a Places,
    /// Its mappings.
    pub maps: &'a [Mapping],
    /// Its memory.
    pub memory: Memory<'a>,
    /// The lists to follow; of possible counts those that prove wrong are dropped.
    pub lists: &'a mut [List],
    /// The static counters.
    pub counters: &'a mut Counters,
    /// Room for the tasks.
    pub room: Vec<LiveTask>,
    /// How many cells there may be.
    pub most: usize,
}

impl Walking<'_> {
    /// Walks; gives the census and what the next one needs, or why a walk cannot be believed.
    pub fn run(mut self, known: Known) -> Result<Result<(Census, Known), Doubt>, CensusError> {
        let started = monotonic_now();
        let Known { mut cells, addresses, loose: before, counted, scan } = known;
        let begin = self.counters.read(&self.memory)?;
        if let Some(doubt) = self.doubt_of_counters(&counted, &begin) {
            return Ok(Err(doubt));
        }
        let (Some(first), threads) = (self.counts()?, self.process.threads()?) else { return Ok(Err(Doubt::Count)) };
        let ends = self.ends()?;
        let at = monotonic_now();
        let look = Look { process: self.process, types: self.types, places: self.places, maps: self.maps };
        let members = Members::of(self.lists, self.types);
        // Where nothing was born lately, mostly nothing changes now either: the cells of this look are the census's.
        let (at_once, room) = (counted == begin, std::mem::take(&mut self.room));
        let (differing, tally, tasks) = look_at_all(&look, &mut cells, &members, at_once, room)?;
        let mut rejected = Rejected::default();
        differing.gone.iter().for_each(|_| rejected.add(Rejection::Changed));
        let following = Following::new(look, &*self.lists, cells, &addresses, (&differing, &before), self.most);
        let Followed { mut cells, moved } = match following.run(&differing.unlinked)? {
            Ok(followed) => followed,
            Err(Lost::Link) => return Ok(Err(Doubt::Link)),
            Err(Lost::Room) => return Ok(Err(Doubt::Room)),
        };
        let (end, last) = (self.counters.read(&self.memory)?, self.counts()?);
        let Some(last) = last else { return Ok(Err(Doubt::Count)) };
        // Whoever was bound meanwhile with an older id stands at an end now, also where another one left for it.
        let unchanged = begin == end && first == last && ends == self.ends()?;
        let quiet = unchanged && first.iter().all(|counts| !counts.is_empty());
        if self.counters.others_moved(&begin, &end) {
            return Ok(Err(Doubt::NewList));
        }
        let tally = if moved { members.tally_all(&cells) } else { tally };
        if !self.adds_up(&tally.members, (&first, &last), (&begin, &end), threads.len() as u64) {
            return Ok(Err(Doubt::Count));
        }
        let pagemap = self.process.pagemap();
        let surroundings = Surroundings { threads: &threads, maps: self.maps, pagemap: pagemap.as_ref() };
        let execution = Execution::of(&cells, &tally.running, self.types, surroundings, &self.memory)?;
        let mut bytes = differing.bytes;
        let bounds = if quiet {
            // Nothing was born or bound and nothing left a list since the first counts, so what there is was there right after them.
            Bounds { at, low: tally.live, high: High::AtMost(tally.live) }
        } else {
            let last = LastLook::take(&look, self.counters, &begin, threads.len() as u64, &mut cells)?;
            (0..last.gone).for_each(|_| rejected.add(Rejection::Changed));
            bytes += last.bytes;
            last.bounds
        };
        let thread_of = |cell: &Cell| execution.thread_of(cell);
        let tasks = match at_once && quiet && !moved {
            true => told(tasks, &cells, &tally.running, thread_of),
            false => to_tasks(&cells, self.types, thread_of, tasks),
        };
        let unchanged = differing.gone.is_empty() && cells.len() == addresses.len() && quiet;
        let addresses = match unchanged {
            true => addresses,
            false => Addresses::new(cells.iter().map(|cell| cell.header), self.types.stride()),
        };
        let loose = if unchanged && before.is_empty() { before } else { loose(&cells, &addresses, self.types) };
        let census = Census {
            tasks,
            how: How::Walk,
            unlisted: Unlisted::SinceScan(scan),
            bounds,
            started,
            ended: monotonic_now(),
            bytes_read: bytes,
            unread: Vec::new(),
            rejected,
            truncated: false,
        };
        Ok(Ok((census, Known { cells, addresses, loose, counted: begin, scan })))
    }

    /// Whether what the counters did since the last census is more than births in known lists.
    fn doubt_of_counters(&self, from: &Reading, to: &Reading) -> Option<Doubt> {
        if self.counters.others_moved(from, to) {
            return Some(Doubt::NewList);
        }
        self.types.images().into_iter().find_map(|image| {
            let Some(minted) = self.counters.minted(image, from, to) else { return Some(Doubt::NoCounter) };
            let lists = self.lists.iter().filter(|list| list.image == image).count() as u64;
            let all_known = self.counters.are_all_lists(image, lists, to);
            (minted.most > 0 && !all_known).then_some(Doubt::EmptyList)
        })
    }

    /// What stands at the ends of each list.
    fn ends(&self) -> Result<Vec<Option<Vec<[u64; 2]>>>, MemoryError> {
        self.lists.iter().map(|list| list.anchor.read(&self.memory)).collect()
    }

    /// What the runtime counts of each list, by every word that may be its count.
    fn counts(&self) -> Result<Option<Vec<Vec<u64>>>, MemoryError> {
        let mut all = Vec::with_capacity(self.lists.len());
        for list in self.lists.iter() {
            let mut counts = Vec::with_capacity(list.counts.words().len());
            for at in list.counts.words() {
                let mut word = [0; 8];
                if self.memory.read(*at, &mut word)? < word.len() {
                    return Ok(None);
                }
                counts.push(u64::from_ne_bytes(word));
            }
            all.push(counts);
        }
        Ok(Some(all))
    }

    /// Whether each list has as many members as the runtime counts, give or take what was born and ended meanwhile: all
    /// that are met were there at the beginning or born since, all that were there from beginning to end are met.
    fn adds_up(
        &mut self,
        members: &[u64],
        (first, last): (&[Vec<u64>], &[Vec<u64>]),
        (begin, end): (&Reading, &Reading),
        threads: u64,
    ) -> bool {
        self.lists.iter_mut().enumerate().all(|(index, list)| {
            let minted = self.counters.minted(list.image, begin, end).map_or(0, |minted| minted.most);
            let within = |first: u64, last: u64| {
                // A thread may be between minting and binding, or between taking out of the list and counting.
                let slack = if minted > 0 || first != last { minted + threads } else { 0 };
                last.saturating_sub(slack)..=first.saturating_add(slack)
            };
            let values: Vec<(u64, u64)> = first[index].iter().copied().zip(last[index].iter().copied()).collect();
            list.counts.allow(&values, within, members[index])
        })
    }
}

/// Looks at all cells and counts them, and where they are to be told `at_once`, puts them as tasks that nobody runs.
/// Gives what differed, the counts, and the room with what is in it.
fn look_at_all(
    look: &Look<'_>,
    cells: &mut [Cell],
    members: &Members<'_>,
    at_once: bool,
    room: Vec<LiveTask>,
) -> Result<(Differing, Tally, Vec<LiveTask>), MemoryError> {
    if !at_once {
        let (differing, tallies) =
            look.at_each(cells, std::iter::repeat_with(|| ()), |cells, ()| members.tally(cells))?;
        return Ok((differing, members.sum(tallies), room));
    }
    let mut room = Room::new(cells, look.types, room);
    let (differing, tallies) = look.at_each(cells, room.places(), |cells, place: Place<'_>| {
        place.put(cells, look.types, |_| None);
        members.tally(cells)
    })?;
    Ok((differing, members.sum(tallies), room.finish()))
}

/// The tasks with the threads that are inside those that run, which are at these positions.
fn told(
    mut tasks: Vec<LiveTask>,
    cells: &[Cell],
    running: &[u32],
    thread_of: impl Fn(&Cell) -> Option<Tid>,
) -> Vec<LiveTask> {
    for position in running.iter().map(|position| *position as usize) {
        tasks[position].running_on = thread_of(&cells[position]);
    }
    tasks
}
