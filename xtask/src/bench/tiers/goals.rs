//! What the project promises of its cost, one row a promise, and whether a run kept it.
//!
//! **E** is what an empty probe costs at an entry. The floor's polls have an entry and a return, which together cost 1.5 E.

use super::load::Load;
use super::results::Results;
use super::row::{AGAIN, BARE, BPFTRACE, CENSUS, CONSOLE, FLOOR, FULL, LIFECYCLE, POLLS, SAMPLED, SPAWNS};

/// A promise.
pub(super) struct Goal {
    /// In words.
    what: &'static str,
    /// The figure.
    measure: Measure,
    /// What it may be.
    bound: Bound,
}

/// A figure of a run.
#[derive(Clone, Copy)]
enum Measure {
    /// (row - bare) / (another row - bare), of CPU time for one thing.
    AddedOf(&'static str, &'static str, Load),
    /// (row - bare) / E.
    AddedInE(&'static str, Load),
    /// row / bare, of CPU time for one thing.
    OfBare(&'static str, Load),
    /// The target's memory with its idle tasks under this row, in proportion to bare.
    TargetMemory(&'static str),
    /// The observer's memory before there is anything to observe, in MiB.
    Base(&'static str),
    /// The observer's memory for each live task, in bytes.
    BytesPerTask(&'static str),
    /// Of a million live tasks the part that the observer knows to live.
    OfAMillion,
}

/// What a figure may be.
#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// Not above what bare differs from itself in this run (its highest round), or one part in a hundred if that is more.
    WithinNoise(Load),
}

/// Entry and return of an empty probe in E.
const FLOOR_IN_E: f64 = 1.5;

/// All of them.
const GOALS: &[Goal] = &[
    goal(
        "full: added per poll, of what the floor adds",
        Measure::AddedOf(FULL, FLOOR, Load::Polls),
        Bound::AtMost(1.4),
    ),
    goal(
        "polls: added per poll, of what the floor adds",
        Measure::AddedOf(POLLS, FLOOR, Load::Polls),
        Bound::AtMost(1.25),
    ),
    goal("spawns: added per task's life, in E", Measure::AddedInE(SPAWNS, Load::Spawns), Bound::AtMost(1.7)),
    goal("sampled: a poll, of bare", Measure::OfBare(SAMPLED, Load::Polls), Bound::WithinNoise(Load::Polls)),
    goal("sampled: a request, of bare", Measure::OfBare(SAMPLED, Load::Hello), Bound::WithinNoise(Load::Hello)),
    goal("spawns: a poll, of bare", Measure::OfBare(SPAWNS, Load::Polls), Bound::WithinNoise(Load::Polls)),
    goal("spawns: a request, of bare", Measure::OfBare(SPAWNS, Load::Hello), Bound::WithinNoise(Load::Hello)),
    goal("census: a poll, of bare", Measure::OfBare(CENSUS, Load::Polls), Bound::WithinNoise(Load::Polls)),
    goal("census: a request, of bare", Measure::OfBare(CENSUS, Load::Hello), Bound::WithinNoise(Load::Hello)),
    goal(
        "full: added per request, of what the floor adds",
        Measure::AddedOf(FULL, FLOOR, Load::Hello),
        Bound::AtMost(1.5),
    ),
    goal(
        "lifecycle: added per request, of what full adds",
        Measure::AddedOf(LIFECYCLE, FULL, Load::Hello),
        Bound::AtMost(1.0),
    ),
    // A server that takes 1/0.99 of the CPU for a request answers 0.99 of the requests with it.
    goal("sampled: CPU for a request, of bare", Measure::OfBare(SAMPLED, Load::Hello), Bound::AtMost(1.0 / 0.99)),
    goal("spawns: CPU for a request, of bare", Measure::OfBare(SPAWNS, Load::Hello), Bound::AtMost(1.0 / 0.99)),
    goal(
        "bpftrace: added per poll, of what full adds",
        Measure::AddedOf(BPFTRACE, FULL, Load::Polls),
        Bound::AtLeast(1.5),
    ),
    goal(
        "tokio-console's subscriber: added per spawn, of what full adds",
        Measure::AddedOf(CONSOLE, FULL, Load::Spawns),
        Bound::AtLeast(8.0),
    ),
    goal("full: memory of the target, of bare", Measure::TargetMemory(FULL), Bound::AtMost(1.01)),
    goal("full: memory of the observer to begin with, MiB", Measure::Base(FULL), Bound::AtMost(40.0)),
    goal("full: memory of the observer for a live task, bytes", Measure::BytesPerTask(FULL), Bound::AtMost(200.0)),
    goal("full: of a million live tasks, those known to live", Measure::OfAMillion, Bound::AtLeast(1.0)),
];

const fn goal(what: &'static str, measure: Measure, bound: Bound) -> Goal {
    Goal { what, measure, bound }
}

/// Whether a promise was kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It was.
    Met,
    /// By this part of what was wanted it was not: 0.1 is ten in a hundred.
    Missed(f64),
    /// A row that it speaks of was not measured.
    Unmeasured,
}

/// A promise beside what a run gave.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    /// The promise in words.
    pub(super) what: &'static str,
    /// What was wanted.
    pub(super) wanted: String,
    /// What the run gave.
    pub(super) got: Option<f64>,
    /// Whether it was kept.
    pub(super) verdict: Verdict,
}

/// Judges all of them.
pub(super) fn judge(results: &Results) -> Vec<Judged> {
    GOALS.iter().map(|goal| goal.judge(results)).collect()
}

impl Goal {
    fn judge(&self, results: &Results) -> Judged {
        let got = self.measure.of(results);
        let (wanted, missed) = match self.bound {
            Bound::AtMost(most) => (format!("at most {most:.4}"), got.map(|got| got / most - 1.0)),
            Bound::AtLeast(least) => (format!("at least {least:.4}"), got.map(|got| 1.0 - got / least)),
            Bound::WithinNoise(load) => {
                let noise = results.ratio(AGAIN, BARE, load).map(|again| again.high().max(1.01));
                let wanted =
                    noise.map_or(String::from("the noise of bare"), |noise| format!("at most {noise:.4}, the noise"));
                (wanted, got.zip(noise).map(|(got, noise)| got / noise - 1.0))
            }
        };
        let verdict = match missed {
            None => Verdict::Unmeasured,
            Some(part) if part > 0.0 => Verdict::Missed(part),
            Some(_) => Verdict::Met,
        };
        let wanted = without_zeros(&wanted);
        Judged { what: self.what, wanted, got, verdict }
    }
}

impl Measure {
    fn of(self, results: &Results) -> Option<f64> {
        match self {
            Self::AddedOf(row, of, load) => Some(results.added_of(row, of, load)?.median()),
            Self::AddedInE(row, load) => {
                let e = results.added(FLOOR, Load::Polls)?.median() / FLOOR_IN_E;
                (e > 0.0).then_some(results.added(row, load)?.median() / e)
            }
            Self::OfBare(row, load) => Some(results.ratio(row, BARE, load)?.median()),
            Self::TargetMemory(row) => {
                Some(results.row(row)?.target_mib()?.median() / results.row(BARE)?.target_mib()?.median())
            }
            Self::Base(row) => {
                Some(results.row(row)?.watched_at_all(|watched| Some(watched.base.0 / 1024.0))?.median())
            }
            Self::BytesPerTask(row) => Some(results.row(row)?.bytes_per_task()?.median()),
            Self::OfAMillion => {
                let million = results.million?;
                Some(million.live as f64 / million.tasks as f64)
            }
        }
    }
}

/// A bound is as short as it was written.
fn without_zeros(text: &str) -> String {
    let (figure, rest) =
        text.split_once(',').map_or((text, String::new()), |(figure, rest)| (figure, format!(",{rest}")));
    format!("{}{rest}", figure.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::super::results::Million;
    use super::super::results::tests::of;
    use super::*;

    fn judged(results: &Results, what: &str) -> Judged {
        let found = judge(results).into_iter().find(|judged| judged.what.starts_with(what));
        found.unwrap_or_else(|| panic!("no goal is called {what}"))
    }

    #[test]
    fn a_promise_that_was_kept_is_met() {
        let results = of(Load::Polls, &[(BARE, &[100.0]), (FLOOR, &[600.0]), (FULL, &[790.0])]);
        let judged = judged(&results, "full: added per poll");
        assert_eq!((judged.verdict, judged.wanted.as_str()), (Verdict::Met, "at most 1.4"));
    }

    #[test]
    fn a_promise_that_was_not_kept_says_by_how_much() {
        let results = of(Load::Polls, &[(BARE, &[100.0]), (FLOOR, &[600.0]), (FULL, &[870.0]), (BPFTRACE, &[1024.0])]);
        let full = judged(&results, "full: added per poll");
        assert_eq!(full.got, Some(1.54));
        assert!(matches!(full.verdict, Verdict::Missed(part) if (part - 0.1).abs() < 1e-9), "{full:?}");
        let peer = judged(&results, "bpftrace");
        assert!(matches!(peer.verdict, Verdict::Missed(part) if (part - 0.2).abs() < 1e-9), "{peer:?}");
    }

    #[test]
    fn the_noise_is_what_bare_differs_from_itself() {
        let rows: [(_, &[f64]); 3] = [(BARE, &[100.0, 100.0]), (AGAIN, &[98.0, 105.0]), (CENSUS, &[104.0, 104.0])];
        let census = judged(&of(Load::Hello, &rows), "census: a request");
        assert_eq!((census.verdict, census.wanted.as_str()), (Verdict::Met, "at most 1.05, the noise"));
        let quiet: [(_, &[f64]); 3] = [(BARE, &[100.0]), (AGAIN, &[100.0]), (CENSUS, &[104.0])];
        let census = judged(&of(Load::Hello, &quiet), "census: a request");
        assert!(matches!(census.verdict, Verdict::Missed(_)), "{census:?}");
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let results = of(Load::Polls, &[(BARE, &[100.0])]);
        assert!(judge(&results).iter().all(|judged| judged.verdict == Verdict::Unmeasured));
    }

    #[test]
    fn a_task_that_the_observer_does_not_know_is_missed() {
        let mut results = of(Load::Polls, &[]);
        results.million = Some(Million { tasks: 1_000_000, live: 1_000_000, lost: 7, bytes_per_task: 100.0 });
        assert_eq!(judged(&results, "full: of a million").verdict, Verdict::Met);
        results.million = Some(Million { tasks: 1_000_000, live: 999_000, lost: 7, bytes_per_task: 100.0 });
        assert!(matches!(judged(&results, "full: of a million").verdict, Verdict::Missed(_)));
    }
}
