//! All samples of a run, by row, load and round, and the figures that are computed from several rows. What two rows are compared
//! by is taken round by round, so that a machine that slows down meanwhile slows both.

use std::collections::BTreeMap;

use super::load::Load;
use super::row::{BARE, FLOOR};
use super::sample::{Sample, Watched};
use super::spread::Spread;

/// What a row gave.
#[derive(Debug)]
pub(super) struct RowResults {
    /// The row's name.
    pub(super) name: &'static str,
    /// What was run, or why nothing was.
    pub(super) text: String,
    /// Whether there was somebody to measure.
    pub(super) there: bool,
    /// The loads under which it could not be measured to the end, with the reason.
    pub(super) failed: BTreeMap<Load, String>,
    /// By load, one sample a round.
    pub(super) samples: BTreeMap<Load, Vec<Sample>>,
}

/// A program with a million tasks, observed once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Million {
    /// Tasks that the target had.
    pub(super) tasks: u64,
    /// Those that the observer knew to be alive.
    pub(super) live: u64,
    /// Records that were lost on the way.
    pub(super) lost: u64,
    /// The observer's memory for each of them, in bytes.
    pub(super) bytes_per_task: f64,
}

/// What the run gave.
#[derive(Debug)]
pub(super) struct Results {
    /// How often each row was run.
    pub(super) rounds: usize,
    /// In the table's order.
    pub(super) rows: Vec<RowResults>,
    /// If it was measured.
    pub(super) million: Option<Million>,
}

/// How many tasks the load `idle` has.
const IDLE_TASKS: f64 = 100_000.0;

impl RowResults {
    /// Under this load it cannot be measured: what was before is dropped, too, as rows are compared round by round.
    pub(super) fn fail(&mut self, load: Load, why: String) {
        self.samples.remove(&load);
        self.failed.insert(load, why);
    }

    /// What was run, and what of it failed.
    pub(super) fn story(&self) -> String {
        let failures = self.failed.iter().map(|(load, why)| format!("; failed under the load {}: {why}", load.word()));
        [self.text.clone()].into_iter().chain(failures).collect()
    }

    /// The samples of a load, one a round.
    pub(super) fn of(&self, load: Load) -> &[Sample] {
        self.samples.get(&load).map_or(&[], Vec::as_slice)
    }

    /// A figure of who looked at a load.
    pub(super) fn watched(&self, load: Load, figure: impl Fn(&Watched) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.of(load).iter().filter_map(|sample| figure(sample.watched.as_ref()?)))
    }

    /// A figure of who looked, whatever the load.
    pub(super) fn watched_at_all(&self, figure: impl Fn(&Watched) -> Option<f64>) -> Option<Spread> {
        let all = self.samples.values().flatten();
        Spread::of(all.filter_map(|sample| figure(sample.watched.as_ref()?)))
    }

    /// The target's CPU time for one thing, in nanoseconds.
    pub(super) fn cost(&self, load: Load) -> Option<Spread> {
        Spread::of(self.of(load).iter().map(|sample| sample.cost_ns))
    }

    /// The target's memory with all its idle tasks, in MiB.
    pub(super) fn target_mib(&self) -> Option<Spread> {
        Spread::of(self.of(Load::Idle).iter().map(|sample| sample.target.0 / 1024.0))
    }

    /// What it takes to remember one idle task, in bytes.
    pub(super) fn bytes_per_task(&self) -> Option<Spread> {
        self.watched(Load::Idle, |watched| Some((watched.after.0 - watched.base.0) * 1024.0 / IDLE_TASKS))
    }

    /// Its CPU time in proportion to the time that the load lasted.
    pub(super) fn cores(&self, load: Load) -> Option<Spread> {
        let of = |sample: &Sample| Some(sample.watched?.cpu.as_secs_f64() / sample.elapsed.as_secs_f64());
        Spread::of(self.of(load).iter().filter_map(of))
    }

    /// Events told, of each second that the load lasted.
    pub(super) fn events_per_second(&self, load: Load) -> Option<Spread> {
        let of = |sample: &Sample| Some(sample.watched?.ended.events? as f64 / sample.elapsed.as_secs_f64());
        Spread::of(self.of(load).iter().filter_map(of))
    }

    /// Records lost in all rounds of a load; `None` where nobody says.
    pub(super) fn lost(&self, load: Load) -> Option<u64> {
        let samples = self.of(load);
        (!samples.is_empty()).then(|| samples.iter().map(|sample| sample.watched?.ended.lost).sum())?
    }
}

