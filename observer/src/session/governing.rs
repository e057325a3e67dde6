//! Keeps what observing adds under a cap: asks the governor often, and does what it says to probes and stream.
//!
//! Does not know when to step: that is the governor's.

use crate::attach::Probes;
use crate::model::{Catalog, Ns, QuickMap, Sight, TargetId};
use crate::sink::{Stepped, TierTime};
use crate::target::{monotonic_now, process_cpu};

use super::censuses::Censuses;
use super::error::SessionError;
use super::follow::Follower;
use super::governor::{Governed, Governor, Reading};
use super::marks::Mark;
use super::overhead::Costs;
use super::sampled::Sampler;
use super::stream::Stream;
use super::tier::Tier;

/// Between two questions.
const PAUSE: Ns = Ns(100_000_000);
/// While less than at first is watched, dead tasks are looked for so often. And once more so long after all is watched again: whose
/// last poll began before that, and ended after the first census, is met by that one.
const CENSUS: Ns = Ns(10_000_000_000);

/// A governed stream.
pub(super) struct Governing {
    governor: Governor,
    /// `None` where nobody can be sampled.
    sampler: Option<Sampler>,
    /// What is watched at most.
    most: Sight,
    targets: TargetsCpu,
    next: Ns,
    /// What the last step has still to bring.
    pending: Pending,
    next_census: Option<Ns>,
}

/// How far a step down has come.
#[derive(Clone, Copy, Debug)]
enum Pending {
    Nothing,
    /// Probes are being taken out.
    Leaving,
    /// They were out at this moment; what they wrote until then is still in the rings, and counts when it is read.
    Out(Ns),
}

/// What a step works with.
pub(super) struct Governable<'a, 'f> {
    pub(super) probes: &'a mut Probes,
    pub(super) stream: &'a mut Stream,
    pub(super) follower: &'a mut Follower<'f>,
    pub(super) censuses: &'a mut Censuses,
    pub(super) costs: &'a mut Costs,
}

impl Governing {
    /// Begins at this moment.
    pub(super) fn new(governed: Governed, sampler: Option<Sampler>, at: Ns, catalog: &Catalog) -> Self {
        let mut targets = TargetsCpu::default();
        let cpu = targets.read(catalog);
        let governor = Governor::new(governed, sampler.is_some(), Reading { at, added: Ns(0), cpu });
        let (most, pending) = (governed.top.sight(), Pending::Nothing);
        Self { governor, sampler, most, targets, next: at, pending, next_census: None }
    }

    /// Steps, if it is time for that.
    pub(super) fn tend(&mut self, now: Ns, work: Governable<'_, '_>) -> Result<(), SessionError> {
        if now < self.next {
            return Ok(());
        }
        self.next = Ns(now.0 + PAUSE.0);
        if matches!(self.pending, Pending::Leaving) && work.follower.is_settled() {
            self.pending = Pending::Out(monotonic_now());
            work.probes.forget_calls_of_all()?;
            if self.governor.tier().sight() == Sight::Nothing {
                work.probes.forget_minted()?;
            }
        }
        work.costs.sampled(self.sampler.as_ref().map_or(0, Sampler::samples));
        let Governable { stream, .. } = &work;
        let added = work.costs.added(work.probes.counters()?, stream.intake.records()).unwrap_or_default();
        let cpu = self.targets.read(stream.population.catalog());
        if self.next_census.is_some_and(|at| now >= at) {
            let again = self.governor.tier().sight() < self.most;
            self.next_census = again.then(|| Ns(now.0 + CENSUS.0));
            work.censuses.want_all();
        }
        let from = self.governor.tier();
        let under_way = !matches!(self.pending, Pending::Nothing);
        if matches!(self.pending, Pending::Out(at) if at <= work.stream.intake.filled()) {
            self.pending = Pending::Nothing;
        }
        match self.governor.take(Reading { at: now, added, cpu }, under_way) {
            Some((to, stepped)) => self.step(from, to, stepped, work),
            None => Ok(()),
        }
    }

    /// Says what samples tell, in the tier that has them.
    pub(super) fn say_samples(&mut self, stream: &mut Stream) -> Result<(), SessionError> {
        self.sampler.as_mut().map_or(Ok(()), |sampler| sampler.tend(stream.sink().1))
    }

    /// Says what was not said yet, and how long each tier has held.
    pub(super) fn end(mut self, now: Ns, stream: &mut Stream) -> Result<Vec<TierTime>, SessionError> {
        if let Some(sampler) = self.sampler.take() {
            sampler.finish(stream.sink().1)?;
        }
        Ok(self.times(now))
    }

    /// How long each tier has held by then.
    fn times(&self, now: Ns) -> Vec<TierTime> {
        self.governor.times(now)
    }

    fn step(&mut self, from: Tier, to: Tier, stepped: Stepped, work: Governable<'_, '_>) -> Result<(), SessionError> {
        let Governable { probes, stream, follower, censuses, .. } = work;
        if let Some(sampler) = &mut self.sampler {
            match to {
                Tier::Sampled => sampler.begin()?,
                _ => sampler.end(stream.sink().1)?,
            }
        }
        let said = |at: Ns| Mark::Tier(to, Stepped { at, ..stepped });
        if to.sight() < from.sight() {
            // Before the first probe is out: what is seen from here on is half the truth.
            let at = monotonic_now();
            stream.mark(at, Mark::Sight(to.sight()));
            stream.mark(at, said(at));
            follower.plant_less(to.sight());
            self.pending = Pending::Leaving;
            self.next_census.get_or_insert(Ns(at.0 + CENSUS.0));
            return Ok(());
        }
        if to.sight() == Sight::All {
            probes.govern(to.quiet())?;
        }
        if to.sight() > from.sight() {
            // Who is seen entering is seen leaving, so calls may be taken in from the first on; births, which are attached last, may
            // not: one without its id would take the next one's.
            if to.sight() == Sight::All {
                stream.mark(monotonic_now(), Mark::Sight(Sight::All));
            }
            follower.plant_more(to.sight(), stream, probes);
            let at = monotonic_now();
            if to.sight() != Sight::All {
                stream.mark(at, Mark::Sight(to.sight()));
            }
            censuses.want_all();
            self.next_census = Some(Ns(at.0 + CENSUS.0));
        }
        let at = monotonic_now();
        stream.mark(at, said(at));
        Ok(())
    }
}

/// CPU time of all targets together, as far as they were targets.
#[derive(Debug, Default)]
struct TargetsCpu {
    last: QuickMap<TargetId, Ns>,
    sum: Ns,
}

impl TargetsCpu {
    /// By now. What one used after it was asked last, before its end, is not in it: the less may be added.
    fn read(&mut self, catalog: &Catalog) -> Ns {
        self.last.retain(|id, _| catalog.target(*id).is_some());
        for (id, entry) in catalog.targets() {
            let Some(cpu) = process_cpu(entry.pid) else { continue };
            let last = self.last.insert(id, cpu).unwrap_or(cpu);
            self.sum.0 += cpu.since(last).0;
        }
        self.sum
    }
}
