//! What the tasks of a site wait for, counted by kind.
//!
//! Does not know: how it is found out.

use std::collections::BTreeMap;

use crate::model::Waiting;

/// Tasks that wait for the same kind of thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitCount {
    /// How many. A task that waits for several things is counted with each.
    pub tasks: u64,
    /// One of them: what it waits for.
    pub example: Waiting,
}

/// Counts by the kind's word, most first. Takes what each task waits for.
pub fn count_waits<'w>(waits: impl IntoIterator<Item = &'w [Waiting]>) -> Vec<WaitCount> {
    let mut counts: BTreeMap<&str, WaitCount> = BTreeMap::new();
    for of_task in waits {
        for (index, waiting) in of_task.iter().enumerate() {
            // Two wakers in two channels are one task that waits for channels.
            if of_task[..index].iter().any(|earlier| earlier.as_str() == waiting.as_str()) {
                continue;
            }
            let count =
                counts.entry(waiting.as_str()).or_insert_with(|| WaitCount { tasks: 0, example: waiting.clone() });
            count.tasks += 1;
        }
    }
    let mut counts: Vec<WaitCount> = counts.into_values().collect();
    // Stable: kinds with as many tasks stay in the order of their words.
    counts.sort_by_key(|count| std::cmp::Reverse(count.tasks));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TaskId;

    #[test]
    fn a_task_counts_once_with_each_kind_that_it_waits_for() {
        let join = |id| Waiting::Join { task: TaskId(id) };
        let (one, two) = ([join(1), join(2), Waiting::OwnFuture], [join(3)]);
        let counts = count_waits([&one[..], &two[..], &[]]);
        let own = WaitCount { tasks: 1, example: Waiting::OwnFuture };
        assert_eq!(counts, [WaitCount { tasks: 2, example: join(1) }, own]);
    }
}
