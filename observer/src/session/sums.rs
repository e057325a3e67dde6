//! Polls by task, summed up: those that the kernel side has summed, and those that were reported, as reports from time to
//! time.
//!
//! Does not know how a report looks.

use std::io;

use crate::attach::PollSums;
use crate::model::{
    AsyncId, Catalog, Event, EventKind, MappedImage, Ns, Pid, PollSum, QuickMap, RecordKind, ResourceFacts, TaskKey,
    Tid, TypeEntry,
};
use crate::sink::Polled;

use super::open_polls::{OpenPoll, OpenPolls};

/// A task as the kernel side knows it.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: AsyncId,
    root: Option<AsyncId>,
    longest_ns: u64,
}

/// A sum as it was when it was read last.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    sum: PollSum,
    /// It had been the same the time before.
    idle: bool,
    /// When it was read for the second time, if its task was not known: what it is of had happened by then.
    met: Option<Ns>,
}

/// Sums of one stream.
#[derive(Debug)]
pub(super) struct Sums {
    every: Ns,
    next: Ns,
    /// `None` where the kernel side sums nothing up, and reports each poll.
    kernel: Option<PollSums>,
    known: QuickMap<TaskKey, Known>,
    keys: QuickMap<AsyncId, TaskKey>,
    read: QuickMap<TaskKey, Read>,
    /// Polls that are reported, and those that were found while they go on.
    open: OpenPolls,
    /// Tasks that are a runtime's own workers: their poll lasts as long as they do.
    workers: QuickMap<AsyncId, Pid>,
    /// What is new since the last report.
    new: QuickMap<AsyncId, Polled>,
    polls: u64,
    /// Polls of tasks of which nothing else was seen.
    unplaced: u64,
}

impl Sums {
    /// A report every so often.
    pub(super) fn new(every: Ns, kernel: Option<PollSums>) -> Self {
        Self {
            every,
            next: Ns(0),
            kernel,
            known: QuickMap::default(),
            keys: QuickMap::default(),
            read: QuickMap::default(),
            open: OpenPolls::default(),
            workers: QuickMap::default(),
            new: QuickMap::default(),
            polls: 0,
            unplaced: 0,
        }
    }

