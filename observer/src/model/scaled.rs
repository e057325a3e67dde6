//! What windows of time tell of all the time, and how far off that may be.

use super::Ns;

/// Windows that an error is told of at least: of fewer the spread is not known.
pub const LEAST_WINDOWS: u64 = 5;

/// The part of a second, or of a day, in which is looked.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Duty(pub f64);

/// Windows in which everything was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Windows {
    /// How many.
    pub count: u64,
    /// How long they were together.
    pub measured: Ns,
    squares: f64,
}

/// What was counted in windows: nanoseconds, or polls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// All of it.
    pub sum: f64,
    squares: f64,
    by_length: f64,
}

/// What is true of all the time, as far as windows tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled {
    /// `sum * all / measured`.
    pub value: f64,
    /// With 95 % confidence it lies between these.
    pub bounds: Result<(f64, f64), Boundless>,
}

/// Why no bounds are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundless {
    /// There were fewer windows than [`LEAST_WINDOWS`].
    FewWindows,
}

impl Boundless {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FewWindows => "fewer than five windows tell no error",
        }
    }
}

impl Windows {
    /// One more, of this length.
    pub fn add(&mut self, length: Ns) {
        self.count += 1;
        self.measured.0 += length.0;
        self.squares += (length.0 as f64).powi(2);
    }

    /// All of it in a time of this length, of which these windows are a part.
    ///
    /// The bounds are those of a ratio of sums, by how far what was counted differs from window to window (Student's
    /// distribution). Never less than what was counted itself. They are too narrow for what happens in few windows only: such a window may not
    /// have been met.
    pub fn scale(&self, counted: &Counted, all: Ns) -> Scaled {
        let measured = self.measured.0 as f64;
        if measured <= 0.0 {
            return Scaled { value: 0.0, bounds: Err(Boundless::FewWindows) };
        }
        let (rate, all) = (counted.sum / measured, (all.0 as f64).max(measured));
        let value = rate * all;
        if self.count < LEAST_WINDOWS {
            return Scaled { value, bounds: Err(Boundless::FewWindows) };
        }
        let n = self.count as f64;
        let off = counted.squares - 2.0 * rate * counted.by_length + rate * rate * self.squares;
        let error = (n / (n - 1.0) * off.max(0.0)).sqrt() / measured * all;
        let far = student(self.count - 1) * error;
        Scaled { value, bounds: Ok(((value - far).max(counted.sum), value + far)) }
    }
}

impl Counted {
    /// So much in one window of this length. Windows in which there was nothing need not be said.
    pub fn add(&mut self, amount: f64, length: Ns) {
        self.sum += amount;
        self.squares += amount * amount;
        self.by_length += amount * length.0 as f64;
    }
}

/// Standard deviations of a two-sided interval of 95 %, where the deviation is told by so many degrees of freedom.
fn student(freedom: u64) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    let n = freedom.max(1);
    match usize::try_from(n - 1).ok().and_then(|at| TABLE.get(at)) {
        Some(known) => *known,
        // The first terms of its expansion about the normal distribution's.
        None => 1.96 + 2.372 / n as f64,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(windows: &[(f64, u64)], all: u64) -> Scaled {
        let (mut lengths, mut counted) = (Windows::default(), Counted::default());
        for (amount, length) in windows {
            lengths.add(Ns(*length));
            counted.add(*amount, Ns(*length));
        }
        lengths.scale(&counted, Ns(all))
    }

    #[test]
    fn what_was_counted_in_a_tenth_of_the_time_is_a_tenth_of_all() {
        let scaled = of(&[(5.0, 10); 10], 1000);
        assert_eq!((scaled.value, scaled.bounds), (500.0, Ok((500.0, 500.0))), "no window differs from another");
    }

    #[test]
    fn the_bounds_are_those_of_a_mean_where_windows_are_alike_in_length() {
        // 1, 2, 3, 4, 5: mean 3, standard error sqrt(2.5 / 5), four degrees of freedom.
        let scaled = of(&[(1.0, 10), (2.0, 10), (3.0, 10), (4.0, 10), (5.0, 10)], 50_000);
        let (low, high) = scaled.bounds.unwrap();
        let far = 2.776 * (2.5f64 / 5.0).sqrt() * 1000.0 * 5.0;
        assert!((scaled.value - 15_000.0).abs() < 1e-6 && (high - scaled.value - far).abs() < 1e-3, "{scaled:?}");
        assert!((scaled.value - low - far).abs() < 1e-3, "{scaled:?}");
    }

    #[test]
    fn a_longer_window_that_holds_as_much_more_is_no_error() {
        let (low, high) = of(&[(1.0, 10), (2.0, 20), (3.0, 30), (1.0, 10), (4.0, 40)], 1100).bounds.unwrap();
        assert!((low - 110.0).abs() < 1e-3 && (high - 110.0).abs() < 1e-3, "{low} {high}");
    }

    #[test]
    fn few_windows_tell_no_error_and_none_tells_nothing() {
        assert_eq!(of(&[(5.0, 10); 4], 1000).bounds, Err(Boundless::FewWindows));
        assert_eq!(of(&[], 1000), Scaled { value: 0.0, bounds: Err(Boundless::FewWindows) });
    }

    #[test]
    fn where_nothing_ran_it_is_zero() {
        let mut lengths = Windows::default();
        (0..6).for_each(|_| lengths.add(Ns(50)));
        let scaled = lengths.scale(&Counted::default(), Ns(1000));
        assert_eq!(scaled, Scaled { value: 0.0, bounds: Ok((0.0, 0.0)) });
    }

    proptest! {
        #[test]
        fn the_estimate_lies_between_its_bounds(windows in proptest::collection::vec((0u32..1 << 30, 1u64..1 << 30), 5..40), more in 0u64..1 << 40) {
            let windows: Vec<(f64, u64)> = windows.into_iter().map(|(amount, length)| (f64::from(amount), length)).collect();
            let all = windows.iter().map(|(_, length)| length).sum::<u64>() + more;
            let scaled = of(&windows, all);
            let (low, high) = scaled.bounds.unwrap();
            prop_assert!(low <= scaled.value * (1.0 + 1e-9) && scaled.value <= high && high.is_finite(), "{scaled:?}");
        }
    }
}
