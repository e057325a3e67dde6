//! Where at each place that takes ids the spawner's header is, learned from the stacks seen so far: there the probe then copies it at the
//! hit itself, so that a spawner which ends at once is known, too.
//!
//! Does not know: what a header is. A spot that has become wrong costs nothing but the copy: whose memory it is says the record.

use std::collections::HashMap;

use crate::model::{Kept, PointIndex, ProcAddr, SpawnHit, Spot};

/// The spots of all points of a session.
#[derive(Debug, Default)]
pub(super) struct Spots(HashMap<PointIndex, Vec<Spot>>);

impl Spots {
    /// The spawner's header was this: gives the spot to look at from now on, if it is another than before.
    pub(super) fn learn(&mut self, hit: &SpawnHit, header: ProcAddr) -> Option<Spot> {
        let stands = stands(hit, header);
        let known = self.0.entry(hit.point).or_default();
        let before = known.first().copied();
        let common: Vec<Spot> = known.iter().copied().filter(|spot| stands.contains(spot)).collect();
        // Nothing in common: the site was reached through other calls.
        *known = if common.is_empty() { stands } else { common };
        known.first().copied().filter(|spot| Some(*spot) != before)
    }
}

/// All spots where the address stands; those of registers first, as they are read without a look into memory.
fn stands(hit: &SpawnHit, header: ProcAddr) -> Vec<Spot> {
    let registers = Kept::ALL.into_iter().filter(|register| hit.registers.get(*register) == Some(header.0));
    let registers = registers.map(|register| Spot::Register(register as u8));
    let top = hit.registers.sp.0 & !7;
    let words = hit.stack.words(hit.registers.sp, ProcAddr(u64::MAX)).filter(|(_, word)| *word == header.0);
    let words = words.filter_map(|(at, _)| Some(Spot::Stack(u32::try_from(at.0.checked_sub(top)?).ok()?)));
    registers.chain(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CopyEnd, Ns, Registers, StackCopy, TaskId, Tid};

    const HEADER: u64 = 0x1_0000;

    fn hit(point: u32, r12: u64, words: &[u64]) -> SpawnHit {
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        SpawnHit {
            at: Ns(1),
            target: crate::model::TargetId(0),
            tid: Tid(1),
            image: PointIndex(0),
            task: TaskId(1),
            registers: Registers {
                ip: ProcAddr(1),
                sp: ProcAddr(0x7000),
                kept: [Some(0), Some(0), Some(r12), None, None, None],
            },
            stack: StackCopy { from: ProcAddr(0x7000), bytes, end: CopyEnd::Bound },
            glimpse: None,
            point: PointIndex(point),
        }
    }

    #[test]
    fn what_holds_each_time_is_the_spot() {
        let mut spots = Spots::default();
        let mut learn = |point, r12, words: &[u64]| spots.learn(&hit(point, r12, words), ProcAddr(HEADER));
        assert_eq!(learn(1, HEADER, &[0, HEADER, HEADER]), Some(Spot::Register(2)));
        assert_eq!(learn(1, 0, &[HEADER, 0, HEADER]), Some(Spot::Stack(16)));
        assert_eq!(learn(1, HEADER, &[0, HEADER, HEADER]), None, "still there");
        assert_eq!(learn(2, HEADER, &[0, 0, 0]), Some(Spot::Register(2)), "another site");
        assert_eq!(learn(1, 0, &[0, HEADER, 0]), Some(Spot::Stack(8)), "reached through other calls");
    }

    #[test]
    fn a_header_that_stands_nowhere_teaches_nothing() {
        let mut spots = Spots::default();
        assert_eq!(spots.learn(&hit(1, 0, &[1, 2]), ProcAddr(HEADER)), None);
    }
}