impl Results {
    /// The row of this name, if it was measured.
    pub(super) fn row(&self, name: &str) -> Option<&RowResults> {
        self.rows.iter().find(|row| row.name == name && row.there)
    }

    /// What one row's thing costs in proportion to another's.
    pub(super) fn ratio(&self, row: &str, to: &str, load: Load) -> Option<Spread> {
        match to {
            BARE => self.beside_bare(row, load, |one, bare| one / bare),
            _ => self.paired([row, to], load, |[one, other]| one / other),
        }
    }

    /// What a row adds to bare, in nanoseconds.
    pub(super) fn added(&self, row: &str, load: Load) -> Option<Spread> {
        self.beside_bare(row, load, |one, bare| one - bare)
    }

    /// What who looked says that it has added, in proportion to what was measured; `None` where it says nothing of it.
    pub(super) fn estimate(&self, row: &str, load: Load) -> Option<Spread> {
        let samples = self.row(row)?.of(load);
        let bare = self.row(BARE)?.of(load);
        let of = |(sample, bare): (&Sample, &Sample)| {
            Some(sample.estimated_ns? / (sample.cost_ns - sample.bare_ns.unwrap_or(bare.cost_ns)))
        };
        let each: Vec<f64> = samples.iter().zip(bare).map(of).collect::<Option<_>>()?;
        Spread::of(each)
    }

    /// What one row adds to bare in proportion to what another adds; `None` where the other adds nothing. The other's is taken of
    /// all rounds together: in one round it may be less than the noise.
    pub(super) fn added_of(&self, row: &str, of: &str, load: Load) -> Option<Spread> {
        let other = self.added(of, load)?.median();
        (other > 0.0).then_some(self.added(row, load)?.scaled(1.0 / other))
    }

    /// What a row adds in proportion to the floor.
    pub(super) fn added_of_floor(&self, row: &str, load: Load) -> Option<Spread> {
        self.added_of(row, FLOOR, load)
    }

    /// A figure of a row's cost and of what nobody looking costs: the same process, where it could be measured there, or else the
    /// row of the same round. Two processes of one program differ by some parts in a hundred, which is what a request is asked for.
    fn beside_bare(&self, row: &str, load: Load, of: impl Fn(f64, f64) -> f64) -> Option<Spread> {
        let (samples, bare) = (self.row(row)?.of(load), self.row(BARE)?.of(load));
        let each = |(one, bare): (&Sample, &Sample)| of(one.cost_ns, one.bare_ns.unwrap_or(bare.cost_ns));
        Spread::of(samples.iter().zip(bare).map(each))
    }

