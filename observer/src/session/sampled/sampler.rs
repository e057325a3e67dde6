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
use super::rate::Rate;
use super::sampling::Sampled;
use super::{LEAST_RING_PAGES, SampledOptions, SampledOutput};

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
    sampled: Sampled,
    crowd: Crowd,
    said: Said,
    /// The next turn; `None` while no samples are taken.
    next: Option<Instant>,
}

impl Reserved {
    /// Fails where nobody can be sampled.
    pub(in crate::session) fn new(options: SampledOptions) -> Result<Self, SessionError> {
        let options = SampledOptions { ring_pages: options.ring_pages.clamp(LEAST_RING_PAGES, PAGES), ..options };
        let mut rate = Rate::begin(&options, &online_cpus().map_err(SessionError::Sampling)?)?;
        rate.set_on(false)?;
        Ok(Self { options, rate, lives: Lives::listen(FEW_NEWS_PAGES) })
    }

    /// Ready to sample these, in a stream that began at this moment.
    pub(in crate::session) fn sampler(self, whom: Whom, look: SampledLook, began: Ns) -> Result<Sampler, SessionError> {
        let Self { options, rate, lives } = self;
        let (crowd, said) = (Crowd::new(whom, lives, &options)?, Said::default());
        let output = SampledOutput { sink: Box::new(BetweenEvents(look(began))), out: Box::new(said.clone()) };
        Ok(Sampler { sampled: Sampled::new(&options, rate, Vec::new(), output)?, crowd, said, next: None })
    }
}

impl Sampler {
    /// From now on samples are taken.
    pub(in crate::session) fn begin(&mut self) -> Result<(), SessionError> {
        if self.next.is_some() {
            return Ok(());
        }
        self.sampled.begin_anew();
        self.sampled.rate.set_on(true)?;
        self.crowd.begin();
        self.next = Some(Instant::now());
        Ok(())
    }

    /// Says what there is to say.
    pub(in crate::session) fn tend(&mut self, out: &mut dyn Write) -> Result<(), SessionError> {
        let began = Instant::now();
        match self.next {
            // Names of what was sampled last may come later.
            None => {
                self.sampled.say_named()?;
                return self.said.write_to(out);
            }
            Some(next) if began < next => return Ok(()),
            Some(_) => {}
        }
        self.sampled.turn(Some(&mut self.crowd))?;
        self.next = Some(Instant::now() + self.sampled.rest(began.elapsed()));
        self.said.write_to(out)
    }

    /// From now on none are taken; says what was not said yet.
    pub(in crate::session) fn end(&mut self, out: &mut dyn Write) -> Result<(), SessionError> {
        if self.next.take().is_none() {
            return Ok(());
        }
        self.sampled.rate.set_on(false)?;
        self.sampled.take()?;
        self.sampled.report()?;
        self.said.write_to(out)
    }

    /// The stream ends: says what was not said yet.
    pub(in crate::session) fn finish(mut self, out: &mut dyn Write) -> Result<(), SessionError> {
        self.end(out)?;
        self.sampled.say_rest()?;
        self.said.write_to(out)
    }

    /// How many samples were taken of targets.
    pub(in crate::session) fn samples(&self) -> u64 {
        self.sampled.taken
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
            | SampledReport::Blocking(_)
            | SampledReport::Lost { .. } => self.0.say(report, out),
            // Of the whole run would be of this tier's part of it.
            SampledReport::Interval(_)
            | SampledReport::Busy(_)
            | SampledReport::Start(_)
            | SampledReport::Target { .. }
            | SampledReport::Ended { .. }
            // The stream that this is a part of hears them, too, and says so.
            | SampledReport::LostNews(_)
            | SampledReport::Overhead(..)
            | SampledReport::End(_) => Ok(()),
        }
    }
}
