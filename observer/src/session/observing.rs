//! The loop of a live stream: rings, news, censuses and costs, each when it is time.
//!
//! Does not know: how it was set up.

use std::collections::BTreeSet;

use crate::attach::{Calls, Probes};
use crate::model::Ns;
use crate::perf::online_cpus;
use crate::sink::EndReason;
use crate::target::{give_memory_back, monotonic_now, own_memory};

use super::arrivals::Arrivals;
use super::budget::{Budget, Level};
use super::censuses::Censuses;
use super::error::SessionError;
use super::follow::Follower;
use super::governing::{Governable, Governing};
use super::overhead::Costs;
use super::population::{Beginning, Change, Ending};
use super::reader::Reader;
use super::stream::{SHORT_WINDOW, Stream, WINDOW};
use super::watch::{Watch, Woken};

/// Between two looks at the memory in use.
const LOOK: Ns = Ns(500_000_000);
/// So much of the stream's time is said between two looks at what it costs, where that is governed.
const PIECE: Ns = Ns(5_000_000);
/// So many records between two of them leave room that nobody uses, between what is kept for long: it is given back when fewer
/// come.
const MANY: u64 = 10_000;
/// Between two looks at the calls in progress, where records wait for one. It reads a map of the kernel's from end to end.
const SHORTLY: Ns = Ns(5_000_000);

/// What the loop works with.
pub(super) struct Works<'a, 'f> {
    pub(super) arrivals: Arrivals,
    pub(super) probes: &'a mut Probes,
    pub(super) reader: &'a mut Reader,
    pub(super) stream: &'a mut Stream,
    pub(super) follower: &'a mut Follower<'f>,
    pub(super) censuses: Censuses,
    pub(super) budget: Budget,
    pub(super) costs: &'a mut Costs,
    pub(super) governing: Option<&'a mut Governing>,
    pub(super) say: &'a dyn Fn(u8, &str),
}

/// The loop.
pub(super) struct Observing<'a, 'f> {
    works: Works<'a, 'f>,
    /// CPUs that could not be listened to, which was said.
    deaf: BTreeSet<u32>,
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
}

impl<'a, 'f> Observing<'a, 'f> {
    /// Nothing was looked at yet.
    pub(super) fn new(works: Works<'a, 'f>) -> Self {
        let (next_look, looked, horizon, released) = (Ns(0), Ns(0), Ns(0), Ns(0));
        Self { works, deaf: BTreeSet::new(), next_look, looked, read: 0, busy: false, horizon, released }
    }