    /// A figure of several rows' costs, round by round.
    fn paired<const N: usize>(&self, names: [&str; N], load: Load, of: impl Fn([f64; N]) -> f64) -> Option<Spread> {
        let rows: Vec<&[Sample]> = names.iter().map(|name| Some(self.row(name)?.of(load))).collect::<Option<_>>()?;
        let rounds = rows.iter().map(|row| row.len()).min()?;
        Spread::of((0..rounds).map(|round| of(std::array::from_fn(|row| rows[row][round].cost_ns))))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::process::Kib;
    use super::super::row::FULL;
    use super::*;

    /// Results of a load in which each row has these costs, one a round.
    pub(in super::super) fn of(load: Load, rows: &[(&'static str, &[f64])]) -> Results {
        let sample = |cost_ns: f64| {
            let (elapsed, target) = (Duration::from_secs(1), Kib(1024.0));
            Sample { cost_ns, bare_ns: None, estimated_ns: None, elapsed, target, watched: None }
        };
        let rows = rows.iter().map(|(name, costs)| RowResults {
            name,
            text: String::from("run"),
            there: true,
            failed: BTreeMap::new(),
            samples: [(load, costs.iter().copied().map(sample).collect())].into(),
        });
        Results { rounds: 0, rows: rows.collect(), million: None }
    }

    #[test]
    fn rows_are_compared_round_by_round() {
        // The machine becomes three times slower: the ratio does not.
        let results = of(Load::Polls, &[(BARE, &[100.0, 200.0, 300.0]), (FULL, &[200.0, 400.0, 600.0])]);
        let ratio = results.ratio(FULL, BARE, Load::Polls).expect("both were measured");
        assert_eq!((ratio.low(), ratio.high()), (2.0, 2.0));
    }

    #[test]
    fn a_row_is_compared_with_its_own_process_where_nobody_looked_at_it_for_a_while() {
        let mut results = of(Load::Hello, &[(BARE, &[100.0, 100.0]), (FULL, &[130.0, 150.0])]);
        for (sample, bare) in
            results.rows[1].samples.get_mut(&Load::Hello).expect("it has some").iter_mut().zip([110.0, 130.0])
        {
            (sample.bare_ns, sample.estimated_ns) = (Some(bare), Some(18.0));
        }
        let added = results.added(FULL, Load::Hello).expect("both were measured");
        assert_eq!((added.low(), added.high()), (20.0, 20.0));
        let estimate = results.estimate(FULL, Load::Hello).expect("it says so");
        assert_eq!((estimate.low(), estimate.high()), (0.9, 0.9));
        assert_eq!(results.estimate(BARE, Load::Hello), None, "nobody says anything of it");
    }

    #[test]
    fn what_is_added_is_told_of_what_the_floor_adds() {
        let results = of(Load::Polls, &[(BARE, &[100.0]), (FLOOR, &[600.0]), (FULL, &[850.0])]);
        let added = results.added_of_floor(FULL, Load::Polls).expect("all were measured");
        assert_eq!(added.median(), 1.5);
    }

    #[test]
    fn a_round_in_which_the_floor_added_nothing_does_not_spoil_the_ratio() {
        let rows: [(_, &[f64]); 3] = [(BARE, &[100.0; 3]), (FLOOR, &[120.0, 100.01, 120.0]), (FULL, &[130.0; 3])];
        let added = of(Load::Hello, &rows).added_of_floor(FULL, Load::Hello).expect("all were measured");
        assert_eq!((added.low(), added.high()), (1.5, 1.5));
    }

    #[test]
    fn where_the_floor_adds_nothing_no_ratio_to_it_is_told() {
        let results = of(Load::Polls, &[(BARE, &[100.0]), (FLOOR, &[99.0]), (FULL, &[850.0])]);
        assert_eq!(results.added_of_floor(FULL, Load::Polls), None);
    }

    #[test]
    fn a_row_that_failed_under_one_load_is_told_of_under_the_others() {
        let mut results = of(Load::Polls, &[(BARE, &[100.0]), (FULL, &[200.0])]);
        results.rows[1].fail(Load::Idle, String::from("it did not end"));
        assert_eq!(results.ratio(FULL, BARE, Load::Polls).map(|ratio| ratio.median()), Some(2.0));
        assert_eq!(results.rows[1].story(), "run; failed under the load idle: it did not end");
        results.rows[1].fail(Load::Polls, String::from("nor here"));
        assert_eq!(results.ratio(FULL, BARE, Load::Polls), None);
    }

    #[test]
    fn of_a_row_or_a_load_that_was_not_measured_nothing_is_told() {
        let results = of(Load::Polls, &[(BARE, &[100.0])]);
        assert_eq!(results.ratio(FULL, BARE, Load::Polls), None);
        assert_eq!(results.ratio(BARE, BARE, Load::Hello), None);
    }
}
