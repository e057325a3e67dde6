//! The rules of the verdicts, as the module's table has them.
//!
//! Does not know: where readings come from.

use std::collections::HashMap;

use crate::model::{Activity, LiveTask, Ns, ProcAddr, Site, TaskId, Waiting};

use super::finding::{Evidence, Finding, Grows, Judgement, Undecided, Why};
use super::growth::{self, LEAST_BORN};
use super::history::{Course, History, Known, Point};
use super::rings::{Waiter, in_rings};

/// Readings from which growth of all, and of a part, is judged.
const LEAST_READINGS: usize = 3;
const LEAST_READINGS_OF_A_PART: usize = 4;
/// So many idle tasks of one site are worth a hint.
const MANY: u64 = 100;

/// What can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A process younger than this at the first reading may be starting up: it is not judged for growth.
    pub warm_up: Ns,
}

/// What a site's tasks are like at the latest reading.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    tasks: u64,
    with_handle: u64,
    lowest: u64,
    highest: u64,
    seen_since: Ns,
}

impl Group {
    fn add(&mut self, known: &Known) {
        let id = known.id;
        let first = self.tasks == 0;
        self.lowest = if first { id.0 } else { self.lowest.min(id.0) };
        self.highest = self.highest.max(id.0);
        self.seen_since = if first { known.first_seen } else { self.seen_since.min(known.first_seen) };
        self.tasks += 1;
        self.with_handle += u64::from(known.state.has_join_interest());
    }
}

/// The groups that the rules look at.
#[derive(Default)]
struct Groups {
    all: HashMap<Site, Group>,
    stuck: HashMap<Site, Group>,
    ring: HashMap<Site, Group>,
    still: HashMap<Site, Group>,
    /// The highest id there is.
    newest: u64,
}

