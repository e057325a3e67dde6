//! What was read of one process's tasks, reading after reading: who is new, who ended, who did not move.
//!
//! Memory: one entry for each task of the latest reading, and for each site as many points as the window has readings.
//! Does not know: what follows from it.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use crate::model::{Activity, LiveTask, Ns, ProcAddr, Site, TaskId, TaskState};

/// The tasks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// When.
    pub at: Ns,
    /// All that were found.
    pub tasks: &'a [LiveTask],
    /// All memory could be read: who is not among them has ended.
    pub complete: bool,
    /// Closures were looked for, too.
    pub closures: bool,
}

/// A site at one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) at: Ns,
    /// Live tasks.
    pub(super) live: u64,
    /// Of those, the ones that were there at the reading before.
    pub(super) settled: u64,
    /// `born = live - settled`, except at the first reading, where nothing is known to be born.
    pub(super) born: u64,
    /// There at the reading before and not any more.
    pub(super) ended: u64,
    /// Of those, the ones that had been settled.
    pub(super) settled_ended: u64,
}

/// What is remembered of a site.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    /// The window's points, one a reading; the site is met at the first of them.
    pub(super) points: VecDeque<Point>,
}

/// What is remembered of a live task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) header: ProcAddr,
    pub(super) id: TaskId,
    pub(super) site: Site,
    pub(super) state: TaskState,
    pub(super) first_seen: Ns,
    /// Readings in a row that found the state word that it has, at most `u32::MAX`.
    pub(super) still: u32,
    future: bool,
    readings: u32,
}

/// The tasks in order of header and id; a census has them so.
fn in_order(tasks: &[LiveTask]) -> Cow<'_, [LiveTask]> {
    let key = |task: &LiveTask| (task.header, task.id);
    if tasks.is_sorted_by_key(key) {
        return Cow::Borrowed(tasks);
    }
    let mut sorted = tasks.to_vec();
    sorted.sort_unstable_by_key(key);
    Cow::Owned(sorted)
}

impl Known {
    fn key(&self) -> (ProcAddr, TaskId) {
        (self.header, self.id)
    }

    /// A future; closures are not woken.
    pub(super) fn is_future(&self) -> bool {
        self.future
    }
}

/// One process's tasks over a window of readings.
#[derive(Clone, Debug)]
pub struct History {
    window: usize,
    taken: u64,
    times: VecDeque<Ns>,
    /// In order of header and id, as readings are: a million of them are gone through together, not looked up.
    pub(super) tasks: Vec<Known>,
    pub(super) sites: HashMap<Site, Course>,
    /// The newest reading that could not see everything.
    incomplete: Option<u64>,
}

impl History {
    /// Over the latest `window` readings, at least two.
    pub fn new(window: usize) -> Self {
        Self {
            window: window.max(2),
            taken: 0,
            times: VecDeque::new(),
            tasks: Vec::new(),
            sites: HashMap::new(),
            incomplete: None,
        }
    }

    /// Takes in the next reading.
    pub fn add(&mut self, reading: &Reading<'_>) {
        let number = self.taken;
        self.taken += 1;
        self.times.push_back(reading.at);
        if !reading.complete {
            self.incomplete = Some(number);
        }
        let at = reading.at;
        let blank = Point { at, live: 0, settled: 0, born: 0, ended: 0, settled_ended: 0 };
        let mut counts: HashMap<Site, Point> = HashMap::new();
        let mut now = Vec::with_capacity(reading.tasks.len());
        let mut before = std::mem::take(&mut self.tasks).into_iter().peekable();
        let absent = |known: Known, counts: &mut HashMap<Site, Point>, now: &mut Vec<Known>| {
            let point = counts.entry(known.site).or_insert(blank);
            // Who was not looked for is as it was.
            if !reading.closures && !known.is_future() {
                point.live += 1;
                point.settled += 1;
                now.push(Known { readings: known.readings.saturating_add(1), ..known });
            } else {
                point.ended += 1;
                point.settled_ended += u64::from(known.readings > 1);
            }
        };
        for task in in_order(reading.tasks).iter().filter(|task| task.state.activity() != Activity::Complete) {
            let key = (task.header, task.id);
            while let Some(known) = before.next_if(|known| known.key() < key) {
                absent(known, &mut counts, &mut now);
            }
            let site = Site::of(task);
            let point = counts.entry(site).or_insert(blank);
            point.live += 1;
            now.push(match before.next_if(|known| known.key() == key) {
                Some(known) => {
                    point.settled += 1;
                    let still = if known.state == task.state { known.still.saturating_add(1) } else { 1 };
                    Known { state: task.state, still, readings: known.readings.saturating_add(1), ..known }
                }
                None => {
                    point.born += u64::from(number > 0);
                    Known {
                        header: task.header,
                        id: task.id,
                        site,
                        state: task.state,
                        first_seen: at,
                        still: 1,
                        future: task.is_future(),
                        readings: 1,
                    }
                }
            });
        }
        before.for_each(|known| absent(known, &mut counts, &mut now));
        self.tasks = now;
        self.note(counts, blank);
    }

    /// What is remembered of the task, if it was there at the latest reading.
    pub(super) fn known(&self, task: &LiveTask) -> Option<&Known> {
        let place = self.tasks.binary_search_by_key(&(task.header, task.id), Known::key).ok()?;
        self.tasks.get(place)
    }

    /// How many readings the window holds.
    pub fn readings(&self) -> usize {
        self.times.len()
    }

