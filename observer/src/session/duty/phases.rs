//! When to look: in each period once, at a moment that chance chooses.
//!
//! A fixed beat would always meet, or always miss, what a program does in the same beat. Does not know what is done then.

use crate::model::{Duty, Ns};

/// From one window to the next, as a rule.
const PERIOD: Ns = Ns(1_000_000_000);
/// A window is no shorter: putting probes in and taking them out is to be a small part of it.
const SHORTEST: Ns = Ns(10_000_000);

/// The moments at which windows begin.
pub(super) struct Phases {
    pub(super) window: Ns,
    pub(super) period: Ns,
    /// The period that comes next.
    next: Ns,
    random: u64,
}

impl Phases {
    /// From now on, for this part of the time.
    pub(super) fn new(duty: Duty, now: Ns, seed: u64) -> Self {
        let window = Ns((PERIOD.0 as f64 * duty.0) as u64).max(SHORTEST);
        let period = Ns((window.0 as f64 / duty.0) as u64).max(window);
        Self { window, period, next: now, random: seed }
    }

    /// When the next window begins: not before this moment.
    pub(super) fn next(&mut self, now: Ns) -> Ns {
        loop {
            let free = self.period.since(self.window).0;
            let begin = Ns(self.next.0 + self.draw() % (free + 1));
            self.next = Ns(self.next.0 + self.period.0);
            if begin >= now {
                return begin;
            }
            if self.next < now {
                self.next = now;
            }
        }
    }

    /// `splitmix64`: as even as is needed here, and a few lines.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_window_a_period_as_long_as_is_wanted_and_nowhere_more_often() {
        let mut phases = Phases::new(Duty(0.05), Ns(0), 7);
        assert_eq!((phases.window, phases.period), (Ns(50_000_000), PERIOD));
        let mut tenths = [0u32; 10];
        for n in 0..10_000 {
            let begin = phases.next(Ns(0));
            let inside = begin.0 - n * PERIOD.0;
            assert!(inside + phases.window.0 <= PERIOD.0, "{n}: {inside}");
            tenths[(inside * 10 / PERIOD.since(phases.window).0.saturating_add(1)) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }

    #[test]
    fn a_small_part_of_the_time_is_not_looked_at_in_tiny_windows() {
        let phases = Phases::new(Duty(0.001), Ns(0), 7);
        assert_eq!((phases.window, phases.period), (SHORTEST, Ns(10_000_000_000)));
    }

    #[test]
    fn who_was_kept_up_does_not_make_good_for_it() {
        let mut phases = Phases::new(Duty(0.5), Ns(0), 7);
        let late = Ns(77 * PERIOD.0 + 5);
        let begin = phases.next(late);
        assert!(late <= begin && begin.0 < late.0 + 3 * PERIOD.0, "{begin:?}");
        assert!(phases.next(begin).0 >= begin.0);
    }
}
