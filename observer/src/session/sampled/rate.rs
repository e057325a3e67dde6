//! Samples as they are taken, so many a second of each CPU: the rings that they come in.
//!
//! Does not know: whose a sample is, nor what it tells.

use std::time::Duration;

use crate::model::{Ns, Pid, Tick};
use crate::perf::{Kind, Ring, Source, tick};
use crate::session::error::SessionError;
use crate::target::page_size;

use super::{STACK, SampledOptions, asked_for};

/// Bytes of a sample besides the stack, at most.
const BESIDES: u64 = 256;

/// The rings, and how they are filled.
pub(super) struct Rate {
    pub(super) hz: u32,
    pub(super) period: Ns,
    /// A ring is half full after so long, at the soonest.
    pub(super) patience: Duration,
    rings: Vec<Ring>,
}

impl Rate {
    /// Opens an event on each of these CPUs.
    pub(super) fn begin(options: &SampledOptions, cpus: &[u32]) -> Result<Self, SessionError> {
        let asked = asked_for(options.hz);
        let (period, source) = (asked.period, Source::Running(asked));
        let (rings, pages) = Ring::open_each(source, cpus, options.ring_pages).map_err(SessionError::Sampling)?;
        let room = pages as u64 * page_size() / 2 / (u64::from(STACK) + BESIDES);
        let patience = Duration::from_nanos(room.saturating_mul(period));
        Ok(Self { hz: options.hz, period: Ns(period), patience, rings })
    }

    /// Samples are taken from now on, or are not.
    pub(super) fn set_on(&mut self, on: bool) -> Result<(), SessionError> {
        self.rings.iter().try_for_each(|ring| ring.set_filling(on)).map_err(SessionError::Sampling)
    }

    /// Drops what the rings hold.
    pub(super) fn forget(&mut self) {
        self.rings.iter_mut().for_each(|ring| ring.drain(&mut |_| ()));
    }

    /// What the rings hold: samples of the processes that are wanted, by time.
    pub(super) fn take(&mut self, is_wanted: impl Fn(Pid) -> bool) -> Taken {
        let mut taken = Taken::default();
        for ring in &mut self.rings {
            // Where entries alone tell, one tells only when there is room again, which may be in another interval.
            let tells = ring.tells_lost();
            ring.drain(&mut |entry| {
                match entry.kind {
                    Kind::Lost if tells => {}
                    Kind::Lost => taken.lost += entry.lost().unwrap_or(1),
                    Kind::Throttle => taken.throttled += 1,
                    _ => {}
                }
                match tick(&entry, &is_wanted) {
                    Ok(Some(tick)) => taken.ticks.push(tick),
                    Ok(None) => {}
                    Err(_) => taken.malformed += 1,
                }
            });
            taken.lost += ring.lost().unwrap_or(0);
        }
        taken.ticks.sort_by_key(|tick| tick.at);
        taken
    }
}

/// What was taken from the rings.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) ticks: Vec<Tick>,
    /// Samples of whomever that found no room.
    pub(super) lost: u64,
    /// How often the kernel made a pause.
    pub(super) throttled: u64,
    /// Entries that could not be understood.
    pub(super) malformed: u64,
}
