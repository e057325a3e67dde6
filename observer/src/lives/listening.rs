//! Listening to the kernel's news on every CPU.
//!
//! Does not know: the clock (until when to hand out is told), nor what an entry says.

use super::news::{Change, Malformed, News, parse};
use super::order::InTimeOrder;
use crate::model::Ns;
use crate::perf::{PerfError, Ring, Source, online_cpus};

/// Rings of all CPUs, and the news out of them that are not handed out yet. Dropping it ends the listening.
///
/// Listening costs the machine a few hundred bytes written at each fork, exec and end, and at each mapping of code;
/// nothing else is slowed down. Nobody is woken for one: a ring is readable when a quarter of it is unread.
pub struct Lives {
    rings: Vec<Ring>,
    order: InTimeOrder,
}

/// What one reading of the rings brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What was due, in order of time.
    pub news: Vec<News>,
    /// Entries read from the rings just now, of whatever kind.
    pub entries: u64,
    /// Those that did not read as they should, and why the first did not.
    pub malformed: u64,
    /// See [`Heard::malformed`].
    pub first_malformed: Option<Malformed>,
    /// How many entries had no room, by what the kernel said when it was asked.
    told_lost: u64,
}

impl Lives {
    /// Begins to listen on every CPU that is online, with rings of `pages` pages each, a power of two. What happens
    /// from when this returns is told; what happened before has to be looked up, after.
    pub fn listen(pages: usize) -> Result<Self, PerfError> {
        // Smaller ones lose news sooner, and say so.
        let (rings, _) = Ring::open_each(Source::SideBand, &online_cpus()?, pages)?;
        Ok(Self { rings, order: InTimeOrder::default() })
    }

    /// Begins to listen on a CPU that has come online, with a ring of `pages` pages. What happened there before is not told; what is
    /// in a ring that it had before it went must have been heard.
    pub fn listen_on(&mut self, cpu: u32, pages: usize) -> Result<(), PerfError> {
        let (new, _) = Ring::open_each(Source::SideBand, &[cpu], pages)?;
        self.rings.retain(|ring| ring.cpu() != cpu);
        self.rings.extend(new);
        Ok(())
    }

    /// The rings, to wait for. Read by a timer, too: few news wake nobody.
    pub fn rings(&self) -> &[Ring] {
        &self.rings
    }

    /// Empties the rings and hands out what happened up to `until`, oldest first; the rest is kept for the next call.
    ///
    /// The order is right where `until` lies a little before now (ten milliseconds): an entry is dated just before it
    /// is written. With `Ns(u64::MAX)` everything comes at once. What had no room is told at once in any case.
    pub fn hear(&mut self, until: Ns) -> Heard {
        let mut heard = Heard::default();
        for ring in &mut self.rings {
            let tells = ring.tells_lost();
            ring.drain(&mut |entry| {
                heard.entries += 1;
                match parse(&entry) {
                    // It comes with the next news only, and says what is said below.
                    Ok(Some(News { change: Change::Lost { .. }, .. })) if tells => {}
                    Ok(Some(news)) => self.order.push(news),
                    Ok(None) => {}
                    Err(malformed) => {
                        heard.malformed += 1;
                        heard.first_malformed.get_or_insert(malformed);
                    }
                }
            });
            heard.told_lost += ring.lost().unwrap_or(0);
        }
        heard.news = self.order.pop_until(until);
        heard
    }
}

impl Heard {
    /// How many entries had no room, of those that were said now.
    pub fn lost(&self) -> u64 {
        let count = |news: &News| match news.change {
            Change::Lost { count } => count,
            _ => 0,
        };
        self.told_lost + self.news.iter().map(count).sum::<u64>()
    }
}