impl History {
    /// Judges what was read so far. `age` is the process's at the first reading of the window, where known; `waits` tells
    /// what the task of a header waits for, as far as that was looked for.
    pub fn judge<'w>(&self, rules: &Rules, age: Option<Ns>, waits: impl Fn(ProcAddr) -> &'w [Waiting]) -> Judgement {
        let groups = self.groups(waits);
        let mut judgement = Judgement::default();
        for (site, course) in &self.sites {
            let Some(all) = groups.all.get(site) else { continue };
            let finding = |group: &Group, evidence| Finding {
                site: *site,
                live: all.tasks,
                tasks: group.tasks,
                ids: (TaskId(group.lowest), TaskId(group.highest)),
                seen_for: self.latest().unwrap_or_default().since(group.seen_since),
                evidence,
            };
            let before = judgement.findings.len();
            if let (Some(stuck), Some(apart)) = (groups.stuck.get(site), self.apart()) {
                judgement.findings.push(finding(stuck, Evidence::Stuck { with_handle: stuck.with_handle, apart }));
            }
            match self.growth(course, rules, age) {
                Growth::Leak(evidence) => judgement.findings.push(finding(all, evidence)),
                Growth::Unjudged(why) => judgement.undecided.push(Undecided { site: *site, live: all.tasks, why }),
                Growth::None => {}
            }
            if let Some(ring) = groups.ring.get(site) {
                let readings = self.readings() as u32;
                judgement.findings.push(finding(ring, Evidence::Ring { readings }));
            }
            if judgement.findings.len() == before {
                if let Some(evidence) = self.suspicion(groups.still.get(site), groups.newest) {
                    judgement.findings.push(finding(&groups.still[site], evidence));
                } else {
                    judgement.healthy_sites += 1;
                    judgement.healthy_tasks += all.tasks;
                }
            }
        }
        let rank = |finding: &Finding| (finding.evidence.verdict(), std::cmp::Reverse(finding.tasks), finding.site);
        judgement.findings.sort_by_key(rank);
        judgement.undecided.sort_by_key(|undecided| (std::cmp::Reverse(undecided.live), undecided.site));
        judgement
    }

    /// Whether the task, one of the latest reading, is proved to be stuck.
    pub fn is_stuck(&self, task: &LiveTask) -> bool {
        self.known(task).is_some_and(Known::is_stuck)
    }

    /// Whether the task was idle and the same at every reading, and there were enough of them.
    fn is_still(&self, known: &Known) -> bool {
        let all = self.readings();
        let idle = known.is_future() && known.state.activity() == Activity::Idle;
        idle && all >= LEAST_READINGS && known.still as usize >= all
    }

    fn groups<'w>(&self, waits: impl Fn(ProcAddr) -> &'w [Waiting]) -> Groups {
        let mut groups = Groups::default();
        let waiters = self.tasks.iter().filter(|known| self.is_still(known)).map(|known| Waiter {
            task: known.id,
            stuck: known.is_stuck(),
            waits: waits(known.header),
        });
        let rings = in_rings(&waiters.collect::<Vec<_>>());
        for known in &self.tasks {
            let id = known.id;
            groups.newest = groups.newest.max(id.0);
            groups.all.entry(known.site).or_default().add(known);
            if known.is_stuck() {
                groups.stuck.entry(known.site).or_default().add(known);
            }
            if self.is_still(known) {
                groups.still.entry(known.site).or_default().add(known);
                if rings.contains(&id) {
                    groups.ring.entry(known.site).or_default().add(known);
                }
            }
        }
        groups
    }

    fn growth(&self, course: &Course, rules: &Rules, age: Option<Ns>) -> Growth {
        let points: Vec<Point> = course.points.iter().copied().collect();
        // Of the window's first point nothing is known to be born or to have ended.
        let steps = points.get(1..).unwrap_or_default();
        let sum = |of: fn(&Point) -> u64| steps.iter().map(of).sum::<u64>();
        let (born, ended) = (sum(|point| point.born), sum(|point| point.ended));
        let live: Vec<(Ns, u64)> = points.iter().map(|point| (point.at, point.live)).collect();
        let settled: Vec<(Ns, u64)> = steps.iter().map(|point| (point.at, point.settled)).collect();
        let goes_on = |row: &[(Ns, u64)]| growth::goes_on(&row.iter().map(|(_, count)| *count).collect::<Vec<_>>());
        // The step that makes a task settled is its second reading: what ended before was never settled.
        let settled_ended: u64 = steps.iter().skip(1).map(|point| point.settled_ended).sum();
        let gained = settled.last().zip(settled.first()).map_or(0, |(last, first)| last.1.saturating_sub(first.1));

        let (grows, row, stayed, needed) = if goes_on(&live) && growth::stays(born, ended) {
            (Grows::All, live, born, LEAST_READINGS)
        } else if settled.len() > 1 && goes_on(&settled) && growth::stays(gained, settled_ended) {
            (Grows::Part, settled, gained, LEAST_READINGS_OF_A_PART)
        } else {
            return Growth::None;
        };
        if !self.is_complete() {
            return Growth::Unjudged(Why::Incomplete);
        }
        if points.len() < needed {
            return Growth::Unjudged(Why::Readings { had: points.len() as u32, needed: needed as u32 });
        }
        if stayed < LEAST_BORN {
            return Growth::Unjudged(Why::Births { had: stayed, needed: LEAST_BORN });
        }
        if let Some(age) = age.filter(|age| *age < rules.warm_up) {
            return Growth::Unjudged(Why::Young { age, warm_up: rules.warm_up });
        }
        let Some((slope, fit)) = growth::line(&row) else { return Growth::None };
        let readings = points.len() as u32;
        Growth::Leak(Evidence::Leaking { grows, slope, fit, born, ended, readings, during: self.during() })
    }

    fn suspicion(&self, still: Option<&Group>, newest: u64) -> Option<Evidence> {
        let still = still.filter(|still| still.tasks >= MANY)?;
        let newer = newest - still.highest;
        (newer >= still.tasks).then_some(Evidence::Suspect { newer, readings: self.readings() as u32 })
    }
}

impl Known {
    /// Unwakeable, and nothing about it changed from the reading before to the latest.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_future() && self.still >= 2 && self.state.is_unwakeable()
    }
}

/// What a site's course says of its growth.
enum Growth {
    None,
    Leak(Evidence),
    Unjudged(Why),
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