    /// Polls so far, and those of them that belong to no task that is known.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.polls, self.unplaced)
    }

    /// Takes in what is about to be said. Gives the last report of a task whose end it is, if there is anything to report:
    /// nothing is said of a task after its end.
    pub(super) fn event(&mut self, event: &Event, catalog: &Catalog) -> io::Result<Option<Polled>> {
        if matches!(event.kind, EventKind::Lost { .. }) {
            self.open.missed();
        }
        let Some(pid) = event.pid else { return Ok(None) };
        match &event.kind {
            EventKind::Init { id, resource, .. } => {
                if let Some(key) = key_of(pid, resource, catalog) {
                    self.known.insert(key, Known { id: *id, root: event.root, longest_ns: 0 });
                    self.keys.insert(*id, key);
                }
                if type_of(pid, resource, catalog).is_some_and(|(_, entry)| entry.task.worker) {
                    self.workers.insert(*id, pid);
                }
            }
            EventKind::Before(id) => {
                if let Some(tid) = event.tid {
                    self.open.begins(tid, pid, (*id, event.root), event.at);
                }
            }
            EventKind::After(id) => {
                let began = event.tid.and_then(|tid| self.open.ends(tid, *id));
                // Where an end was concluded no thread may have been seen ending it.
                if event.inferred {
                    self.open.over(*id);
                }
                // A poll that went unsaid has been summed up.
                if let Some(began) = began.filter(|_| !event.inferred) {
                    let mut one = PollSum::default();
                    one.add(event.at.since(began).0);
                    self.add((*id, event.root), pid, &one);
                }
            }
            EventKind::Destroy(id) => {
                self.open.over(*id);
                self.workers.remove(id);
                return self.last_of(*id);
            }
            EventKind::Resolve(..) | EventKind::Lost { .. } => {}
        }
        Ok(None)
    }

    /// A thread has ended.
    pub(super) fn thread_ended(&mut self, tid: Tid) {
        self.open.thread_ended(tid);
    }

    /// Forgets a process that has ended, or runs another program, after its last report.
    pub(super) fn process_ended(&mut self, pid: Pid, goes_on: bool) -> io::Result<()> {
        self.known.retain(|key, _| key.tgid != pid.0);
        self.keys.retain(|_, key| key.tgid != pid.0);
        self.open.process_ended(pid);
        self.workers.retain(|_, of| *of != pid);
        if goes_on {
            // What was read of tasks before is no part of those that have the same ids now.
            return Ok(());
        }
        let Self { read, kernel: Some(kernel), .. } = self else { return Ok(()) };
        let over: Vec<TaskKey> = read.keys().filter(|key| key.tgid == pid.0).copied().collect();
        for key in over {
            read.remove(&key);
            kernel.forget(key)?;
        }
        Ok(())
    }

    /// Whether it is time for a report.
    pub(super) fn is_due(&self, now: Ns) -> bool {
        now >= self.next
    }

    /// Reads the kernel's sums and gives what is new of each task that was polled, by its id. All events up to `told` have been
    /// taken in, so that a poll that has not ended by then went on until then; `None` asks for nothing of tasks that are not known, nor
    /// of polls that go on.
    pub(super) fn report(&mut self, now: Ns, told: Option<Ns>) -> io::Result<Vec<Polled>> {
        self.next = Ns(now.0 + self.every.0);
        let mut rows: Vec<(TaskKey, PollSum)> = Vec::new();
        if let Some(kernel) = &self.kernel {
            kernel.each(&mut |key, sum| rows.push((key, *sum)))?;
        }
        for (key, sum) in rows {
            match self.known.get(&key) {
                Some(&Known { id, root, .. }) => self.take((id, root), key, sum),
                None => {
                    if let Some(told) = told {
                        self.take_unplaced(key, sum, now, told)?;
                    }
                }
            }
        }
        if let Some(told) = told {
            self.go_on(told);
        }
        let mut reports: Vec<Polled> = std::mem::take(&mut self.new).into_values().collect();
        reports.sort_unstable_by_key(|report| report.id);
        Ok(reports)
    }

    fn take(&mut self, of: (AsyncId, Option<AsyncId>), key: TaskKey, sum: PollSum) {
        let before = self.read.insert(key, Read { sum, idle: false, met: None }).unwrap_or_default();
        self.add(of, Pid(key.tgid), &sum.since(&before.sum));
    }

    /// A task whose birth may not have been said yet: a reading tells that comes after all was said that had happened before the
    /// second. (When the first was, within a look at them all, is not known.) Who is not polled and not known has ended.
    fn take_unplaced(&mut self, key: TaskKey, sum: PollSum, now: Ns, told: Ns) -> io::Result<()> {
        let Some(before) = self.read.get_mut(&key) else {
            self.read.insert(key, Read::default());
            return Ok(());
        };
        if *before.met.get_or_insert(now) > told {
            return Ok(());
        }
        let before = *before;
        let new = sum.since(&before.sum);
        self.polls += new.polls;
        self.unplaced += new.polls;
        let idle = new.polls == 0;
        self.read.insert(key, Read { sum, idle, met: before.met });
        if let Some(kernel) = self.kernel.as_ref().filter(|_| idle && before.idle) {
            self.read.remove(&key);
            kernel.forget(key)?;
        }
        Ok(())
    }

    /// What is new of a task that has ended, which is forgotten by this.
    fn last_of(&mut self, id: AsyncId) -> io::Result<Option<Polled>> {
        if let Some(key) = self.keys.remove(&id) {
            let root = self.known.get(&key).and_then(|known| known.root);
            if let Some(kernel) = &self.kernel
                && let Some(sum) = kernel.of(key)?
            {
                kernel.forget(key)?;
                self.take((id, root), key, sum);
                self.read.remove(&key);
            }
            self.known.remove(&key);
        }
        Ok(self.new.remove(&id))
    }

    /// Polls that go on are part of no sum: of each task that is in one is said for how long it has been, up to this moment.
    fn go_on(&mut self, told: Ns) {
        let open = self.open.sure().filter(|poll| poll.began <= told && !self.workers.contains_key(&poll.id));
        for OpenPoll { id, root, pid, began, .. } in open {
            let longest_ns = self.keys.get(id).and_then(|key| self.known.get(key)).map_or(0, |known| known.longest_ns);
            let sum = PollSum { longest_ns, ..PollSum::default() };
            let blank = Polled { pid: *pid, id: *id, root: *root, sum, polling_for: None };
            let report = self.new.entry(*id).or_insert(blank);
            // A task is in one poll at a time: the latest, were there several.
            let so_far = told.since(*began);
            report.polling_for = Some(report.polling_for.map_or(so_far, |other| other.min(so_far)));
        }
    }

    fn add(&mut self, (id, root): (AsyncId, Option<AsyncId>), pid: Pid, new: &PollSum) {
        if new.polls == 0 {
            return;
        }
        self.polls += new.polls;
        let mut longest = new.longest_ns;
        if let Some(known) = self.keys.get(&id).and_then(|key| self.known.get_mut(key)) {
            known.longest_ns = known.longest_ns.max(longest);
            longest = known.longest_ns;
        }
        let Polled { sum, .. } =
            self.new.entry(id).or_insert_with(|| Polled { pid, id, root, sum: PollSum::default(), polling_for: None });
        sum.join(new);
        sum.longest_ns = sum.longest_ns.max(longest);
    }
}

