//! The live stream: of processes that are named, of one that is launched, or of all there are.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::attach::{self, AttachError, Audience, Calls, Probes, Quiet};
use crate::lifecycle::{Lifecycle, Rules};
use crate::lives::Lives;
use crate::model::{Catalog, EventSet, Missing, Ns, Sight};
use crate::plan::watches_polls;
use crate::sink::{EndReason, Start};
use crate::target::{Launched, give_memory_back, monotonic_now, own_memory};

use super::budget::{Budget, Level};
use super::censuses::Censuses;
use super::ending::{finish, outlive, written};
use super::error::SessionError;
use super::follow::{FEW_NEWS_PAGES, Follower, NEWS_PAGES};
use super::governing::{Governable, Governing};
use super::held::Held;
use super::images::Images;
use super::named::{Named, Reached};
use super::outlet::Outlet;
use super::overhead::{Costs, as_far_as_known};
use super::population::{Beginning, Change, Ending, Members, Population};
use super::privileges::{Stage, keep};
use super::reader::Reader;
use super::sampled::{Reserved, Whom};
use super::select::{Targets, select};
use super::setup::{Looking, Setup, set_up};
use super::stream::{SHORT_WINDOW, Stream, WINDOW};
use super::sums::Sums;
use super::tier::Tier;
use super::watch::{Watch, Woken};
use super::{Options, Output, Selection, bell, event_loop, kernel_release, progress};

