//! Samples that are taken while another stream goes on, and said between its events.
//!
//! Does not know: when that is.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use tokio::time::Instant;

use crate::lives::Lives;
use crate::model::Ns;
use crate::perf::{PerfError, online_cpus};
use crate::session::error::SessionError;
use crate::session::follow::FEW_NEWS_PAGES;
use crate::sink::{Busy, Interval, SampledReport, SampledSink};

use super::crowd::{Crowd, Whom};
use super::sampling::{Rate, Sampled};
use super::{SampledOptions, SampledOutput};

/// How samples look that were begun at a moment.
pub type SampledLook = Box<dyn Fn(Ns) -> Box<dyn SampledSink>>;

/// Rings of samples in a stream that has larger ones of its own, pages.
const PAGES: usize = 128;

/// What is opened before rights are given up: the events, which fill nothing yet.
pub(in crate::session) struct Reserved {
    options: SampledOptions,
    rate: Rate,
    lives: Result<Lives, PerfError>,
}

/// Takes samples from one moment to another, again and again.
pub(in crate::session) struct Sampler {
    options: SampledOptions,
    look: SampledLook,
    /// When the stream began.
    began: Ns,
    crowd: Crowd,
    now: Option<Now>,
    /// Of those who were sampled before.
    samples: u64,
}

/// Whether samples are taken; nothing in the middle of a change from one to the other that failed.
enum Now {
    Idle(Rate),
    Running(Box<Running>),
}

struct Running {
    sampled: Sampled,
    /// The next turn.
    next: Instant,
    /// The next report.
    due: Instant,
    said: Said,
}

impl Reserved {
    /// Fails where nobody can be sampled.
    pub(in crate::session) fn new(options: SampledOptions) -> Result<Self, SessionError> {
        let options = SampledOptions { ring_pages: options.ring_pages.min(PAGES), ..options };
        let mut rate = Rate::begin(&options, &online_cpus().map_err(SessionError::Sampling)?)?;
        rate.set_on(false)?;
        Ok(Self { options, rate, lives: Lives::listen(FEW_NEWS_PAGES) })
    }

    /// Ready to sample these, in a stream that began at this moment.
    pub(in crate::session) fn sampler(self, whom: Whom, look: SampledLook, began: Ns) -> Result<Sampler, SessionError> {
        let Self { options, rate, lives } = self;
        let crowd = Crowd::new(whom, lives, &options)?;
        Ok(Sampler { options, look, began, crowd, now: Some(Now::Idle(rate)), samples: 0 })
    }
}

impl Sampler {
    /// From now on samples are taken.
    pub(in crate::session) fn begin(&mut self) -> Result<(), SessionError> {
        let mut rate = match self.now.take() {
            Some(Now::Idle(rate)) => rate,
            other => {
                self.now = other;
                return Ok(());
            }
        };
        rate.forget();
        rate.set_on(true)?;
        let said = Said::default();
        let sink = Box::new(BetweenEvents((self.look)(self.began)));
        let output = SampledOutput { sink, out: Box::new(said.clone()) };
        let sampled = Sampled::new(&self.options, rate, Vec::new(), output);
        self.crowd.begin();
        let next = Instant::now();
        let running = Running { sampled, next, due: next + self.options.interval, said };
        self.now = Some(Now::Running(Box::new(running)));
        Ok(())
    }

    /// Says what there is to say.
    pub(in crate::session) fn tend(&mut self, out: &mut dyn Write) -> Result<(), SessionError> {
        let Some(Now::Running(running)) = &mut self.now else { return Ok(()) };
        let Running { sampled, next, due, said } = &mut **running;
        let now = Instant::now();
        if now < *next {
            return Ok(());
        }
        let is_due = now >= *due;
        sampled.turn(Some(&mut self.crowd), is_due)?;
        if is_due {
            *due = (*due + self.options.interval).max(now);
        }
        *next = Instant::now() + sampled.rest(now.elapsed());
        said.write_to(out)
    }

    /// From now on none are taken; says what was not said yet.
    pub(in crate::session) fn end(&mut self, out: &mut dyn Write) -> Result<(), SessionError> {
        let mut running = match self.now.take() {
            Some(Now::Running(running)) => running,
            other => {
                self.now = other;
                return Ok(());
            }
        };
        running.sampled.rate.set_on(false)?;
        running.sampled.take()?;
        running.sampled.report()?;
        self.samples += running.sampled.taken;
        running.said.write_to(out)?;
        self.now = Some(Now::Idle(running.sampled.rate));
        Ok(())
    }

    /// How many samples were taken of targets.
    pub(in crate::session) fn samples(&self) -> u64 {
        match &self.now {
            Some(Now::Running(running)) => self.samples + running.sampled.taken,
            Some(Now::Idle(_)) | None => self.samples,
        }
    }
}

/// What was said and is not written yet.
#[derive(Clone, Default)]
struct Said(Rc<RefCell<Vec<u8>>>);

impl Said {
    fn write_to(&self, out: &mut dyn Write) -> Result<(), SessionError> {
        let said = std::mem::take(&mut *self.0.borrow_mut());
        out.write_all(&said).map_err(SessionError::Output)
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The stream itself says who its targets are, and its begin and end.
struct BetweenEvents(Box<dyn SampledSink>);

impl SampledSink for BetweenEvents {
    fn say(&mut self, report: &SampledReport<'_>, out: &mut dyn Write) -> io::Result<()> {
        match report {
            SampledReport::Interval(Interval { total: false, .. })
            | SampledReport::Busy(Busy { total: false, .. })
            | SampledReport::Blocking(_) => self.0.say(report, out),
            // Of the whole run would be of this tier's part of it.
            SampledReport::Interval(_)
            | SampledReport::Busy(_)
            | SampledReport::Start(_)
            | SampledReport::Target { .. }
            | SampledReport::Ended { .. }
            | SampledReport::Lost { .. }
            | SampledReport::End(_) => Ok(()),
        }
    }
}
