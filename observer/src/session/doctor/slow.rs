//! The points that the kernel must single-step, each with its place: what `doctor` lists.
//!
//! Does not know what is done about them.

use std::fs::File;
use std::io::{Read, Seek};

use crate::attach::Prices;
use crate::model::{Cost, EventSet, ImageFacts, Role, VirtAddr};
use crate::plan::{Slow, choose, instruction_text, is_hot_and_slow};
use crate::symbols::{Image, SymbolIndex};

use super::expected::cost_of;

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct SlowPoint {
    /// What a hit means.
    pub role: Role,
    /// The image, as the process shows its path.
    pub path: String,
    /// Its link-time address.
    pub at: VirtAddr,
    /// The function around it and how many bytes behind its beginning, where the symbol table tells.
    pub symbol: Option<(String, u64)>,
    /// The instruction, as disassemblers write it.
    pub instruction: String,
    /// It is hit at each poll or spawn: planted only where that is allowed.
    pub hot: bool,
    /// What a hit costs here, with its record and its return where it has them, nanoseconds; `None` where hits were not measured.
    pub ns: Option<f64>,
}

/// Those of an image. `opened` is its file.
pub(super) fn slow_points(path: &str, facts: &ImageFacts, opened: &File, prices: Option<Prices>) -> Vec<SlowPoint> {
    let points = choose(&facts.plan, &facts.types, EventSet::ALL, Slow::Allowed).points;
    let slow: Vec<_> = points.into_iter().filter(|point| point.cost == Cost::SingleStepped).collect();
    if slow.is_empty() {
        return Vec::new();
    }
    // Names help a person; without them the addresses stand for themselves.
    let bytes = read(opened).unwrap_or_default();
    let image = Image::parse(&bytes).ok();
    let names = image.as_ref().map(SymbolIndex::of).unwrap_or_default();
    let symbol = |at: VirtAddr| {
        let start = image.as_ref()?.functions().containing(at)?.start;
        Some((names.names_at(start).next()?, at.0 - start.0))
    };
    slow.iter()
        .map(|point| SlowPoint {
            role: point.role,
            path: path.to_owned(),
            at: point.at,
            symbol: symbol(point.at),
            instruction: instruction_text(point),
            hot: is_hot_and_slow(point),
            ns: prices.map(|prices| cost_of(point, false, prices)),
        })
        .collect()
}

fn read(mut opened: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    opened.rewind()?;
    opened.read_to_end(&mut bytes)?;
    Ok(bytes)
}
