//! Live tasks counted by site and by what they are doing.
//!
//! Does not know: names, other moments.

use std::collections::HashMap;

use crate::model::{Activity, LiveTask, Site};

/// How many tasks of a site there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteCount {
    /// The site.
    pub site: Site,
    /// `live = idle + scheduled + running`.
    pub live: u64,
    /// Wait to be woken.
    pub idle: u64,
    /// Wait to be polled.
    pub scheduled: u64,
    /// Are being polled.
    pub running: u64,
    /// Are over and kept by a handle; not live.
    pub complete: u64,
    /// Of the idle ones, those that are proved to be stuck.
    pub stuck: u64,
    /// Of the live ones, those with a join handle.
    pub with_handle: u64,
}

impl SiteCount {
    fn new(site: Site) -> Self {
        Self { site, live: 0, idle: 0, scheduled: 0, running: 0, complete: 0, stuck: 0, with_handle: 0 }
    }

    fn add(&mut self, task: &LiveTask, stuck: bool) {
        match task.state.activity() {
            Activity::Idle => self.idle += 1,
            Activity::Scheduled => self.scheduled += 1,
            Activity::Running => self.running += 1,
            Activity::Complete => {
                self.complete += 1;
                return;
            }
        }
        self.live += 1;
        self.with_handle += u64::from(task.state.has_join_interest());
        self.stuck += u64::from(stuck);
    }
}

/// Counts, most live ones first. `is_stuck` is what a history of them proves.
pub fn count_by_site(tasks: &[LiveTask], is_stuck: impl Fn(&LiveTask) -> bool) -> Vec<SiteCount> {
    let mut counts: HashMap<Site, SiteCount> = HashMap::new();
    for task in tasks {
        let site = Site::of(task);
        counts.entry(site).or_insert_with(|| SiteCount::new(site)).add(task, is_stuck(task));
    }
    let mut counts: Vec<SiteCount> = counts.into_values().collect();
    counts.sort_unstable_by_key(|count| (std::cmp::Reverse((count.live, count.complete)), count.site));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProcAddr, TaskId};
    use crate::verdict::sample::task;

    #[test]
    fn tasks_are_counted_by_site_and_activity_and_what_is_complete_is_not_live() {
        let tasks = [task(8, 1, 0x40), task(8, 2, 0xcc), task(8, 3, 0x89), task(8, 4, 0x4a), task(16, 5, 0x80)];
        let counts = count_by_site(&tasks, |task| task.id == TaskId(1));
        let first = SiteCount {
            live: 3,
            idle: 1,
            scheduled: 1,
            running: 1,
            complete: 1,
            stuck: 1,
            with_handle: 2,
            ..SiteCount::new(Site { vtable: ProcAddr(8), spawned_at: None })
        };
        assert_eq!((counts.len(), counts[0], counts[1].live), (2, first, 1));
    }
}
