//! What the kernel has written: taken from where records wait and from the rings, each once, and handed out in order of time.
//!
//! Does not know what a record means.

use bytes::{Bytes, BytesMut};

use crate::attach::{AttachError, Batches, Probes};
use crate::decode::{CallParts, Merger};
use crate::model::Ns;

use super::reader::Reader;

/// Records are cut out of chunks of this many bytes: one allocation for hundreds of records.
const CHUNK: usize = 64 << 10;

/// The records that have been taken and not handed out yet.
#[derive(Default)]
pub(super) struct Intake {
    batches: Batches,
    calls: CallParts,
    merger: Merger,
    chunk: BytesMut,
    /// Taken so far.
    records: u64,
    /// When the rings were read last.
    filled: Ns,
}

impl Intake {
    /// Takes records that wait to be sent, and then what was read from the rings and what is in them at this moment: what does not wait any
    /// more is there.
    pub(super) fn fill(&mut self, reader: &mut Reader, probes: &Probes, now: Ns) {
        self.take_waiting(probes);
        let read = reader.take();
        self.filled = now;
        read.each(&mut |cpu, record| self.take(cpu, record));
        reader.give_back(read);
        let Self { calls, merger, chunk, .. } = self;
        // Of whichever CPU: each is put where its time is.
        calls.looked(&mut |one, other| merger.push(0, cut(chunk, one, other)));
    }

    fn take_waiting(&mut self, probes: &Probes) {
        let Self { batches, calls, merger, chunk, records, .. } = self;
        let mut all = Vec::new();
        probes.waiting(&mut |desk, waiting, bytes| {
            batches.found(desk, waiting, bytes, &mut |record| {
                *records += 1;
                calls.take_apart(record, &mut |one, other| all.push(cut(chunk, one, other)));
            });
        });
        merger.push_all(0, all);
    }

    /// Takes one record, or a batch of them, of whichever ring.
    pub(super) fn take(&mut self, cpu: u32, bytes: &[u8]) {
        let Self { batches, calls, merger, chunk, records, .. } = self;
        batches.take_apart(bytes, &mut |record| {
            *records += 1;
            calls.take_apart(record, &mut |one, other| merger.push(cpu as usize, cut(chunk, one, other)));
        });
    }

    /// Takes calls that are in progress at this moment. [`Self::fill`] must follow: what is not in progress any more is there, or was to
    /// go unsaid.
    pub(super) fn look_at_calls(&mut self, probes: &Probes, now: Ns) -> Result<(), AttachError> {
        let Self { calls, merger, chunk, .. } = self;
        calls.look(now);
        for call in probes.amid()? {
            if !calls.is_told(call.bytes()) && probes.is_amid(&call)? {
                let told = |one: &[u8], other: &[u8]| merger.push(0, cut(chunk, one, other));
                calls.tell(call.bytes(), call.will_be_reported(), &mut { told });
            }
        }
        Ok(())
    }

    /// Hands out the earliest record that is not later than the horizon, with its time.
    pub(super) fn pop(&mut self, horizon: Ns) -> Option<(Ns, Bytes)> {
        self.merger.pop(horizon)
    }

    /// Whether some have not been handed out.
    pub(super) fn is_empty(&self) -> bool {
        self.merger.held() == 0
    }

    /// How many came after later ones had been handed out.
    pub(super) fn late(&self) -> u64 {
        self.merger.late()
    }

    /// What was in the rings at this moment has been taken.
    pub(super) fn filled(&self) -> Ns {
        self.filled
    }

    /// Records taken so far.
    pub(super) fn records(&self) -> u64 {
        self.records
    }
}

/// Two parts of a record as one, out of the chunk.
fn cut(chunk: &mut BytesMut, one: &[u8], other: &[u8]) -> Bytes {
    if chunk.capacity() < one.len() + other.len() {
        chunk.reserve(CHUNK);
    }
    chunk.extend_from_slice(one);
    chunk.extend_from_slice(other);
    chunk.split().freeze()
}
