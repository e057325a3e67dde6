//! CPUs that come online while a stream runs: what is written on them needs rings of its own.
//!
//! Does not know: what a ring is for.

use crate::model::Ns;

/// How often it is looked.
const EVERY: Ns = Ns(1_000_000_000);

/// The CPUs that are known to be online.
#[derive(Debug)]
pub(super) struct Arrivals {
    online: Vec<u32>,
    next: Ns,
}

impl Arrivals {
    /// These have rings.
    pub(super) fn since(online: Vec<u32>) -> Self {
        Self { online, next: Ns(0) }
    }

    /// Whether it is time to look again.
    pub(super) fn is_due(&mut self, now: Ns) -> bool {
        let due = now >= self.next;
        if due {
            self.next = Ns(now.0 + EVERY.0);
        }
        due
    }

    /// Those of these that were not online at the last look. One that went and came back has come: the kernel ends what was open
    /// on a CPU that goes.
    pub(super) fn new_ones(&mut self, online: Vec<u32>) -> Vec<u32> {
        let new = online.iter().copied().filter(|cpu| !self.online.contains(cpu)).collect();
        self.online = online;
        new
    }

    /// This one could not be listened to; the next look names it again.
    pub(super) fn failed(&mut self, cpu: u32) {
        self.online.retain(|known| *known != cpu);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_is_said_once_and_again_after_having_gone() {
        let mut arrivals = Arrivals::since(vec![0]);
        assert_eq!(arrivals.new_ones(vec![0, 1]), [1]);
        assert!(arrivals.new_ones(vec![0, 1]).is_empty());
        assert!(arrivals.new_ones(vec![0]).is_empty());
        assert_eq!(arrivals.new_ones(vec![0, 1, 2]), [1, 2]);
        arrivals.failed(2);
        assert_eq!(arrivals.new_ones(vec![0, 1, 2]), [2]);
    }

    #[test]
    fn it_is_looked_once_a_second() {
        let mut arrivals = Arrivals::since(vec![0]);
        assert!(arrivals.is_due(Ns(5)));
        assert!(!arrivals.is_due(Ns(1_000_000_004)));
        assert!(arrivals.is_due(Ns(1_000_000_005)));
    }
}
