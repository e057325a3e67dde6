//! Where in a trailer the list's links are: the compiler chose, the same for all types of an image.
//!
//! Does not know: which link is which. The place is learned from cells that name each other.

use std::collections::HashMap;

use super::cell::{Cell, TRAILER, Trailer};
use super::cell_types::{CellTypes, ImageIndex};

/// Cells of an image that its place is learned from, at most.
const SAMPLE: usize = 1 << 16;

/// For each image the index in a trailer of the first of the two links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(Vec<(ImageIndex, usize)>);

impl Places {
    /// From cells in order of address and the trailers of some of them, each with its cell's position. Where `all` are not
    /// met yet, only what a quarter agree on.
    pub fn learn(cells: &[Cell], trailers: &[(u32, Trailer)], types: &CellTypes, all: bool) -> Self {
        let mut samples: HashMap<ImageIndex, HashMap<u64, &Trailer>> = HashMap::new();
        for (position, trailer) in trailers {
            let cell = &cells[*position as usize];
            if cell.is_live_future(types) {
                let sample = samples.entry(types.get(cell.cell_type).image).or_default();
                if sample.len() < SAMPLE {
                    sample.insert(cell.header.0, trailer);
                }
            }
        }
        let place_of = |sample: &HashMap<u64, &Trailer>| {
            let names = |one: u64, place: usize, other: u64| {
                sample.get(&one).is_some_and(|trailer| trailer[place..place + 2].contains(&other))
            };
            let is_mutual = |header: u64, trailer: &Trailer, place: usize| {
                trailer[place..place + 2].iter().any(|other| *other != header && names(*other, place, header))
            };
            let agreeing = |place: usize| sample.iter().filter(|(at, trailer)| is_mutual(**at, trailer, place)).count();
            let best = (0..TRAILER - 1).rev().map(|place| (agreeing(place), place)).max_by_key(|(votes, _)| *votes);
            let least = if all { 1 } else { sample.len() / 4 };
            best.filter(|(votes, _)| *votes >= least.max(1)).map(|(_, place)| place)
        };
        Self(samples.into_iter().filter_map(|(image, sample)| Some((image, place_of(&sample)?))).collect())
    }

    /// The place in this image's trailers.
    #[inline]
    pub fn of(&self, image: ImageIndex) -> Option<usize> {
        self.0.iter().find(|(own, _)| *own == image).map(|(_, place)| *place)
    }

    /// Takes over what another knows of images that this one does not know.
    pub fn fill_from(&mut self, other: &Self) {
        let new = other.0.iter().filter(|(image, _)| self.of(*image).is_none());
        self.0.extend(new.copied().collect::<Vec<_>>());
    }
}