    /// From the window's first reading to its last; 0 before the second.
    pub fn during(&self) -> Ns {
        self.times.front().zip(self.times.back()).map_or(Ns(0), |(first, last)| last.since(*first))
    }

    /// Between the two latest readings.
    pub(super) fn apart(&self) -> Option<Ns> {
        let before = self.times.len().checked_sub(2)?;
        Some(self.times.back()?.since(self.times[before]))
    }

    /// When the latest reading was.
    pub(super) fn latest(&self) -> Option<Ns> {
        self.times.back().copied()
    }

    /// Whether every reading of the window saw everything.
    pub(super) fn is_complete(&self) -> bool {
        self.incomplete.is_none_or(|number| self.taken - number > self.times.len() as u64)
    }

    fn note(&mut self, mut counts: HashMap<Site, Point>, blank: Point) {
        if self.times.len() > self.window {
            self.times.pop_front();
            self.sites.values_mut().for_each(|course| {
                // A site that was met later has fewer points than the window.
                if course.points.len() >= self.window {
                    course.points.pop_front();
                }
            });
        }
        for (site, course) in &mut self.sites {
            course.points.push_back(counts.remove(site).unwrap_or(blank));
        }
        let before = self.times.iter().rev().skip(1).rev();
        for (site, point) in counts {
            // Before it was met it had no tasks.
            let points = before.clone().map(|at| Point { at: *at, ..blank }).chain([point]).collect();
            self.sites.insert(site, Course { points });
        }
        self.sites.retain(|_, course| course.points.iter().any(|point| point.live > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::sample;

    /// All of one type.
    fn task(id: u64, state: u64) -> LiveTask {
        sample::task(8, id, state)
    }

    fn read(history: &mut History, at: u64, tasks: &[LiveTask]) {
        history.add(&Reading { at: Ns(at), tasks, complete: true, closures: true });
    }

    fn last(history: &History) -> (u64, u64, u64, u64, u64) {
        let point = history.sites.values().next().and_then(|course| course.points.back().copied());
        point.map_or((0, 0, 0, 0, 0), |p| (p.live, p.settled, p.born, p.ended, p.settled_ended))
    }

    #[test]
    fn who_is_new_who_ended_and_who_was_settled_is_counted() {
        let mut history = History::new(5);
        read(&mut history, 1, &[task(1, 0x80), task(2, 0x80)]);
        assert_eq!(last(&history), (2, 0, 0, 0, 0), "of the first nobody knows when they were born");
        read(&mut history, 2, &[task(1, 0x80), task(3, 0x80)]);
        assert_eq!(last(&history), (2, 1, 1, 1, 0));
        read(&mut history, 3, &[task(3, 0x80)]);
        assert_eq!(last(&history), (1, 1, 0, 1, 1));
    }

    #[test]
    fn the_order_of_a_reading_does_not_matter() {
        let mut history = History::new(5);
        read(&mut history, 1, &[task(2, 0x80), task(1, 0x80)]);
        read(&mut history, 2, &[task(3, 0x80), task(2, 0x80), task(1, 0x80)]);
        assert_eq!(last(&history), (3, 2, 1, 0, 0));
    }

    #[test]
    fn a_task_at_the_address_of_one_that_ended_is_another() {
        let mut history = History::new(5);
        let other = LiveTask { id: TaskId(9), ..task(1, 0x80) };
        read(&mut history, 1, &[task(1, 0x80)]);
        read(&mut history, 2, &[other]);
        assert_eq!(last(&history), (1, 0, 1, 1, 0));
    }

    #[test]
    fn a_state_that_changed_and_came_back_was_seen_to_change() {
        let mut history = History::new(5);
        for state in [0x80, 0x84, 0x80, 0x80] {
            read(&mut history, 1, &[task(1, state)]);
        }
        assert_eq!(history.tasks.first().map(|known| known.still), Some(2));
    }

    #[test]
    fn a_site_met_late_had_no_tasks_before_and_one_without_tasks_is_forgotten() {
        let mut history = History::new(3);
        read(&mut history, 1, &[]);
        read(&mut history, 2, &[task(1, 0x80)]);
        let course = history.sites.values().next().unwrap();
        assert_eq!(course.points.iter().map(|point| point.live).collect::<Vec<_>>(), [0, 1]);
        for at in 3..7 {
            read(&mut history, at, &[]);
        }
        assert!(history.sites.is_empty() && history.tasks.is_empty());
        assert_eq!((history.readings(), history.during()), (3, Ns(2)));
    }

    #[test]
    fn closures_that_were_not_looked_for_are_as_they_were() {
        let mut history = History::new(3);
        let closure = LiveTask { owner: 0, ..task(1, 0x88) };
        read(&mut history, 1, &[closure]);
        history.add(&Reading { at: Ns(2), tasks: &[], complete: true, closures: false });
        assert_eq!(last(&history), (1, 1, 0, 0, 0));
        read(&mut history, 3, &[]);
        assert_eq!(last(&history), (0, 0, 0, 1, 1));
    }

    #[test]
    fn what_could_not_be_read_clouds_the_window_until_it_has_left_it() {
        let mut history = History::new(2);
        history.add(&Reading { at: Ns(1), tasks: &[], complete: false, closures: true });
        assert!(!history.is_complete());
        read(&mut history, 2, &[]);
        assert!(!history.is_complete());
        read(&mut history, 3, &[]);
        assert!(history.is_complete());
    }
}
