//! Whether a row of counts grows, and how steadily.
//!
//! Does not know: what is counted.

use crate::model::Ns;

/// Fewer births than this prove nothing: a handful of connections comes by itself.
pub(super) const LEAST_BORN: u64 = 8;
/// Of what is born, one in so many may end without the rest being a leak's: 5 %.
const ENDING: u64 = 20;
/// The last step must hold this part of the mean one, or the growth has died down.
const FADING: u64 = 4;

/// Whether every step goes up and the last is not much smaller than the others.
pub(super) fn goes_on(counts: &[u64]) -> bool {
    let steps: Option<Vec<u64>> =
        counts.windows(2).map(|pair| pair[1].checked_sub(pair[0]).filter(|step| *step > 0)).collect();
    let Some(steps) = steps else { return false };
    let total: u64 = steps.iter().sum();
    steps.last().is_some_and(|last| last * FADING * steps.len() as u64 >= total)
}

/// Whether so few ended that the others stay.
pub(super) fn stays(born: u64, ended: u64) -> bool {
    ended * ENDING <= born
}

/// The line through the points by least squares: slope a second, and r squared. `None` for fewer than two moments.
pub(super) fn line(points: &[(Ns, u64)]) -> Option<(f64, f64)> {
    let first = points.first()?.0;
    let xy = || points.iter().map(|(at, count)| (at.since(first).0 as f64 / 1e9, *count as f64));
    let n = points.len() as f64;
    let (mean_x, mean_y) = (xy().map(|(x, _)| x).sum::<f64>() / n, xy().map(|(_, y)| y).sum::<f64>() / n);
    let sum = |of: &dyn Fn(f64, f64) -> f64| xy().map(|(x, y)| of(x - mean_x, y - mean_y)).sum::<f64>();
    let (xx, yy, cross) = (sum(&|x, _| x * x), sum(&|_, y| y * y), sum(&|x, y| x * y));
    if xx <= 0.0 {
        return None;
    }
    // A level row lies on its line.
    let fit = if yy <= 0.0 { 1.0 } else { cross * cross / (xx * yy) };
    Some((cross / xx, fit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn growth_must_hold_at_every_step_and_to_the_end() {
        assert!(goes_on(&[1, 2, 4]));
        assert!(goes_on(&[0, 5, 11, 14]));
        assert!(!goes_on(&[1, 2, 2]), "stands still");
        assert!(!goes_on(&[1, 3, 2]), "falls");
        assert!(!goes_on(&[0, 90, 99, 100]), "has died down");
        assert!(!goes_on(&[7]) && !goes_on(&[]), "is no row");
    }

    #[test]
    fn one_in_twenty_may_end() {
        assert!(stays(100, 5) && !stays(100, 6) && stays(19, 0) && !stays(19, 1));
    }

    #[test]
    fn the_line_through_points_on_a_line_is_that_line() {
        let points: Vec<_> = (0..5).map(|n| (Ns(7_000_000_000 + n * 2_000_000_000), 10 + 6 * n)).collect();
        let (slope, fit) = line(&points).unwrap();
        assert!((slope - 3.0).abs() < 1e-9 && (fit - 1.0).abs() < 1e-9, "{slope} {fit}");
        assert_eq!(line(&points[..1]), None);
        assert_eq!(line(&[(Ns(1), 4), (Ns(2_000_000_001), 4)]), Some((0.0, 1.0)));
    }

    proptest! {
        #[test]
        fn any_row_has_a_finite_line_with_a_fit_between_0_and_1(
            counts in proptest::collection::vec(0..1u64 << 40, 2..40),
            step in 1..1u64 << 40,
        ) {
            let points: Vec<_> = (0..).map(|n| Ns(n * step)).zip(counts).collect();
            let (slope, fit) = line(&points).unwrap();
            prop_assert!(slope.is_finite() && (-1e-6..=1.0 + 1e-6).contains(&fit));
        }
    }
}
