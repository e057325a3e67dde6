//! What decoding and rendering cost, without a kernel: records as the programs write them go through the event arm on one
//! thread, into an output that only counts. `cargo xtask bench --only consumer` runs it.
//!
//! Says one JSON object a row: the load, what it is rendered to, events and polls a second of this thread's CPU time.

mod records;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use observer::model::EventSet;
use observer::session::{Output, Rehearsal};
use observer::sink::{Json, Manner, Sink, Text};

use records::Recording;

/// Rounds of each row.
const ROUNDS: usize = 5;

/// Counts what is written and drops it.
struct Count(Arc<AtomicU64>);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A way to render: a word, its sink, whether polls are summed up.
type Way = (&'static str, fn() -> Box<dyn Sink>, bool);

const WAYS: [Way; 4] = [
    ("json", || Box::new(Json::new(EventSet::ALL)), false),
    ("text", || Box::new(Text::new(EventSet::ALL, Manner::default())), false),
    ("sums", || Box::new(Json::new(EventSet { before: false, after: false, ..EventSet::ALL })), true),
    ("nothing", || Box::new(Json::new(EventSet::NONE)), false),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let only = std::env::args().nth(1);
    for recording in [Recording::polls(), Recording::spawns()] {
        for (way, sink, sums) in WAYS {
            if only.as_deref().is_some_and(|only| only != way) {
                continue;
            }
            let mut best: Option<(Duration, u64, u64)> = None;
            for _ in 0..ROUNDS {
                let (took, events, bytes) = once(&recording, sink(), sums)?;
                best = Some(best.filter(|best| best.0 <= took).unwrap_or((took, events, bytes)));
            }
            let Some((took, events, bytes)) = best else { continue };
            let a_second = |count: u64| (count as f64 / took.as_secs_f64()).round();
            println!(
                "{{\"load\":\"{}\",\"way\":\"{way}\",\"events\":{events},\"eventsPerSecond\":{},\"polls\":{},\"pollsPerSecond\":{},\"bytes\":{bytes},\"cpuNs\":{}}}",
                recording.word,
                a_second(events),
                recording.polls,
                a_second(recording.polls),
                took.as_nanos(),
            );
        }
    }
    Ok(())
}

/// Puts it through once: CPU time of this thread, events, bytes written.
fn once(
    recording: &Recording,
    sink: Box<dyn Sink>,
    sums: bool,
) -> Result<(Duration, u64, u64), Box<dyn std::error::Error>> {
    let written = Arc::new(AtomicU64::new(0));
    let output = Output { sink, out: Box::new(Count(Arc::clone(&written))), samples: None };
    let mut arm = Rehearsal::new(recording.catalog.clone(), output, sums.then_some(Duration::from_secs(1)));
    let began = cpu_time();
    for batch in &recording.batches {
        for (cpu, range) in &batch.records {
            arm.take(*cpu, &recording.bytes[range.clone()]);
        }
        arm.release(batch.until)?;
    }
    let took = cpu_time() - began;
    let totals = arm.totals();
    assert_eq!((totals.malformed, totals.late, totals.unplaced), (0, 0, 0), "the records are those of a program");
    let events = totals.init + totals.before + totals.after + totals.resolve + totals.destroy;
    assert_eq!(events, recording.events, "every event is there");
    Ok((took, events, written.load(Ordering::Relaxed)))
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0, "every Linux has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