/// Between two looks at the memory in use.
const LOOK: Ns = Ns(500_000_000);
/// So much of the stream's time is said between two looks at what it costs, where that is governed.
const PIECE: Ns = Ns(5_000_000);
/// So many records between two of them leave room that nobody uses, between what is kept for long: it is given back when fewer
/// come.
const MANY: u64 = 10_000;
/// Between two looks at the calls in progress, where records wait for one. It reads a map of the kernel's from end to end.
const SHORTLY: Ns = Ns(5_000_000);

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
    let mut images = Images::new(options.names, &options.caching, &say);
    let looking = Looking { events: options.events, slow: options.slow, spawners: false };
    let Setup { catalog, attachments, targets, .. } = set_up(&processes, &mut images, looking)?;
    let named = Named::prepare(attachments, &processes)?;
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
    if options.governed.is_some() && probes.hit_ns().is_none() {
        return Err(SessionError::CostUnknown);
    }
    let (mut attached, held) = Attached::new(named, &mut probes, &catalog)?;
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
        others: everyone,
        room: true,
        sight: Sight::All,
    };
    let population = Population::new(catalog, members);
    let every_poll = matches!(quiet(options), Quiet::Reported | Quiet::Governed);
    let kernel_sums = probes.poll_sums()?;
    let sums = options.sums.map(|every| Sums::new(Ns::of(every), kernel_sums));
    let failed = |source| SessionError::System { what: "start threads for rings and output", source };
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
    let mut reader = Reader::begin(probes.take_rings(), options.bound, bell).map_err(failed)?;
    let whom = match &options.selection {
        Selection::Everyone(within) => Whom::Everyone(within.clone()),
        Selection::Running { .. } | Selection::Launch(_) => Whom::named(processes.iter().map(|process| process.pid())),
    };
    let sampler = samples.map(|(reserved, look)| reserved?.sampler(whom, look, attached.at)).transpose();
    let sampler = sampler.unwrap_or_else(|error| {
        attached
            .missing
            .push(Missing { event: "busy", reason: format!("nobody is sampled in between: {}", error.in_full()) });
        None
    });
    attached.say_start(&mut stream, &probes, &follower)?;
    let every = Ns::of(options.overhead_every);
    let mut costs = Costs::new(attached.at, every, probes.hit_ns());
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
        let budget = Budget::new(options.bound);
        let (costs, governing) = (&mut costs, governing.as_mut());
        let mut observing = Observing {
            probes,
            reader,
            stream,
            follower,
            censuses,
            budget,
            costs,
            governing,
            next_look: Ns(0),
            looked: Ns(0),
            horizon: Ns(0),
            released: Ns(0),
            read: 0,
            busy: false,
            say: &say,
        };
        observing.run(&mut watch).await
    });
    let detaching = monotonic_now();
    // What is lost from here on, while nobody reads the rings, is not part of what is said.
    let looked = stream.look_at_calls(&probes, detaching);
    stream.fill(&mut reader, detaching);
    let counted = looked.and_then(|()| stream.count_lost(&probes, detaching));
    follower.end(detaching, &mut stream, &probes);
    let detach = monotonic_now().since(detaching);
    stream.fill(&mut reader, detaching);
    drop(reader);
    let ended = reason.and_then(|reason| counted.map(|_| reason).map_err(SessionError::from));
    let ended = ended.and_then(|reason| {
        // What was seen after the probes began to be taken out is half the truth: some were gone already.
        stream.release_all(detaching).map_err(SessionError::Output)?;
        stream.report_sums(detaching, true).map_err(SessionError::Output)?;
        let overhead = costs.all(detaching, probes.counters()?, stream.records_read());
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

/// What becomes of polls that change nothing: where nobody asks for each of them, nobody needs a record of them.
fn quiet(options: &Options) -> Quiet {
    match options.events {
        _ if options.governed.is_some_and(|governed| governed.top == Tier::Full) => Quiet::Governed,
        _ if options.sums.is_some() => Quiet::Summed,
        EventSet { before: false, after: false, .. } => Quiet::Unsaid,
        _ => Quiet::Reported,
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
    fn new(named: Named, probes: &mut Probes, catalog: &Catalog) -> Result<(Self, Vec<Held>), SessionError> {
        let began = monotonic_now();
        let Reached { held, missing } = named.reach(probes, catalog)?;
        let at = monotonic_now();
        Ok((Self { at, wall: SystemTime::now(), took: at.since(began), missing }, held))
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

/// The loop and what it works with.
struct Observing<'a, 'f> {
    probes: &'a mut Probes,
    reader: &'a mut Reader,
    stream: &'a mut Stream,
    follower: &'a mut Follower<'f>,
    censuses: Censuses,
    budget: Budget,
    costs: &'a mut Costs,
    governing: Option<&'a mut Governing>,
    /// When to look at the memory in use next.
    next_look: Ns,
    /// When calls in progress were looked at last: what has begun before is known.
    looked: Ns,
    /// Records that had been read by the last look, and whether many were since the one before.
    read: u64,
    busy: bool,
    /// Up to when all is known: by the last time that the rings were looked at.
    horizon: Ns,
    /// Up to when events were said.
    released: Ns,
    say: &'a dyn Fn(u8, &str),
}

impl Observing<'_, '_> {
    async fn run(&mut self, watch: &mut Watch) -> Result<EndReason, SessionError> {
        loop {
            let woken = watch.next().await;
            let now = monotonic_now();
            // Before the rings are looked at: what was written later may have been passed by.
            let written = watch.horizon().written();
            // Where nothing more can be said nothing more is taken: what is beyond the reader's room is lost, and counted.
            let stalled = self.stream.is_stalled();
            if !stalled {
                self.look_at_calls(written, now)?;
                self.stream.fill(self.reader, now);
            }
            if self.stream.count_lost(self.probes, now)? > 0 {
                self.censuses.want_all();
            }
            self.follower.fill(self.stream, self.probes);
            self.follower.tend(self.stream, self.probes, now);
            // Each of these may take long where there is much, and as often it is asked what that costs the targets meanwhile.
            self.govern(monotonic_now())?;
            if !stalled {
                self.censuses.tend(self.stream, now, self.say).await;
                if let Some(governing) = &mut self.governing {
                    governing.say_samples(self.stream)?;
                }
            }
            self.govern(monotonic_now())?;
            self.look_at_budget(now)?;
            let window = if self.budget.level() >= Level::Window { SHORT_WINDOW } else { WINDOW };
            // What a census finds belongs between the records of its own time.
            let horizon = if self.censuses.are_under_way() { Ns(0) } else { written };
            if !stalled {
                self.horizon = horizon.max(now.before(window.0)).min(self.looked);
            }
            let changes = self.release(self.horizon)?;
            self.changed(changes);
            self.stream.report_costs(now, self.probes, self.costs, woken == Woken::Asked)?;
            self.stream.report_sums(now, false).map_err(SessionError::Output)?;
            self.govern(monotonic_now())?;
            for text in self.probes.kernel_log() {
                (self.say)(3, &format!("kernel side: {text}"));
            }
            if self.stream.holds_back() {
                watch.horizon().ask();
            }
            match woken {
                Woken::Look | Woken::Asked => {}
                Woken::Signal => return Ok(EndReason::Signal),
                Woken::Over => return Ok(EndReason::Duration),
                Woken::Exited => return Ok(EndReason::Exited),
            }
        }
    }

    /// Before the rings are looked at, as often as it is of use: a call that lasts is said to have begun without its return.
    fn look_at_calls(&mut self, written: Ns, now: Ns) -> Result<(), SessionError> {
        let pause = match self.probes.calls() {
            Calls::Twice => Ns(0),
            Calls::Once if written > self.looked => SHORTLY,
            Calls::Once => WINDOW,
        };
        if now.since(self.looked) >= pause {
            self.stream.look_at_calls(self.probes, now)?;
            self.looked = now;
        }
        Ok(())
    }

    /// Says all events up to the horizon. Where much is to be said, what that costs the targets meanwhile must not go unseen.
    fn release(&mut self, horizon: Ns) -> Result<Vec<(Ns, Change)>, SessionError> {
        let mut changes = Vec::new();
        if self.governing.is_some() {
            let mut piece = self.released.max(horizon.before(WINDOW.0));
            while piece < horizon {
                changes.append(&mut self.stream.release(piece).map_err(SessionError::Output)?);
                self.govern(monotonic_now())?;
                piece.0 += PIECE.0;
            }
            self.released = horizon;
        }
        changes.append(&mut self.stream.release(horizon).map_err(SessionError::Output)?);
        Ok(changes)
    }

    fn govern(&mut self, now: Ns) -> Result<(), SessionError> {
        let Self { probes, stream, follower, censuses, costs, governing: Some(governing), .. } = self else {
            return Ok(());
        };
        governing.tend(now, Governable { probes, stream, follower, censuses, costs })
    }

    fn look_at_budget(&mut self, now: Ns) -> Result<(), SessionError> {
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = Ns(now.0 + LOOK.0);
        let read = self.stream.records_read();
        let was_busy = std::mem::replace(&mut self.busy, read - self.read >= MANY);
        self.read = read;
        if was_busy && !self.busy {
            give_memory_back();
        }
        // What cannot be read binds nothing: it is this program's own file.
        let Some(resident) = own_memory() else { return Ok(()) };
        let Some(level) = self.budget.used(resident) else { return Ok(()) };
        self.follower.degrade(level);
        self.stream.degrade(now, level, &self.budget.reason(resident)).map_err(SessionError::Output)
    }

    fn changed(&mut self, changes: Vec<(Ns, Change)>) {
        // Together, because each asking costs as much as all: many a program that is run over and over lives for milliseconds.
        let (mut exited, mut anew) = (Vec::new(), Vec::new());
        for (at, change) in changes {
            match change {
                Change::Begins { id, why } => {
                    // Who begins a program, or is a copy of its parent, runs nothing of a past that its own events do not tell.
                    let past = matches!(why, Beginning::Found | Beginning::Loaded);
                    if self.stream.has(id) {
                        self.censuses.begin(id, past, None);
                    }
                }
                Change::ThreadEnded(tid) => self.is_forgotten("a thread", self.probes.forget_thread(tid)),
                Change::Ends { id, pid, why } => {
                    self.censuses.end(id);
                    match why {
                        Ending::Exited => {
                            self.follower.ended(pid);
                            exited.push((pid, at));
                        }
                        Ending::Execed | Ending::Released => anew.push((pid, at)),
                    }
                }
            }
        }
        // Calls that they were killed in would take room in the kernel for ever.
        self.is_forgotten("a process", self.probes.begin_anew(&anew));
        self.is_forgotten("a process", self.probes.forget(&exited));
    }

    fn is_forgotten(&self, who: &str, forgotten: Result<(), AttachError>) {
        if let Err(error) = forgotten {
            (self.say)(1, &format!("{who} ended, and what the kernel side keeps of it stays: {error}"));
        }
    }
}
