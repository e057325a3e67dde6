//! Censuses of one process, one after the other: the first by a scan, later ones along the lists that it found.
//!
//! Does not know: how a scan or a list is read. It decides when a walk can be believed; in doubt, it scans.

use std::sync::Arc;

use super::addresses::Addresses;
use super::anchors::{self, List};
use super::cell_types::CellTypes;
use super::counters::Counters;
use super::following::loose;
use super::look::Look;
use super::places::Places;
use super::taking::{Scanned, refuse_another_program, scan};
use super::walking::{Known, Walking};
use super::{Allowance, Census, CensusError, High};
use crate::model::{LiveTask, ProcAddr};
use crate::target::{MemoryError, Process};

/// The censuses of one process.
#[derive(Debug)]
pub struct Series {
    process: Arc<Process>,
    types: CellTypes,
    addresses: Vec<ProcAddr>,
    counters: Option<Counters>,
    places: Places,
    lists: Option<Vec<List>>,
    /// What the next walk begins with, or why it cannot.
    known: Result<Known, Doubt>,
    doubt: Option<Doubt>,
    /// Room for the next one's tasks.
    room: Vec<LiveTask>,
    allowance: Allowance,
}

/// Why a census was not taken along the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It was the first.
    First,
    /// The last one did not see all: memory that could not be read, or more tasks than there is room for.
    Partial,
    /// In some list's scheduler its ends were not found.
    NoEnds,
    /// The counter of task ids is not known in some image.
    NoCounter,
    /// A counter moved that may be that of lists: there may be a new one.
    NewList,
    /// Tasks were born, and there may be a list that had no member at the last scan.
    EmptyList,
    /// A link led to nothing.
    Link,
    /// There was no room for all that the links lead to.
    Room,
    /// The runtime counts more or less than what the links lead to.
    Count,
    /// What the last one found was given up for its memory.
    Memory,
}

impl Doubt {
    /// The word used on output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Partial => "partial",
            Self::NoEnds => "no_ends",
            Self::NoCounter => "no_counter",
            Self::NewList => "new_list",
            Self::EmptyList => "empty_list",
            Self::Link => "link",
            Self::Room => "room",
            Self::Count => "count",
            Self::Memory => "memory",
        }
    }
}

impl Series {
    /// Of this process. `counters` are the addresses of all static counters of its images that count up from 1.
    pub fn new(process: Arc<Process>, types: CellTypes, counters: Vec<ProcAddr>) -> Self {
        Self {
            process,
            types,
            addresses: counters,
            counters: None,
            places: Places::default(),
            lists: None,
            known: Err(Doubt::First),
            doubt: None,
            room: Vec::new(),
            allowance: Allowance::MOST,
        }
    }

    /// From here on a census takes no more memory than this for itself.
    pub fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// Gives up what the next walk would begin with, for its memory: the next census is a scan.
    pub fn forget(&mut self) {
        if self.known.is_ok() {
            self.known = Err(Doubt::Memory);
        }
        self.room = Vec::new();
    }

    /// Takes the next.
    pub fn take(&mut self) -> Result<Census, CensusError> {
        // If this one fails, the next begins anew.
        let doubt = match std::mem::replace(&mut self.known, Err(Doubt::First)) {
            Err(doubt) => doubt,
            Ok(known) => match self.walk(known)? {
                Ok((census, known)) => {
                    (self.known, self.doubt) = (Ok(known), None);
                    return Ok(census);
                }
                Err(doubt) => doubt,
            },
        };
        self.doubt = Some(doubt);
        self.scan()
    }

    /// Gives the tasks of an earlier census back, so that the next one need not make room for its own.
    pub fn reuse(&mut self, tasks: Vec<LiveTask>) {
        self.room = tasks;
    }

    /// Why the last one was a scan; `None` if it was not.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    fn scan(&mut self) -> Result<Census, CensusError> {
        let mut counters = match self.counters.take() {
            Some(counters) => counters,
            None => Counters::new(&self.addresses, &self.types, &self.process.maps()?),
        };
        let taken = scan(&self.process, &self.types, &mut counters, &self.places, self.allowance);
        self.counters = Some(counters);
        let scanned = taken?;
        let learned = self.learn(&scanned)?;
        let Scanned { census, cells, places, counted, .. } = scanned;
        self.places = places;
        self.known = match learned {
            _ if census.truncated || !census.unread.is_empty() => Err(Doubt::Partial),
            None => Err(Doubt::NoEnds),
            Some((lists, addresses)) => {
                let loose = loose(&cells, &addresses, &self.types);
                self.lists = Some(self.confirmed(lists)?);
                Ok(Known { cells, addresses, loose, counted, scan: census.ended })
            }
        };
        Ok(census)
    }

    fn learn(&self, scanned: &Scanned) -> Result<Option<(Vec<List>, Addresses)>, MemoryError> {
        let Scanned { cells, census, places, maps, .. } = scanned;
        let addresses = Addresses::new(cells.iter().map(|cell| cell.header), self.types.stride());
        let slack = match census.bounds.high {
            High::AtMost(high) => high - census.bounds.low,
            High::Unknown(_) => 0,
        };
        let look = Look { process: &self.process, types: &self.types, places, maps };
        let lists = anchors::learn(cells, &addresses, &look, &self.process.memory(), slack)?;
        Ok(lists.map(|lists| (lists, addresses)))
    }

    /// Of each list's possible counts those that were right before, too. A list that was found before and is empty now
    /// stays where it was.
    fn confirmed(&mut self, mut lists: Vec<List>) -> Result<Vec<List>, MemoryError> {
        let memory = self.process.memory();
        for old in self.lists.take().unwrap_or_default() {
            match lists.iter_mut().find(|list| (list.image, list.owner) == (old.image, old.owner)) {
                Some(list) if list.anchor == old.anchor => list.counts.confirmed_by(&old.counts),
                Some(_) => {}
                None if old.is_empty(&memory)? => lists.push(old),
                None => {}
            }
        }
        lists.sort_by_key(|list| (list.image, list.owner));
        Ok(lists)
    }

    fn walk(&mut self, known: Known) -> Result<Result<(Census, Known), Doubt>, CensusError> {
        refuse_another_program(&self.process)?;
        let (Some(counters), Some(lists)) = (&mut self.counters, &mut self.lists) else { return Ok(Err(Doubt::First)) };
        let walking = Walking {
            process: &self.process,
            types: &self.types,
            places: &self.places,
            maps: &self.process.maps()?,
            memory: self.process.memory(),
            lists,
            counters,
            room: std::mem::take(&mut self.room),
            most: self.allowance.cells(),
        };
        let walked = walking.run(known)?;
        refuse_another_program(&self.process)?;
        Ok(walked)
    }
}
