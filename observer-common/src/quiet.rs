//! What becomes of polls after which the task goes on, and what is kept of those that are not reported.

/// What is done with a poll that neither ends its task nor begins or ends another: a constant of the programs (`QUIET`), set
/// when they are loaded, or what a map says meanwhile. Where a program cannot tell it is reported all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Quiet {
    /// It is reported as every call.
    #[default]
    Reported = 0,
    /// Nothing.
    Unsaid = 1,
    /// It is added to its task's [`PollSum`].
    Summed = 2,
    /// As user space says at the moment (the map `GOVERNED`): one of those above. Where nobody wants to change it, the verifier
    /// cuts that question out.
    Governed = 3,
}

/// A task, as sums are kept: tokio gives no id twice in a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct TaskKey {
    /// The process, in the initial pid namespace.
    pub tgid: u32,
    /// The point at its poll, which tells the copy of tokio.
    pub point: u32,
    /// Tokio's id, which is of one copy of tokio.
    pub id: u64,
}

/// Buckets of a histogram: see [`PollSum::bucket`].
pub const BUCKETS: usize = 32;

/// Polls of one task that were not reported, since it was first met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PollSum {
    /// How many.
    pub polls: u64,
    /// How long they took together, nanoseconds.
    pub busy_ns: u64,
    /// The longest of them, nanoseconds.
    pub longest_ns: u64,
    /// How many took how long.
    pub histogram: [u32; BUCKETS],
}

impl PollSum {
    /// Adds a poll that took so many nanoseconds.
    #[inline(always)]
    pub fn add(&mut self, ns: u64) {
        self.polls += 1;
        self.busy_ns = self.busy_ns.wrapping_add(ns);
        if ns > self.longest_ns {
            self.longest_ns = ns;
        }
        let count = &mut self.histogram[Self::bucket(ns)];
        *count = count.wrapping_add(1);
    }

    /// What has been added since it was like this: the longest is that of all the time.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut new = *self;
        new.polls = new.polls.saturating_sub(earlier.polls);
        new.busy_ns = new.busy_ns.saturating_sub(earlier.busy_ns);
        for (count, before) in new.histogram.iter_mut().zip(earlier.histogram) {
            *count = count.wrapping_sub(before);
        }
        new
    }

    /// Adds another's polls.
    pub fn join(&mut self, other: &Self) {
        self.polls += other.polls;
        self.busy_ns = self.busy_ns.saturating_add(other.busy_ns);
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        for (count, more) in self.histogram.iter_mut().zip(other.histogram) {
            *count = count.wrapping_add(more);
        }
    }

    /// Where a poll of so many nanoseconds is counted: bucket `n` holds those from `2^n` on and below `2^(n + 1)`, the first
    /// those of no nanosecond as well, the last all that took longer.
    pub const fn bucket(ns: u64) -> usize {
        let bucket = (ns | 1).ilog2() as usize;
        if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_powers_of_two_and_hold_every_time() {
        assert_eq!([0, 1, 2, 3, 4, 1023, 1024].map(PollSum::bucket), [0, 0, 1, 1, 2, 9, 10]);
        assert_eq!([1 << 31, 1 << 32, u64::MAX].map(PollSum::bucket), [31, 31, 31]);
    }

    #[test]
    fn what_is_new_and_what_was_there_make_all() {
        let mut sum = PollSum::default();
        [5, 700, 90_000].into_iter().for_each(|ns| sum.add(ns));
        let earlier = sum;
        [6, 30].into_iter().for_each(|ns| sum.add(ns));
        let new = sum.since(&earlier);
        assert_eq!((new.polls, new.busy_ns, new.longest_ns), (2, 36, 90_000));
        let mut joined = earlier;
        joined.join(&new);
        assert_eq!(joined, sum);
        assert_eq!(sum.histogram.iter().sum::<u32>(), 5);
    }
}
