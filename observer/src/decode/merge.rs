//! Records of many CPUs in one order: by time, within a bounded window.
//!
//! Each CPU's ring is nearly in order: a thread can be descheduled between taking the time and writing the record.
//! Records are held back until they are older than the window, then given out by time. One that comes later still is
//! given out at once and counted as late, never dropped.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::model::Ns;

use super::record::timestamp;

/// Room for so many records is kept where there are none; what a time of plenty took besides is given back.
const ROOM: usize = 16 << 10;

/// Holds back the records of the last window.
#[derive(Debug, Default)]
pub struct Merger {
    cpus: Vec<VecDeque<(Ns, Bytes)>>,
    released: Ns,
    late: u64,
}

impl Merger {
    /// Takes one record of one CPU's ring. A record too short to hold a time sorts before everything: the decoder is to
    /// say that it is malformed.
    pub fn push(&mut self, cpu: usize, bytes: Bytes) {
        let at = timestamp(&bytes).unwrap_or_default();
        if self.cpus.len() <= cpu {
            self.cpus.resize_with(cpu + 1, VecDeque::new);
        }
        let queue = &mut self.cpus[cpu];
        let place = queue.iter().rposition(|(earlier, _)| *earlier <= at).map_or(0, |n| n + 1);
        queue.insert(place, (at, bytes));
    }

    /// Takes records of no one ring, in whatever order: each goes where its time is, and quickly, as they are put in order first.
    pub fn push_all(&mut self, cpu: usize, mut records: Vec<Bytes>) {
        records.sort_by_cached_key(|bytes| timestamp(bytes).unwrap_or_default());
        records.into_iter().for_each(|bytes| self.push(cpu, bytes));
    }

    /// Gives out the next record by time, if it is not younger than the horizon.
    pub fn pop(&mut self, horizon: Ns) -> Option<(Ns, Bytes)> {
        let first = |queue: &VecDeque<(Ns, Bytes)>| queue.front().map(|(at, _)| *at);
        let (cpu, at) =
            self.cpus.iter().enumerate().filter_map(|(n, q)| Some((n, first(q)?))).min_by_key(|(_, at)| *at)?;
        if at > horizon {
            return None;
        }
        if at < self.released {
            self.late += 1;
        }
        self.released = self.released.max(at);
        let queue = &mut self.cpus[cpu];
        let next = queue.pop_front();
        if queue.is_empty() {
            queue.shrink_to(ROOM);
        }
        next
    }

    /// How many records are held back.
    pub fn held(&self) -> usize {
        self.cpus.iter().map(VecDeque::len).sum()
    }

    /// How many records came after a younger one was already given out.
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at: u64) -> Bytes {
        let mut bytes = at.to_ne_bytes().to_vec();
        bytes.resize(48, 0);
        Bytes::from(bytes)
    }

    fn times(merger: &mut Merger, horizon: u64) -> Vec<u64> {
        std::iter::from_fn(|| merger.pop(Ns(horizon))).map(|(at, _)| at.0).collect()
    }

    #[test]
    fn records_of_two_cpus_come_out_by_time() {
        let mut merger = Merger::default();
        for (cpu, at) in [(0, 1), (0, 4), (1, 2), (1, 3), (0, 6), (1, 5)] {
            merger.push(cpu, record(at));
        }
        assert_eq!(times(&mut merger, 100), [1, 2, 3, 4, 5, 6]);
        assert_eq!(merger.late(), 0);
    }

    #[test]
    fn what_is_younger_than_the_horizon_waits() {
        let mut merger = Merger::default();
        merger.push(0, record(10));
        merger.push(0, record(20));
        assert_eq!(times(&mut merger, 15), [10]);
        assert_eq!(times(&mut merger, 20), [20]);
    }

    #[test]
    fn one_cpu_out_of_order_is_put_in_order() {
        let mut merger = Merger::default();
        for at in [5, 3, 4, 9, 1] {
            merger.push(0, record(at));
        }
        assert_eq!(times(&mut merger, 100), [1, 3, 4, 5, 9]);
    }

    #[test]
    fn records_of_many_threads_go_where_their_times_are() {
        let mut merger = Merger::default();
        [2, 8].into_iter().for_each(|at| merger.push(0, record(at)));
        merger.push_all(0, [9, 1, 5, 3].map(record).to_vec());
        assert_eq!(times(&mut merger, 100), [1, 2, 3, 5, 8, 9]);
    }

    #[test]
    fn a_record_later_than_the_window_is_counted_and_kept() {
        let mut merger = Merger::default();
        merger.push(0, record(50));
        assert_eq!(times(&mut merger, 60), [50]);
        merger.push(1, record(40));
        assert_eq!(times(&mut merger, 60), [40]);
        assert_eq!(merger.late(), 1);
    }
}
