//! A scheduler with its lists, laid out in this process's own memory as tokio does it, and changed as tokio does it.

use std::collections::BTreeMap;

use crate::census::addresses::Addresses;
use crate::census::anchors::{self, List};
use crate::census::cell::Cell;
use crate::census::look::Look;
use crate::census::places::Places;
use crate::census::search::search;
use crate::census::tests::layout;
use crate::census::walk::Walk;
use crate::census::{CellType, CellTypes, ImageIndex};
use crate::model::{Pid, ProcAddr, Resource};
use crate::target::{AddressRange, Mapping, Process};

pub const VTABLE: u64 = 0x5555_0000_1000;
const CELL: usize = 32;
/// Where in a cell its links are.
const LINKS: usize = 96 / 8 + 2;
const COUNT: usize = 11;
const SHARDS: usize = 40;
const CELLS: usize = 64;

/// One scheduler with four shards, room for some cells, and what the truth is.
pub struct Scene {
    pub words: Vec<u64>,
    pub types: CellTypes,
    pub process: Process,
    pub maps: Vec<Mapping>,
    /// Slots by id.
    pub live: BTreeMap<u64, usize>,
    next: u64,
}

impl Scene {
    pub fn new(cells: usize) -> Self {
        let cell = CellType { layout: layout(8), resource: Resource::Task, image: ImageIndex(0) };
        let types = CellTypes::new([(ProcAddr(VTABLE), cell)]);
        let mut words = vec![0; CELLS + cells * CELL];
        let base = words.as_ptr() as u64;
        // Base, number, added, count, mask.
        words[8..13].copy_from_slice(&[base + 8 * SHARDS as u64, 4, 0, 0, 3]);
        let process = Process::open(Pid(std::process::id())).unwrap();
        let maps = process.maps().unwrap();
        Self { words, types, process, maps, live: BTreeMap::new(), next: 1 }
    }

    pub fn header(&self, slot: usize) -> u64 {
        self.words.as_ptr() as u64 + 8 * (CELLS + slot * CELL) as u64
    }

    /// A new task in this slot, which is free.
    pub fn spawn(&mut self, slot: usize) {
        let id = self.next;
        self.next += 1;
        let (header, ends) = (self.header(slot), Self::ends(id));
        let head = [0xcc, 0, VTABLE, 1, self.words.as_ptr() as u64, id];
        let first = self.words[ends];
        self.words[CELLS + slot * CELL..][..head.len()].copy_from_slice(&head);
        self.set_links(header, [0, first]);
        match first {
            0 => self.words[ends + 1] = header,
            first => self.set_link(first, 0, header),
        }
        self.words[ends] = header;
        self.words[COUNT] += 1;
        self.live.insert(id, slot);
    }

    /// The task ends, and its memory is given back.
    pub fn end(&mut self, id: u64) {
        let Some(slot) = self.live.remove(&id) else { return };
        let (header, ends) = (self.header(slot), Self::ends(id));
        let [before, after] = self.links(header);
        match before {
            0 => self.words[ends] = after,
            before => self.set_link(before, 1, after),
        }
        match after {
            0 => self.words[ends + 1] = before,
            after => self.set_link(after, 0, before),
        }
        self.set_links(header, [0, 0]);
        self.words[CELLS + slot * CELL] = 0;
        self.words[COUNT] -= 1;
    }

    pub fn ids(&self) -> Vec<u64> {
        self.live.keys().copied().collect()
    }

    /// What a search finds.
    pub fn search(&self) -> (Vec<Cell>, Places, Addresses) {
        let start = ProcAddr(self.words.as_ptr() as u64);
        let end = ProcAddr(start.0 + 8 * self.words.len() as u64);
        let walk = Walk::over([AddressRange { start, end }]);
        let found = search(&self.process, &self.types, &walk, &Places::default(), 100_000).unwrap();
        let addresses = self.addresses(&found.cells);
        (found.cells, found.places, addresses)
    }

    pub fn look<'a>(&'a self, places: &'a Places) -> Look<'a> {
        Look { process: &self.process, types: &self.types, places, maps: &self.maps }
    }

    pub fn learn(&self, cells: &[Cell], addresses: &Addresses, places: &Places) -> Option<Vec<List>> {
        anchors::learn(cells, addresses, &self.look(places), &self.process.memory(), 0).unwrap()
    }

    pub fn addresses(&self, cells: &[Cell]) -> Addresses {
        Addresses::new(cells.iter().map(|cell| cell.header), self.types.stride())
    }

    pub fn count_at(&self) -> ProcAddr {
        ProcAddr(self.words.as_ptr() as u64 + 8 * COUNT as u64)
    }

    fn ends(id: u64) -> usize {
        SHARDS + 3 * (id & 3) as usize + 1
    }

    fn place(&self, header: u64) -> usize {
        ((header - self.words.as_ptr() as u64) / 8) as usize + LINKS
    }

    fn links(&self, header: u64) -> [u64; 2] {
        let place = self.place(header);
        [self.words[place], self.words[place + 1]]
    }

    fn set_links(&mut self, header: u64, links: [u64; 2]) {
        let place = self.place(header);
        self.words[place..place + 2].copy_from_slice(&links);
    }

    fn set_link(&mut self, header: u64, which: usize, to: u64) {
        let place = self.place(header);
        self.words[place + which] = to;
    }
}