/// As the kernel side knows the task; `None` where it does not sum its polls up.
fn key_of(pid: Pid, resource: &ResourceFacts, catalog: &Catalog) -> Option<TaskKey> {
    let (mapped, entry) = type_of(pid, resource, catalog)?;
    let point = mapped.image.places.find(entry.task.functions.poll, RecordKind::Call)?;
    Some(TaskKey { tgid: pid.0, point: point.0, id: resource.task_id?.0 })
}

/// Its type, and the image that has it.
fn type_of<'a>(pid: Pid, resource: &ResourceFacts, catalog: &'a Catalog) -> Option<(&'a MappedImage, &'a TypeEntry)> {
    let type_id = resource.type_id.as_ref()?;
    let entry = catalog.target(catalog.of_process(pid)?)?;
    let mapped = entry.images.iter().find(|mapped| mapped.image.build_id == type_id.build_id)?;
    Some((mapped, mapped.image.types.get(&type_id.vtable)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums, and the stream of one process that they are told of.
    struct Told(Sums);

    impl Told {
        fn new() -> Self {
            Self(Sums::new(Ns(100), None))
        }

        fn see(&mut self, at: u64, tid: u32, inferred: bool, kind: EventKind) -> Option<(u64, u64, u64)> {
            let event = Event { at: Ns(at), pid: Some(Pid(7)), tid: Some(Tid(tid)), root: None, inferred, kind };
            figures(self.0.event(&event, &Catalog::default()).unwrap().as_slice()).pop().map(|(_, figures)| figures)
        }

        fn poll(&mut self, id: u64, tid: u32, from: u64, to: u64) {
            self.see(from, tid, false, EventKind::Before(AsyncId(id)));
            self.see(to, tid, false, EventKind::After(AsyncId(id)));
        }

        fn report(&mut self, at: u64) -> Vec<(u64, (u64, u64, u64))> {
            figures(&self.0.report(Ns(at), Some(Ns(at))).unwrap())
        }
    }

    fn figures(reports: &[Polled]) -> Vec<(u64, (u64, u64, u64))> {
        let figures = |polled: &Polled| (polled.sum.polls, polled.sum.busy_ns, polled.sum.longest_ns);
        reports.iter().map(|polled| (polled.id.0, figures(polled))).collect()
    }

    #[test]
    fn reported_polls_are_summed_from_report_to_report_and_once_more_before_the_end() {
        let mut told = Told::new();
        told.poll(1, 1, 10, 30);
        // One within the other, on one thread.
        told.see(40, 1, false, EventKind::Before(AsyncId(1)));
        told.poll(2, 1, 50, 60);
        told.see(100, 1, false, EventKind::After(AsyncId(1)));
        assert_eq!(told.report(100), [(1, (2, 80, 60)), (2, (1, 10, 10))]);
        assert_eq!(told.report(200), []);
        told.poll(2, 1, 210, 215);
        assert_eq!(told.see(220, 1, false, EventKind::Destroy(AsyncId(2))), Some((1, 5, 5)));
        assert_eq!(told.see(221, 1, false, EventKind::Destroy(AsyncId(1))), None, "nothing new");
        assert_eq!((told.report(300), told.0.totals()), (vec![], (4, 0)));
    }

    /// For how long each task has been in a poll, as the next report says it.
    fn polling(told: &mut Told, at: u64) -> Vec<(u64, Option<u64>)> {
        let reports = told.0.report(Ns(at), Some(Ns(at))).unwrap();
        reports.iter().map(|polled| (polled.id.0, polled.polling_for.map(|so_far| so_far.0))).collect()
    }

    #[test]
    fn a_poll_that_goes_on_is_in_no_sum_and_each_report_says_for_how_long_until_it_ends() {
        let mut told = Told::new();
        told.poll(1, 1, 10, 30);
        told.see(40, 1, false, EventKind::Before(AsyncId(1)));
        assert_eq!(polling(&mut told, 100), [(1, Some(60))]);
        assert_eq!(polling(&mut told, 200), [(1, Some(160))], "also where nothing is new");
        told.see(240, 1, false, EventKind::After(AsyncId(1)));
        assert_eq!(polling(&mut told, 300), [(1, None)]);
        assert_eq!(polling(&mut told, 400), []);
        // One whose end was concluded, whichever thread was seen at that, is over.
        told.see(410, 1, false, EventKind::Before(AsyncId(1)));
        told.see(450, 2, true, EventKind::After(AsyncId(1)));
        assert_eq!(polling(&mut told, 500), []);
    }

    #[test]
    fn where_records_were_lost_a_poll_may_have_ended_unseen() {
        let mut told = Told::new();
        told.see(40, 1, false, EventKind::Before(AsyncId(1)));
        told.see(50, 1, false, EventKind::Lost { count: 1 });
        told.see(60, 2, false, EventKind::Before(AsyncId(2)));
        assert_eq!(polling(&mut told, 100), [(2, Some(40))]);
        told.0.process_ended(Pid(7), true).unwrap();
        assert_eq!(polling(&mut told, 200), []);
    }

    #[test]
    fn a_poll_whose_end_was_only_concluded_is_not_measured() {
        let mut told = Told::new();
        told.see(10, 1, false, EventKind::Before(AsyncId(1)));
        told.see(90, 1, true, EventKind::After(AsyncId(1)));
        assert_eq!(told.report(100), []);
    }

    #[test]
    fn polls_of_one_task_on_two_threads_do_not_meet() {
        let mut told = Told::new();
        told.see(10, 1, false, EventKind::Before(AsyncId(1)));
        told.see(20, 2, false, EventKind::Before(AsyncId(1)));
        told.see(30, 1, false, EventKind::After(AsyncId(1)));
        told.see(90, 2, false, EventKind::After(AsyncId(1)));
        assert_eq!(told.report(100), [(1, (2, 90, 70))]);
    }

    #[test]
    fn polls_of_a_task_are_its_own_however_late_its_birth_is_said_and_nobody_s_only_when_all_was() {
        let key = TaskKey { tgid: 7, point: 1, id: 3 };
        let sum = PollSum { polls: 2, busy_ns: 20, ..PollSum::default() };
        let read = |sums: &mut Sums, readings: &[(u64, u64)]| {
            readings.iter().for_each(|(now, told)| sums.take_unplaced(key, sum, Ns(*now), Ns(*told)).unwrap());
            sums.totals()
        };
        // What is told lags behind by more than two readings.
        let mut sums = Sums::new(Ns(50), None);
        assert_eq!(read(&mut sums, &[(100, 0), (150, 20), (200, 60), (250, 149)]), (0, 0));
        sums.take((AsyncId(1), Some(AsyncId(1))), key, sum);
        assert_eq!(sums.totals(), (2, 0), "all of them");
        let mut sums = Sums::new(Ns(50), None);
        assert_eq!(read(&mut sums, &[(100, 0), (150, 20), (200, 150)]), (2, 2));
    }
}
