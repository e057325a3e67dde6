//! How much time so many samples stand for, and how far off that may be.

use super::Ns;

/// Standard deviations of a two-sided interval of 95 %.
const Z: f64 = 1.96;

/// Time on a CPU, as samples tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// `samples * period`.
    pub busy: Ns,
    /// With 95 % confidence it is at least this.
    pub low: Ns,
    /// With 95 % confidence it is at most this.
    pub high: Ns,
}

impl Estimate {
    /// Of so many samples, each for so much time on a CPU.
    ///
    /// The bounds are those of a Poisson count (Byar's approximation of the exact ones): as if each sample came by chance.
    /// Samples come at a steady pace, so that what runs in long pieces is counted better than that; what runs in pieces
    /// much shorter than a period is counted as well as chance does.
    pub fn of(samples: u64, period: Ns) -> Self {
        let bound =
            |n: f64, z: f64| if n > 0.0 { n * (1.0 - 1.0 / (9.0 * n) + z / (3.0 * n.sqrt())).powi(3) } else { 0.0 };
        let (n, each) = (samples as f64, period.0 as f64);
        let time = |count: f64| Ns((count.max(0.0) * each) as u64);
        Self { busy: Ns(samples.saturating_mul(period.0)), low: time(bound(n, -Z)), high: time(bound(n + 1.0, Z)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bounds_are_those_of_a_poisson_count() {
        // The exact ones, from a table, to within a twentieth of a sample.
        for (n, low, high) in [(0, 0.0, 3.69), (5, 1.62, 11.67), (10, 4.80, 18.39), (100, 81.36, 121.63)] {
            let of = Estimate::of(n, Ns(1_000_000));
            let near = |got: Ns, wanted: f64| (got.0 as f64 / 1e6 - wanted).abs() < 0.05;
            assert!(near(of.low, low) && near(of.high, high), "{n}: {of:?}");
        }
    }

    proptest! {
        #[test]
        fn the_estimate_lies_between_its_bounds(samples in 0u64..1 << 40, period in 1u64..20_000_000) {
            let of = Estimate::of(samples, Ns(period));
            prop_assert!(of.low <= of.busy && of.busy <= of.high, "{of:?}");
        }
    }
}
