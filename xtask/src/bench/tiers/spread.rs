//! A figure that was taken several times: its median, and how far the rounds lie apart.

use serde_json::{Value, json};

/// Figures of several rounds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spread(Vec<f64>);

impl Spread {
    /// Of these, in whatever order; `None` of none at all, or if one is no number.
    pub(super) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        (!figures.is_empty() && figures.iter().all(|figure| figure.is_finite())).then_some(Self(figures))
    }

    /// In another unit.
    pub(super) fn scaled(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|figure| figure * factor).collect())
    }

    /// As many lie below as above.
    pub(super) fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// Half of the distance between the quartiles: half of the rounds lie about so near to the median.
    pub(super) fn around(&self) -> f64 {
        (self.at(0.75) - self.at(0.25)) / 2.0
    }

    /// How far the median may be from that of very many rounds: twice what it is expected to scatter by, if rounds scatter as they
    /// do here. `None` of fewer than three rounds, which tell nothing of it.
    pub(super) fn doubt(&self) -> Option<f64> {
        // Of a normal distribution: the quartiles are 0.674 deviations from the middle, a median of n scatters by 1.253 / sqrt(n).
        const OF_QUARTILES: f64 = 2.0 * 1.253 / 0.674;
        let rounds = self.0.len();
        (rounds >= 3).then(|| OF_QUARTILES * self.around() / (rounds as f64).sqrt())
    }

    /// The lowest.
    pub(super) fn low(&self) -> f64 {
        self.at(0.0)
    }

    /// The highest.
    pub(super) fn high(&self) -> f64 {
        self.at(1.0)
    }

    /// For a table: the median and half the distance between the quartiles.
    pub(super) fn text(&self, digits: usize) -> String {
        match self.0.len() {
            1 => format!("{:.digits$}", self.median()),
            _ => format!("{:.digits$} ±{:.digits$}", self.median(), self.around()),
        }
    }

    /// For the report.
    pub(super) fn json(&self) -> Value {
        let short = |figure: f64| (figure * 1e4).round() / 1e4;
        json!({
            "median": short(self.median()),
            "around": short(self.around()),
            "low": short(self.low()),
            "high": short(self.high()),
            "rounds": self.0.len(),
        })
    }

    /// Between two figures in proportion.
    fn at(&self, part: f64) -> f64 {
        let place = part * (self.0.len() - 1) as f64;
        let (below, above) = (self.0[place.floor() as usize], self.0[place.ceil() as usize]);
        below + (above - below) * place.fract()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(figures: &[f64]) -> Spread {
        Spread::of(figures.iter().copied()).expect("figures are there")
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(of(&[4.0, 1.0, 3.0, 2.0]).median(), 2.5);
        assert_eq!(of(&[9.0, 1.0, 3.0]).median(), 3.0);
    }

    #[test]
    fn one_round_that_went_wrong_does_not_widen_what_is_said_of_five() {
        let spread = of(&[10.0, 11.0, 12.0, 13.0, 900.0]);
        assert_eq!((spread.median(), spread.around()), (12.0, 1.0));
        assert_eq!((spread.low(), spread.high()), (10.0, 900.0));
        assert_eq!(spread.text(0), "12 ±1");
    }

    #[test]
    fn of_one_round_no_spread_is_said() {
        assert_eq!(of(&[7.0]).text(1), "7.0");
    }

    #[test]
    fn more_rounds_leave_less_doubt_and_two_leave_all() {
        let [few, many] =
            [4, 16].map(|rounds| of(&[1.0, 2.0, 3.0, 4.0].repeat(rounds / 4)).doubt().expect("enough rounds"));
        assert!(many < few * 0.6, "{many} of {few}");
        assert_eq!((of(&[5.0; 3]).doubt(), of(&[5.0, 6.0]).doubt()), (Some(0.0), None));
    }

    #[test]
    fn there_is_no_spread_of_nothing_nor_of_what_is_no_number() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([1.0, f64::NAN]), None);
        assert_eq!(Spread::of([f64::INFINITY]), None);
    }
}
