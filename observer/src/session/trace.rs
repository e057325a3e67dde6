//! The live stream: of processes that are named, of one that is launched, or of all there are.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::attach::{self, Audience, Calls, Probes, Quiet};
use crate::lifecycle::{Lifecycle, Rules};
use crate::lives::Lives;
use crate::model::{Catalog, EventSet, Missing, Ns, Sight};
use crate::perf::Ring;
use crate::plan::{watches_ends, watches_polls};
use crate::sink::{EndReason, Start};
use crate::target::{Launched, Process, monotonic_now};

use super::arrivals::Arrivals;
use super::budget::Budget;
use super::censuses::Censuses;
use super::ending::{finish, outlive, written};
use super::error::SessionError;
use super::follow::{FEW_NEWS_PAGES, Follower, NEWS_PAGES};
use super::governing::Governing;
use super::images::Images;
use super::long_stacks::LongStacks;
use super::named::{Named, Reached};
use super::observing::{Observing, Works};
use super::outlet::Outlet;
use super::overhead::{Costs, as_far_as_known};
use super::population::{Members, Population};
use super::privileges::{Stage, keep};
use super::reader::Reader;
use super::sampled::{Reserved, Whom};
use super::select::{Targets, select};
use super::setup::{Looking, Setup, set_up};
use super::spawns::{SpawnOptions, Spawns};
use super::stream::{Stream, WINDOW};
use super::sums::Sums;
use super::tier::Tier;
use super::watch::Watch;
use super::{Options, Output, Selection, bell, event_loop, kernel_release, progress};

