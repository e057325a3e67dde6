//! Whether an image's file still holds what an entry was made from, by a few kilobytes of it.
//!
//! Does not know: how the file is read. A probe is planted by what is checked here, so that everything that decides where one
//! sits is compared byte by byte; what is only told (names, places) rests on the identity, the size and the headers.

use std::collections::HashSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::ReadAt;
use super::error::Stale;
use crate::model::{Analysis, FileOffset, ImageFacts, Program, VirtAddr, content_hash};
use crate::symbols::Glance;

/// Bytes of a task vtable: seven functions and three offsets.
const VTABLE: u64 = 80;
/// Places that are nearer to each other than this are read at once.
const NEAR: u64 = 4096;
/// But no more than this at once.
const MOST_AT_ONCE: u64 = 1 << 20;
/// An instruction is no longer.
const LONGEST_INSTRUCTION: usize = 15;

/// What the file had where the facts come from, besides the points, which hold their own bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// A hash of the bytes of all task vtables, as the file has them before relocation.
    vtables: u64,
}

impl Evidence {
    /// Of an image whose file this is; `None` where the facts do not hold of it.
    pub(super) fn of(analysis: &Analysis, read: ReadAt<'_>) -> Option<Self> {
        let vtables = match analysis {
            Analysis::Nothing | Analysis::TooOld { .. } => 0,
            Analysis::Runtime(facts) => vtables(facts, read)?,
        };
        let evidence = Self { vtables };
        evidence.check(analysis, read).is_ok().then_some(evidence)
    }

    /// Compares with the file as it is now. Its size and a hash of its headers are part of the key, and the same.
    pub(super) fn check(&self, analysis: &Analysis, read: ReadAt<'_>) -> Result<(), Stale> {
        let Analysis::Runtime(facts) = analysis else { return Ok(()) };
        let glance = Glance::of(read).ok().flatten().ok_or(Stale::Changed("its headers"))?;
        if glance.segments != facts.segments || glance.build_id.is_some_and(|id| id != facts.build_id) {
            return Err(Stale::Changed("its headers"));
        }
        if vtables(facts, read) != Some(self.vtables) {
            return Err(Stale::Changed("its task vtables"));
        }
        points(facts, read)
    }
}

/// A hash of all vtables' bytes; `None` where one is not in the file.
fn vtables(facts: &ImageFacts, read: ReadAt<'_>) -> Option<u64> {
    let mut bytes = Vec::with_capacity(facts.types.len() * VTABLE as usize);
    let places = facts.types.iter().map(|task| Some((offset_of(facts, task.vtable)?.0, VTABLE)));
    let places: Vec<(u64, u64)> = places.collect::<Option<_>>()?;
    each_part(places, read, |_, part| bytes.extend_from_slice(part))?;
    Some(content_hash(&bytes))
}

/// Every point stands on its instruction's bytes, at the place in the file that its address is loaded from, and a return is
/// watched of task functions only.
fn points(facts: &ImageFacts, read: ReadAt<'_>) -> Result<(), Stale> {
    let functions: HashSet<VirtAddr> = facts
        .types
        .iter()
        .map(|task| task.functions)
        .flat_map(|f| [f.poll, f.shutdown, f.drop_join_handle_slow, f.drop_abort_handle])
        .collect();
    for point in &facts.plan.points {
        let sits = offset_of(facts, point.at) == Some(point.offset)
            && (1..=LONGEST_INSTRUCTION).contains(&point.bytes.len())
            && (!point.role.programs().contains(&Program::Leave) || functions.contains(&point.at));
        if !sits {
            return Err(Stale::Damaged);
        }
    }
    let mut same = true;
    let places = facts.plan.points.iter().map(|point| (point.offset.0, point.bytes.len() as u64)).collect();
    let compared = each_part(places, read, |n, part| same &= facts.plan.points[n].bytes == part);
    match compared {
        Some(()) if same => Ok(()),
        Some(()) | None => Err(Stale::Changed("an instruction that is probed")),
    }
}

/// Where the file has what is loaded to an address.
fn offset_of(facts: &ImageFacts, at: VirtAddr) -> Option<FileOffset> {
    let segment = facts.segments.iter().rfind(|segment| segment.address <= at)?;
    Some(FileOffset(segment.offset.0.checked_add(at.0 - segment.address.0)?))
}

/// Reads parts of the file, given by offset and length, neighbours at once; each is handed over with its number, by offset.
fn each_part(places: Vec<(u64, u64)>, read: ReadAt<'_>, mut each: impl FnMut(usize, &[u8])) -> Option<()> {
    let mut sorted: Vec<(usize, Range<u64>)> = Vec::with_capacity(places.len());
    for (n, (start, len)) in places.into_iter().enumerate() {
        sorted.push((n, start..start.checked_add(len)?));
    }
    sorted.sort_by_key(|(_, range)| (range.start, range.end));
    let mut rest = sorted.as_slice();
    while let Some((_, first)) = rest.first() {
        let mut end = first.end;
        let near = |range: &Range<u64>, end: u64| {
            range.start <= end.saturating_add(NEAR) && range.end - first.start <= MOST_AT_ONCE
        };
        let mut count = 1;
        while let Some((_, next)) = rest.get(count).filter(|(_, range)| near(range, end)) {
            end = end.max(next.end);
            count += 1;
        }
        let bytes = read(first.start..end)?;
        for (n, range) in &rest[..count] {
            let from = usize::try_from(range.start - first.start).ok()?;
            each(*n, bytes.get(from..from + usize::try_from(range.end - range.start).ok()?)?);
        }
        rest = &rest[count..];
    }
    Some(())
}
