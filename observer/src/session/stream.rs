//! The only loop: rings to records, records to events, events to the sink, until something ends it.

use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::attach::{AttachError, Probes};
use crate::decode::{Malformed, Merger, decode};
use crate::lifecycle::{Census, Lifecycle};
use crate::model::{Catalog, Event, Ns};
use crate::sink::{Sink, Totals};

/// For how long records are held back to be put in order: longer than a thread may be descheduled between a probe's
/// clock and its write to the ring. It is the latency of every event.
pub(super) const WINDOW: Ns = Ns(100_000_000);

/// How often the rings are looked at when no watermark wakes us.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// Records are cut out of chunks of this many bytes: one allocation for hundreds of records.
const CHUNK: usize = 64 << 10;

/// A moment in the stream that is no record.
#[derive(Debug)]
enum Mark {
    /// Records found no room.
    Lost(u64),
    /// A census is to be taken in.
    Census(Census),
}

/// The event arm: everything after the kernel.
pub(super) struct Stream<'a> {
    catalog: &'a Catalog,
    lifecycle: Lifecycle,
    merger: Merger,
    marks: VecDeque<(Ns, Mark)>,
    sink: Box<dyn Sink>,
    out: BufWriter<Box<dyn Write>>,
    totals: Totals,
    lost: u64,
    chunk: BytesMut,
    events: Vec<Event>,
    malformed: Option<Malformed>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(catalog: &'a Catalog, lifecycle: Lifecycle, sink: Box<dyn Sink>, out: Box<dyn Write>) -> Self {
        Self {
            catalog,
            lifecycle,
            merger: Merger::default(),
            marks: VecDeque::new(),
            sink,
            out: BufWriter::with_capacity(CHUNK, out),
            totals: Totals::default(),
            lost: 0,
            chunk: BytesMut::new(),
            events: Vec::new(),
            malformed: None,
        }
    }

    pub(super) fn lifecycle(&mut self) -> &mut Lifecycle {
        &mut self.lifecycle
    }

    /// The sink and where it writes.
    pub(super) fn sink(&mut self) -> (&mut dyn Sink, &mut dyn Write) {
        (self.sink.as_mut(), &mut self.out)
    }

    /// Takes what is in the rings. Gives how many records were lost since the last time.
    pub(super) fn fill(&mut self, probes: &mut Probes, now: Ns) -> Result<u64, AttachError> {
        self.drain(probes);
        let lost = probes.counters()?.lost;
        let new = lost.saturating_sub(self.lost);
        if new > 0 {
            self.lost = lost;
            self.mark(now, Mark::Lost(new));
        }
        Ok(new)
    }

    /// Takes what is in the rings, whatever was lost meanwhile.
    pub(super) fn drain(&mut self, probes: &mut Probes) {
        let Self { merger, chunk, .. } = self;
        probes.drain(&mut |cpu, record| {
            if chunk.capacity() < record.len() {
                chunk.reserve(CHUNK);
            }
            chunk.extend_from_slice(record);
            let bytes: Bytes = chunk.split().freeze();
            merger.push(cpu as usize, bytes);
        });
    }

    /// Takes in a census when all records up to its end have been.
    pub(super) fn census(&mut self, census: Census) {
        self.mark(census.ended, Mark::Census(census));
    }

    fn mark(&mut self, at: Ns, mark: Mark) {
        let place = self.marks.iter().rposition(|(earlier, _)| *earlier <= at).map_or(0, |n| n + 1);
        self.marks.insert(place, (at, mark));
    }

    /// Says all events up to the horizon.
    pub(super) fn release(&mut self, horizon: Ns) -> io::Result<()> {
        while let Some((at, mark)) = self.marks.pop_front_if(|(at, _)| *at <= horizon) {
            self.records(at)?;
            match mark {
                Mark::Lost(count) => self.lifecycle.lost(at, count, &mut self.events),
                Mark::Census(census) => self.lifecycle.reconcile(&census, &mut self.events),
            }
            say(&mut self.events, &mut self.totals, self.sink.as_mut(), &mut self.out)?;
        }
        self.records(horizon)?;
        self.out.flush()
    }

    fn records(&mut self, horizon: Ns) -> io::Result<()> {
        let Self { merger, catalog, lifecycle, totals, malformed, events, sink, out, .. } = self;
        let mut failed = Ok(());
        merger.release(horizon, |bytes| {
            match decode(&bytes, catalog) {
                Ok(seen) => lifecycle.observe(&seen, events),
                Err(reason) => {
                    totals.malformed += 1;
                    malformed.get_or_insert(reason);
                }
            }
            let said = say(events, totals, sink.as_mut(), out);
            if failed.is_ok() {
                failed = said;
            }
        });
        failed
    }

    /// Totals so far, and the first reason for a record that could not be understood.
    pub(super) fn totals(&self) -> (Totals, Option<Malformed>) {
        let tally = self.lifecycle.tally();
        let totals = Totals {
            malformed: self.totals.malformed + tally.foreign,
            late: self.merger.late(),
            live: tally.live,
            ..self.totals
        };
        (totals, self.malformed)
    }
}

/// Counts and renders the events, and leaves the list empty, also where writing fails.
fn say(events: &mut Vec<Event>, totals: &mut Totals, sink: &mut dyn Sink, out: &mut dyn Write) -> io::Result<()> {
    let mut said = Ok(());
    for event in events.drain(..) {
        totals.count(&event);
        if said.is_ok() {
            said = sink.event(&event, out);
        }
    }
    said
}