/// Observes until something ends it: the wanted time, a signal, or the targets' end.
pub fn trace(options: &Options, output: Output) -> Result<(), SessionError> {
    let runtime = event_loop()?;
    let say = progress(options.verbosity);
    let everyone = matches!(options.selection, Selection::Everyone(_));
    if everyone {
        all_can_be_found()?;
    }
    // A launched program must be stopped, resumed and waited for on one thread: this one.
    let Targets { processes, launched } = select(&options.selection)?;
    let mut images = Images::new(options.names.clone(), &options.caching, &say);
    let looking = Looking { events: options.events, slow: options.slow, spawners: false };
    let Setup { mut catalog, attachments, targets, .. } = set_up(&processes, &mut images, looking)?;
    // What is launched is held by us.
    for (target, process) in targets.iter().zip(&processes).filter(|_| launched.is_none()) {
        if let Some(held) = process.standstill() {
            let (pid, held) = (process.pid(), held.as_str());
            let reason = format!("process {pid} is {held}: nothing will happen in it until it goes on");
            catalog.change(*target, |entry| entry.missing.push(Missing { event: "init", reason }));
        }
    }
    let named = Named::prepare(attachments, &processes)?;
    let spawns = options.stacks.then(|| spawns(options, &processes, &mut images)).transpose()?;
    let mut probes = Probes::load(&attach::Options {
        mechanism: options.mechanism,
        ring_pages: options.ring_pages,
        work: options.work,
        audience: if everyone { Audience::NotExcluded } else { named.audience() },
        calls: Calls::Once,
        quiet: quiet(options),
        kernel_log: options.verbosity >= 3,
        ..attach::Options::default()
    })?;
    if options.governed.is_some() && probes.price().is_none() {
        return Err(SessionError::CostUnknown);
    }
    let (mut attached, Reached { held, unreached, .. }) = Attached::new(named, &mut probes, &mut catalog)?;
    if probes.ring_pages() < options.ring_pages {
        let (had, wanted) = (probes.ring_pages(), options.ring_pages);
        say(1, &format!("rings of {had} pages instead of {wanted}: this user may not lock more memory (`ulimit -l`)"));
    }
    // Where little memory may be locked, it is for the records.
    let scarce = probes.ring_pages() < options.ring_pages;
    let lives = Lives::listen(if scarce { FEW_NEWS_PAGES } else { NEWS_PAGES });
    let Output { sink, out, samples } = output;
    let samples = samples.map(|(options, look)| (Reserved::new(options), look));
    let mechanism = probes.mechanism();
    keep(if everyone { Stage::Following(mechanism) } else { Stage::Attached(mechanism) }, &say);
    let members =
        if everyone { Members::Everyone } else { Members::Named(processes.iter().map(|p| p.pid()).collect()) };
    let rules = Rules {
        polls: watches_polls(options.events),
        births: options.events.init,
        ends: watches_ends(options.events),
        others: everyone,
        room: true,
        sight: Sight::All,
    };
    let population = Population::new(catalog, members).without(unreached);
    let every_poll = matches!(quiet(options), Quiet::Reported | Quiet::Governed);
    let kernel_sums = probes.poll_sums()?;
    let sums = options.sums.map(|every| Sums::new(Ns::of(every), kernel_sums));
    let failed = |source| SessionError::System { what: "start threads for rings, output and names", source };
    let (bell, ear) = bell::hang().map_err(failed)?;
    let out = Outlet::begin(out, bell.another().map_err(failed)?).map_err(failed)?;
    let mut stream = Stream::new(population, Lifecycle::new(rules), (sink, out), every_poll, sums);
    if quiet(options) == Quiet::Governed {
        stream.may_sum_up();
    }
    let mut follower = Follower::begin(options, lives, (&processes, held), &mut stream, &say)?;
    let until = options.duration.map(|duration| Instant::now() + duration);
    // Before the start is said: who reads it may send a signal at once.
    let mut watch = {
        let _inside = runtime.enter();
        Watch::new(ear, if everyone { None } else { Some(&processes[..]) }, until)
            .map_err(|source| SessionError::System { what: "watch rings, targets and signals", source })?
    };
    let arrivals = Arrivals::since(probes.rings().iter().map(Ring::cpu).collect());
    let mut reader = Reader::begin(probes.take_rings(), options.bound, bell).map_err(failed)?;
    let sampler = samples.map(|(reserved, look)| reserved?.sampler(whom(options, &processes), look, attached.at));
    let sampler = sampler.transpose().unwrap_or_else(|error| {
        let reason = format!("nobody is sampled in between: {}", error.in_full());
        attached.missing.push(Missing { event: "busy", reason });
        None
    });
    if let Some(spawns) = spawns {
        attached.missing.extend(spawns.missing().iter().cloned());
        stream.say_stacks(LongStacks::begin(spawns).map_err(failed)?);
    }
    attached.say_start(&mut stream, &probes, &follower)?;
    let every = Ns::of(options.overhead_every);
    let mut costs = Costs::new(attached.at, every, probes.price());
    let catalog = stream.population.catalog();
    let mut governing = options.governed.map(|governed| Governing::new(governed, sampler, attached.at, catalog));
    let mut censuses = Censuses::new(options.bound);
    for (target, process) in targets.iter().zip(&processes) {
        // Without probes nobody would see the end of what a census finds.
        if stream.population.catalog().target(*target).is_some_and(|entry| entry.is_probed()) {
            // What is launched has no past: there is nothing to look for.
            censuses.begin(*target, launched.is_none(), Some(Arc::clone(process)));
        }
    }
    let running = launched.map(Launched::resume).transpose()?;
    let reason = runtime.block_on(async {
        let (probes, reader, stream, follower) = (&mut probes, &mut reader, &mut stream, &mut follower);
        let (costs, governing, budget) = (&mut costs, governing.as_mut(), Budget::new(options.bound));
        let say = &say;
        let works = Works { arrivals, probes, reader, stream, follower, censuses, budget, costs, governing, say };
        Observing::new(works).run(&mut watch).await
    });
    let detaching = monotonic_now();
    // What is lost from here on is not part of what is said. What was read before is taken when the probes are out: it may be much.
    let looked = stream.intake.look_at_calls(&probes, detaching);
    let counted = looked.and_then(|()| stream.count_lost(&probes, detaching));
    follower.end(detaching, &mut stream, &probes);
    if let Some(stacks) = stream.stacks() {
        stacks.detach();
    }
    let detach = monotonic_now().since(detaching);
    stream.intake.fill(&mut reader, &probes, detaching);
    drop(reader);
    let ended = reason.and_then(|reason| counted.map(|_| reason).map_err(SessionError::from));
    let ended = ended.and_then(|reason| {
        // What was seen after the probes began to be taken out is half the truth: some were gone already.
        stream.release_all(detaching).map_err(SessionError::Output)?;
        stream.report_sums(detaching, true).map_err(SessionError::Output)?;
        stream.report_stacks(detaching, true).map_err(SessionError::Output)?;
        let overhead = costs.all(detaching, stream.counters(&probes)?, stream.intake.records());
        let overhead = as_far_as_known(overhead, stream.population.catalog());
        let tiers = governing.map_or(Ok(Vec::new()), |governing| governing.end(detaching, &mut stream))?;
        finish(&mut stream, reason, (detaching, detach), (overhead, tiers), &say)?;
        runtime.block_on(written(&stream, &mut watch, reason == EndReason::Signal))
    });
    if let Err(error) = &ended
        && !error.is_of_output()
    {
        // What was said before it failed is written if somebody reads it: the failure is what is told.
        let _ = runtime.block_on(written(&stream, &mut watch, true));
    }
    runtime.shutdown_background();
    outlive(running, &say);
    ended.or_else(SessionError::unless_nobody_reads)
}