    /// Goes on until something ends it.
    pub(super) async fn run(&mut self, watch: &mut Watch) -> Result<EndReason, SessionError> {
        loop {
            let woken = watch.next(self.works.stream.is_behind()).await;
            let now = monotonic_now();
            // Before the rings are looked at: what was written later may have been passed by.
            let written = watch.horizon().written();
            // Where nothing more can be said, or not all has been yet, nothing more is taken: what is beyond the reader's room is lost,
            // and counted.
            let stalled = self.works.stream.is_stalled() || self.works.stream.is_behind();
            if !stalled {
                self.look_at_calls(written, now)?;
                self.works.stream.intake.fill(self.works.reader, self.works.probes, now);
            }
            if self.works.stream.count_lost(self.works.probes, now)? > 0 {
                self.works.censuses.want_all();
            }
            self.works.follower.fill(self.works.stream, self.works.probes);
            self.look_at_cpus(now)?;
            self.works.follower.tend(self.works.stream, self.works.probes, now);
            // Each of these may take long where there is much, and as often it is asked what that costs the targets meanwhile.
            self.govern(monotonic_now())?;
            if !stalled {
                self.works.censuses.tend(self.works.stream, now, self.works.say).await;
                if let Some(governing) = &mut self.works.governing {
                    governing.say_samples(self.works.stream)?;
                }
            }
            self.govern(monotonic_now())?;
            self.look_at_budget(now)?;
            let window = if self.works.budget.level() >= Level::Window { SHORT_WINDOW } else { WINDOW };
            // What a census finds belongs between the records of its own time.
            let horizon = if self.works.censuses.are_under_way() { Ns(0) } else { written };
            if !stalled {
                self.horizon = horizon.max(now.before(window.0)).min(self.looked);
            }
            let changes = self.release(self.horizon)?;
            self.changed(changes);
            self.works.stream.report_costs(now, self.works.probes, self.works.costs, woken == Woken::Asked)?;
            self.works.stream.report_sums(now, false).map_err(SessionError::Output)?;
            self.works.stream.report_stacks(now, false).map_err(SessionError::Output)?;
            self.govern(monotonic_now())?;
            for text in self.works.probes.kernel_log() {
                (self.works.say)(3, &format!("kernel side: {text}"));
            }
            if self.works.stream.holds_back() {
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
        let pause = match self.works.probes.calls() {
            Calls::Twice => Ns(0),
            Calls::Once if written > self.looked => SHORTLY,
            Calls::Once => WINDOW,
        };
        if now.since(self.looked) >= pause {
            self.works.stream.intake.look_at_calls(self.works.probes, now)?;
            self.looked = now;
        }
        Ok(())
    }

    /// Says all events up to the horizon. Where much is to be said, what that costs the targets meanwhile must not go unseen.
    fn release(&mut self, horizon: Ns) -> Result<Vec<(Ns, Change)>, SessionError> {
        let mut changes = Vec::new();
        if self.works.governing.is_some() {
            let mut piece = self.released.max(horizon.before(WINDOW.0));
            while piece < horizon {
                changes.append(&mut self.works.stream.release(piece).map_err(SessionError::Output)?);
                self.govern(monotonic_now())?;
                if self.works.stream.is_behind() {
                    return Ok(changes);
                }
                self.released = piece;
                piece.0 += PIECE.0;
            }
            self.released = horizon;
        }
        changes.append(&mut self.works.stream.release(horizon).map_err(SessionError::Output)?);
        Ok(changes)
    }

    fn govern(&mut self, now: Ns) -> Result<(), SessionError> {
        let Works { probes, stream, follower, censuses, costs, governing: Some(governing), .. } = &mut self.works
        else {
            return Ok(());
        };
        governing.tend(now, Governable { probes, stream, follower, censuses, costs })
    }

    /// What happens on a CPU that has come online is read from now on.
    fn look_at_cpus(&mut self, now: Ns) -> Result<(), SessionError> {
        let Works { arrivals, probes, reader, follower, stream, .. } = &mut self.works;
        if !arrivals.is_due(now) {
            return Ok(());
        }
        // Where the list cannot be read now it can the next time.
        let Ok(online) = online_cpus() else { return Ok(()) };
        for cpu in arrivals.new_ones(online) {
            let records = probes.ring_for(cpu).map(|ring| reader.join(ring));
            // Not without the records: it is tried again, and each time all processes would be looked at.
            let listens = records.and_then(|()| Ok(follower.listen_on(cpu, stream)?)).map_err(SessionError::from);
            if let Err(error) = listens {
                arrivals.failed(cpu);
                if self.deaf.insert(cpu) {
                    let reason =
                        format!("CPU {cpu} came online, and what happens there is not seen: {}", error.in_full());
                    stream.is_without(now, "cpu", &reason).map_err(SessionError::Output)?;
                }
            }
        }
        Ok(())
    }

    fn look_at_budget(&mut self, now: Ns) -> Result<(), SessionError> {
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = Ns(now.0 + LOOK.0);
        let read = self.works.stream.intake.records();
        let was_busy = std::mem::replace(&mut self.busy, read - self.read >= MANY);
        self.read = read;
        if was_busy && !self.busy {
            give_memory_back();
        }
        // What cannot be read binds nothing: it is this program's own file.
        let Some(resident) = own_memory() else { return Ok(()) };
        let Some(level) = self.works.budget.used(resident) else { return Ok(()) };
        self.works.follower.degrade(level);
        self.works.stream.degrade(now, level, &self.works.budget.reason(resident)).map_err(SessionError::Output)
    }

    fn changed(&mut self, changes: Vec<(Ns, Change)>) {
        // Together, because each asking costs as much as all: many a program that is run over and over lives for milliseconds.
        let (mut exited, mut anew) = (Vec::new(), Vec::new());
        for (at, change) in changes {
            match change {
                Change::Begins { id, why } => {
                    // Who begins a program, or is a copy of its parent, runs nothing of a past that its own events do not tell.
                    let past = matches!(why, Beginning::Found | Beginning::Loaded);
                    if self.works.stream.has(id) {
                        self.works.censuses.begin(id, past, None);
                    }
                }
                Change::ThreadEnded(pid, tid) => self.works.probes.forget_thread(pid, tid, at),
                Change::Ends { id, pid, why } => {
                    self.works.censuses.end(id);
                    match why {
                        Ending::Exited => {
                            self.works.follower.ended(pid);
                            exited.push((pid, at));
                        }
                        Ending::Execed | Ending::Released => anew.push((pid, at)),
                    }
                }
            }
        }
        // Calls that they were killed in would take room in the kernel for ever.
        for forgotten in [self.works.probes.begin_anew(&anew), self.works.probes.forget(&exited)] {
            if let Err(error) = forgotten {
                let text = format!("a process ended, and what the kernel side keeps of it stays: {error}");
                (self.works.say)(1, &text);
            }
        }
    }
}
