//! The place in each thread's own storage where a runtime keeps the id of the task that the thread is inside.
//!
//! Does not know: where that is. It is learned each time: at the right place every thread has nothing, or the id of a
//! running task that it may be inside; elsewhere small numbers (thread ids, counters) soon contradict what is known.

use std::collections::HashMap;

use super::stacks::Stack;
use crate::model::{Tid, word_at};
use crate::target::{Memory, MemoryError};

/// Words of one thread's storage, the one next to the control block first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The thread.
    pub tid: Tid,
    /// Its words.
    pub words: Vec<u64>,
}

/// Reads the storage of every thread whose storage was found.
pub fn read(stacks: &[Stack], memory: &Memory<'_>) -> Result<Vec<Storage>, MemoryError> {
    let mut storages = Vec::new();
    for stack in stacks {
        let Some(range) = stack.local_storage else { continue };
        let mut bytes = vec![0; range.len() as usize];
        if memory.read(range.start, &mut bytes)? == bytes.len() {
            let words = bytes.chunks_exact(8).rev().filter_map(|word| word_at(word, 0)).collect();
            storages.push(Storage { tid: stack.tid, words });
        }
    }
    Ok(storages)
}

/// For each id the thread that is inside that task, as the best place tells it; empty where no place does.
///
/// `is_running` tells which ids are those of running tasks, `may_run` whether a thread may be inside such a task.
/// Where several places are equally good, only what all of them say is given.
pub fn threads_by_id(
    storages: &[Storage],
    is_running: impl Fn(u64) -> bool,
    may_run: impl Fn(Tid, u64) -> bool,
) -> HashMap<u64, Tid> {
    let places = storages.iter().map(|storage| storage.words.len()).max().unwrap_or(0);
    let mut best: Option<(isize, HashMap<u64, Tid>)> = None;
    for place in 0..places {
        let mut told: HashMap<u64, Tid> = HashMap::new();
        let mut score = 0;
        let words = storages.iter().filter_map(|storage| Some((storage.tid, *storage.words.get(place)?)));
        for (tid, id) in words.filter(|(_, id)| *id != 0) {
            let agrees = is_running(id) && may_run(tid, id) && !told.contains_key(&id);
            score += if agrees { 1 } else { -1 };
            if agrees {
                told.insert(id, tid);
            }
        }
        match &mut best {
            _ if score <= 0 => {}
            Some((best, common)) if *best == score => common.retain(|id, tid| told.get(id) == Some(tid)),
            Some((best, _)) if *best > score => {}
            _ => best = Some((score, told)),
        }
    }
    best.map(|(_, told)| told).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storages(words: &[(u32, &[u64])]) -> Vec<Storage> {
        words.iter().map(|(tid, words)| Storage { tid: Tid(*tid), words: words.to_vec() }).collect()
    }

    fn told(storages: &[Storage], running: &[u64], may_run: impl Fn(Tid, u64) -> bool) -> Vec<(u64, u32)> {
        let told = threads_by_id(storages, |id| running.contains(&id), may_run);
        let mut told: Vec<_> = told.into_iter().map(|(id, tid)| (id, tid.0)).collect();
        told.sort_unstable();
        told
    }

    #[test]
    fn the_place_that_agrees_with_all_threads_tells() {
        // Thread ids, the task ids, a pointer.
        let storages = storages(&[(100, &[1, 0, 99]), (101, &[2, 2, 98]), (102, &[3, 1, 97])]);
        assert_eq!(told(&storages, &[1, 2], |_, _| true), [(1, 102), (2, 101)]);
    }

    #[test]
    fn what_the_stacks_exclude_counts_against_a_place() {
        let storages = storages(&[(100, &[1, 2]), (101, &[2, 1])]);
        assert_eq!(told(&storages, &[1, 2], |tid, id| (tid.0, id) != (100, 1)), [(1, 101), (2, 100)]);
    }

    #[test]
    fn places_that_contradict_each_other_tell_only_what_they_agree_on() {
        let storages = storages(&[(100, &[1, 2, 0]), (101, &[2, 1, 0]), (102, &[3, 3, 0])]);
        assert_eq!(told(&storages, &[1, 2, 3], |_, _| true), [(3, 102)]);
    }

    #[test]
    fn nothing_is_told_where_no_place_speaks_for_itself() {
        assert_eq!(told(&[], &[1], |_, _| true), []);
        let storages = storages(&[(100, &[7, 0]), (101, &[1, 0])]);
        assert_eq!(told(&storages, &[1], |_, _| true), []);
    }
}
