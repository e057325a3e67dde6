//! What the goals speak of, computed from a run: each figure with how far it may be from the truth.
//!
//! Does not know what was promised.

use super::load::Load;
use super::results::Results;
use super::row::{AGAIN, BARE, FLOOR};
use super::spread::Spread;

/// A figure of a run.
#[derive(Clone, Copy)]
pub(super) enum Measure {
    /// (row - bare) / (another row - bare), of CPU time for one thing.
    AddedOf(&'static str, &'static str, Load),
    /// (row - bare) / E.
    AddedInE(&'static str, Load),
    /// row / bare, of CPU time for one thing.
    OfBare(&'static str, Load),
    /// What the row says that it adds, in proportion to what was measured.
    Estimate(&'static str, Load),
    /// The target's memory with its idle tasks under this row, in proportion to bare.
    TargetMemory(&'static str),
    /// The observer's memory before there is anything to observe, in MiB.
    Base(&'static str),
    /// The observer's memory for each live task, in bytes.
    BytesPerTask(&'static str),
    /// Of a million live tasks the part that the observer knows to live.
    OfAMillion,
}

/// What a run gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figure {
    /// The median of the rounds.
    pub(super) got: f64,
    /// How far the truth may lie from it on either side; `None` where the run does not tell: there were too few rounds, or what it
    /// is told in proportion to is no more than the noise.
    pub(super) doubt: Option<f64>,
}

/// Entry and return of an empty probe in E.
const FLOOR_IN_E: f64 = 1.5;

impl Measure {
    /// From this run; `None` where a row of it was not measured.
    pub(super) fn of(self, results: &Results) -> Option<Figure> {
        match self {
            Self::AddedOf(row, of, load) => {
                let (added, to) = (results.added(row, load)?, results.added(of, load)?);
                in_proportion(&added, &to, noise(results, load), noise(results, load))
            }
            Self::AddedInE(row, load) => {
                let e = results.added(FLOOR, Load::Polls)?.scaled(1.0 / FLOOR_IN_E);
                let noise_of_e = noise(results, Load::Polls).map(|noise| noise / FLOOR_IN_E);
                in_proportion(&results.added(row, load)?, &e, noise(results, load), noise_of_e)
            }
            Self::OfBare(row, load) => {
                let ratio = results.ratio(row, BARE, load)?;
                Some(Figure { got: ratio.median(), doubt: ratio.doubt() })
            }
            Self::Estimate(row, load) => {
                let (estimate, added) = (results.estimate(row, load)?, results.added(row, load)?.median());
                let got = estimate.median();
                let doubt = estimate.doubt().zip(noise(results, load));
                // Where nothing is added that can be told from nothing, no estimate of it is right or wrong.
                let told = doubt.filter(|(_, noise)| added > *noise);
                Some(Figure { got, doubt: told.map(|(doubt, noise)| doubt + got.abs() * noise / added) })
            }
            Self::TargetMemory(row) => {
                let (target, bare) = (results.row(row)?.target_mib()?, results.row(BARE)?.target_mib()?);
                Some(Figure::of_memory(&target.scaled(1.0 / bare.median())))
            }
            Self::Base(row) => {
                let base = results.row(row)?.watched_at_all(|watched| Some(watched.base.0 / 1024.0))?;
                Some(Figure::of_memory(&base))
            }
            Self::BytesPerTask(row) => Some(Figure::of_memory(&results.row(row)?.bytes_per_task()?)),
            Self::OfAMillion => {
                let million = results.million?;
                Some(Figure { got: million.live as f64 / million.tasks as f64, doubt: Some(0.0) })
            }
        }
    }
}

impl Figure {
    /// Memory hardly scatters: all rounds are shown to be within this.
    fn of_memory(rounds: &Spread) -> Self {
        Self { got: rounds.median(), doubt: Some((rounds.high() - rounds.low()) / 2.0) }
    }
}

/// What nobody who looks seems to add, in nanoseconds: how far bare is from bare again, and how far that may be from the truth.
/// `None` where that is not known.
pub(super) fn noise(results: &Results, load: Load) -> Option<f64> {
    let again = results.added(AGAIN, load)?;
    Some(again.median().abs() + again.doubt()?)
}

/// One figure in proportion to another, each of them the noise of its load apart. `None` where the other is nothing.
fn in_proportion(one: &Spread, to: &Spread, noise: Option<f64>, noise_of_to: Option<f64>) -> Option<Figure> {
    let (median, base) = (one.median(), to.median());
    if base <= 0.0 {
        return None;
    }
    let doubt = || {
        let (of_one, of_base) = (one.doubt()?.max(noise?), to.doubt()?.max(noise_of_to?));
        // What may be nothing is no measure of anything.
        (of_base < base).then(|| (of_one.powi(2) + (of_base * median / base).powi(2)).sqrt() / base)
    };
    Some(Figure { got: median / base, doubt: doubt() })
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::of;
    use super::super::row::FULL;
    use super::*;

    const ADDED: Measure = Measure::AddedOf(FULL, FLOOR, Load::Hello);

    #[test]
    fn the_noise_of_bare_is_doubt_of_what_is_added() {
        let rows: [(_, &[f64]); 4] =
            [(BARE, &[100.0; 3]), (AGAIN, &[110.0; 3]), (FLOOR, &[200.0; 3]), (FULL, &[220.0; 3])];
        let figure = ADDED.of(&of(Load::Hello, &rows)).expect("all were measured");
        // 10 of 120 and of 100.
        let expected = (0.1_f64.powi(2) + 0.12_f64.powi(2)).sqrt();
        assert!(figure.got == 1.2 && figure.doubt.is_some_and(|doubt| (doubt - expected).abs() < 1e-9), "{figure:?}");
    }

    #[test]
    fn what_is_told_in_proportion_to_noise_is_not_told() {
        let rows: [(_, &[f64]); 4] =
            [(BARE, &[100.0; 3]), (AGAIN, &[110.0; 3]), (FLOOR, &[108.0; 3]), (FULL, &[112.0; 3])];
        let figure = ADDED.of(&of(Load::Hello, &rows)).expect("all were measured");
        assert_eq!(figure, Figure { got: 1.5, doubt: None });
    }

    #[test]
    fn two_rounds_tell_nothing() {
        let rows: [(_, &[f64]); 4] =
            [(BARE, &[100.0; 2]), (AGAIN, &[100.0; 2]), (FLOOR, &[200.0; 2]), (FULL, &[220.0; 2])];
        assert_eq!(ADDED.of(&of(Load::Hello, &rows)).expect("all were measured").doubt, None);
    }
}