/// Probes where the tasks of these processes take their ids, for the stacks that they are spawned through.
fn spawns(options: &Options, processes: &[Arc<Process>], images: &mut Images<'_>) -> Result<Spawns, SessionError> {
    let (mechanism, slow) = (options.mechanism, options.slow);
    let wanted = SpawnOptions { mechanism, slow, caps: LongStacks::caps(), ..SpawnOptions::default() };
    Spawns::of_images(processes, &wanted, images)
}

/// What becomes of polls that change nothing: where nobody asks for each of them, nobody needs a record of them.
fn quiet(options: &Options) -> Quiet {
    match options.events {
        _ if options.governed.is_some_and(|governed| governed.top == Tier::Full) => Quiet::Governed,
        _ if options.sums.is_some() => Quiet::Summed,
        // None is seen, so that births need not make any loud.
        events if !watches_polls(events) => Quiet::Reported,
        EventSet { before: false, after: false, .. } => Quiet::Unsaid,
        _ => Quiet::Reported,
    }
}

/// Who is sampled, where samples are taken between the events.
fn whom(options: &Options, processes: &[Arc<Process>]) -> Whom {
    match &options.selection {
        Selection::Everyone(within) => Whom::Everyone(within.clone()),
        Selection::Running { .. } | Selection::Launch(_) => Whom::named(processes.iter().map(|process| process.pid())),
    }
}

/// Whether records can be led back to the processes they are of.
fn all_can_be_found() -> Result<(), SessionError> {
    let sees = attach::sees_every_process();
    match sees.map_err(|source| SessionError::System { what: "read /proc/self/ns/pid", source })? {
        true => Ok(()),
        false => Err(SessionError::InnerNamespace),
    }
}

/// The start of an observation: probes in their targets, when, and how long it took.
struct Attached {
    at: Ns,
    wall: SystemTime,
    took: Ns,
    missing: Vec<Missing>,
}

impl Attached {
    fn new(named: Named, probes: &mut Probes, catalog: &mut Catalog) -> Result<(Self, Reached), SessionError> {
        let began = monotonic_now();
        let mut reached = named.reach(probes, catalog)?;
        let at = monotonic_now();
        let missing = std::mem::take(&mut reached.missing);
        Ok((Self { at, wall: SystemTime::now(), took: at.since(began), missing }, reached))
    }

    fn say_start(&self, stream: &mut Stream, probes: &Probes, follower: &Follower<'_>) -> Result<(), SessionError> {
        let missing: Vec<Missing> = self.missing.iter().cloned().chain(follower.missing()).collect();
        let targets: Vec<_> = stream.population.catalog().targets().map(|(_, entry)| Arc::clone(entry)).collect();
        let start = Start {
            at: self.at,
            wall: self.wall,
            kernel: kernel_release(),
            mechanism: probes.mechanism().as_str(),
            window: WINDOW,
            targets: targets.iter().map(|entry| &**entry).collect(),
            missing: &missing,
            attach: self.took,
            following: follower.what(),
        };
        let (sink, out) = stream.sink();
        sink.start(&start, out).and_then(|()| out.flush()).map_err(SessionError::Output)
    }
}
