//! The rings of one session, which are emptied together by whoever holds them.
//!
//! Does not know what is in a record.

use super::Drained;
use crate::perf::Ring;

/// One ring a CPU.
#[derive(Default)]
pub struct Rings(Vec<Ring>);

impl Rings {
    /// Of these.
    pub(super) fn of(rings: Vec<Ring>) -> Self {
        Self(rings)
    }

    /// With this one, instead of the one that its CPU had, if any: that must have been emptied.
    pub fn join(&mut self, ring: Ring) {
        self.0.retain(|old| old.cpu() != ring.cpu());
        self.0.push(ring);
    }

    /// Each of them, to wait for.
    pub fn rings(&self) -> &[Ring] {
        &self.0
    }

    /// Hands every record there is to `sink`, with its CPU. Records of one CPU come in the order in which they were
    /// written, which is almost that of their times; those of different CPUs are not merged.
    pub fn drain(&mut self, sink: &mut dyn FnMut(u32, &[u8])) -> Drained {
        let mut drained = Drained::default();
        for ring in &mut self.0 {
            let cpu = ring.cpu();
            ring.drain(&mut |entry| {
                if let Some(record) = entry.written() {
                    drained.records += 1;
                    sink(cpu, record);
                }
                drained.lost_in_ring += entry.lost().unwrap_or(0);
            });
        }
        drained
    }
}
