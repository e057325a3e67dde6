//! What the project promises of its cost, one row a promise, and whether a run kept it.
//!
//! **E** is what an empty probe costs at an entry. The floor's polls have an entry and a return, which together cost 1.5 E.

use super::load::Load;
use super::measure::{Figure, Measure};
use super::results::Results;
use super::row::{
    AGAIN, BARE, BPFTRACE_EVENTS, BPFTRACE_SUMS, CENSUS, CONSOLE, FLOOR, FULL, LIFECYCLE, POLLS, SAMPLED, SPAWNS,
};

/// A promise.
pub(super) struct Goal {
    /// In words.
    what: &'static str,
    /// The figure.
    measure: Measure,
    /// What it may be.
    bound: Bound,
}

/// What a figure may be.
#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// So near to 1: 0.2 is from 0.8 to 1.2.
    NearOne(f64),
    /// Not above what bare differs from itself in this run, or one part in a hundred if that is more.
    WithinNoise(Load),
}

/// In more noise than this much of bare hides what a goal within the noise is there to keep out.
const NOISE_THAT_TELLS: f64 = 0.05;

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
        "bpftrace that prints every event: added per poll, of what full adds",
        Measure::AddedOf(BPFTRACE_EVENTS, FULL, Load::Polls),
        Bound::AtLeast(1.5),
    ),
    goal(
        "bpftrace that sums by task: added per poll, of what polls adds",
        Measure::AddedOf(BPFTRACE_SUMS, POLLS, Load::Polls),
        Bound::AtLeast(1.5),
    ),
    goal(
        "tokio-console's subscriber: added per spawn, of what full adds",
        Measure::AddedOf(CONSOLE, FULL, Load::Spawns),
        Bound::AtLeast(8.0),
    ),
    goal("full: estimate of itself, of what was measured, polls", Measure::Estimate(FULL, Load::Polls), NEAR),
    goal("full: estimate of itself, of what was measured, spawns", Measure::Estimate(FULL, Load::Spawns), NEAR),
    goal("full: estimate of itself, of what was measured, requests", Measure::Estimate(FULL, Load::Hello), NEAR),
    goal("polls: estimate of itself, of what was measured, polls", Measure::Estimate(POLLS, Load::Polls), NEAR),
    goal("polls: estimate of itself, of what was measured, spawns", Measure::Estimate(POLLS, Load::Spawns), NEAR),
    goal("lifecycle: estimate of itself, of what was measured, polls", Measure::Estimate(LIFECYCLE, Load::Polls), NEAR),
    goal(
        "lifecycle: estimate of itself, of what was measured, spawns",
        Measure::Estimate(LIFECYCLE, Load::Spawns),
        NEAR,
    ),
    goal("spawns: estimate of itself, of what was measured, spawns", Measure::Estimate(SPAWNS, Load::Spawns), NEAR),
    goal("full: memory of the target, of bare", Measure::TargetMemory(FULL), Bound::AtMost(1.01)),
    goal("full: memory of the observer to begin with, MiB", Measure::Base(FULL), Bound::AtMost(40.0)),
    goal("full: memory of the observer for a live task, bytes", Measure::BytesPerTask(FULL), Bound::AtMost(200.0)),
    goal("full: of a million live tasks, those known to live", Measure::OfAMillion, Bound::AtLeast(1.0)),
];

/// How near the estimate that is said while it runs must come.
const NEAR: Bound = Bound::NearOne(0.2);

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
    /// What it may be and what the run gave are nearer to each other than the run can tell apart.
    CannotTell,
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
    /// What the run gave, and how far the truth may be from it.
    pub(super) got: Option<Figure>,
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
        let (wanted, verdict) = self.bound.verdict(got, results);
        Judged { what: self.what, wanted: without_zeros(&wanted), got, verdict }
    }
}

impl Bound {
    /// What is wanted, in words, and whether this figure is it.
    fn verdict(self, got: Option<Figure>, results: &Results) -> (String, Verdict) {
        let judge = |beyond: &dyn Fn(f64) -> f64, unit: f64| {
            got.map_or(Verdict::Unmeasured, |Figure { got, doubt }| Verdict::of(beyond(got), doubt, unit))
        };
        match self {
            Self::AtMost(most) => (format!("at most {most:.4}"), judge(&|got| got - most, most)),
            Self::AtLeast(least) => (format!("at least {least:.4}"), judge(&|got| least - got, least)),
            Self::NearOne(part) => {
                (format!("{:.4}, to {:.1}", 1.0 - part, 1.0 + part), judge(&|got| (got - 1.0).abs() - part, 1.0))
            }
            Self::WithinNoise(load) => {
                let Some(again) = results.ratio(AGAIN, BARE, load) else {
                    return (String::from("the noise of bare"), Verdict::Unmeasured);
                };
                let noise = (again.median() - 1.0).abs() + again.doubt().unwrap_or(0.0);
                let limit = 1.0 + noise.max(0.01);
                let verdict = match again.doubt() {
                    Some(_) if noise <= NOISE_THAT_TELLS => judge(&|got| got - limit, limit),
                    _ => got.map_or(Verdict::Unmeasured, |_| Verdict::CannotTell),
                };
                (format!("at most {limit:.4}, the noise"), verdict)
            }
        }
    }
}

impl Verdict {
    /// Of a figure that is so far beyond what it may be (below 0: within), as it is judged in parts of `unit`.
    fn of(beyond: f64, doubt: Option<f64>, unit: f64) -> Self {
        match doubt {
            None => Self::CannotTell,
            Some(doubt) if doubt > 0.0 && beyond.abs() <= doubt => Self::CannotTell,
            Some(_) if beyond > 0.0 => Self::Missed(beyond / unit),
            Some(_) => Self::Met,
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

    /// Three rounds alike, bare again as bare.
    fn quiet(load: Load, rows: &[(&'static str, f64)]) -> Results {
        let all: Vec<(&'static str, [f64; 3])> =
            [(BARE, 100.0), (AGAIN, 100.0)].iter().chain(rows).map(|(name, cost)| (*name, [*cost; 3])).collect();
        let all: Vec<(&'static str, &[f64])> = all.iter().map(|(name, costs)| (*name, &costs[..])).collect();
        of(load, &all)
    }

    #[test]
    fn a_promise_that_was_kept_is_met() {
        let judged = judged(&quiet(Load::Polls, &[(FLOOR, 600.0), (FULL, 790.0)]), "full: added per poll");
        assert_eq!((judged.verdict, judged.wanted.as_str()), (Verdict::Met, "at most 1.4"));
    }

    #[test]
    fn a_promise_that_was_not_kept_says_by_how_much() {
        let results = quiet(Load::Polls, &[(FLOOR, 600.0), (FULL, 870.0), (BPFTRACE_EVENTS, 1024.0)]);
        let full = judged(&results, "full: added per poll");
        assert_eq!(full.got, Some(Figure { got: 1.54, doubt: Some(0.0) }));
        assert!(matches!(full.verdict, Verdict::Missed(part) if (part - 0.1).abs() < 1e-9), "{full:?}");
        let peer = judged(&results, "bpftrace that prints");
        assert!(matches!(peer.verdict, Verdict::Missed(part) if (part - 0.2).abs() < 1e-9), "{peer:?}");
    }

    #[test]
    fn what_is_nearer_to_its_bound_than_the_noise_can_be_told_neither_to_be_met_nor_missed() {
        let with = |full: f64| {
            let rows: [(_, &[f64]); 4] =
                [(BARE, &[100.0; 3]), (AGAIN, &[130.0; 3]), (FLOOR, &[300.0; 3]), (FULL, &[full; 3])];
            judged(&of(Load::Polls, &rows), "full: added per poll").verdict
        };
        // 30 of 200, and of the floor as much again: about 0.25 of what the floor adds.
        assert_eq!([with(370.0), with(390.0)], [Verdict::CannotTell, Verdict::CannotTell]);
        assert_eq!(with(310.0), Verdict::Met);
        assert!(matches!(with(600.0), Verdict::Missed(_)));
    }

    #[test]
    fn of_one_round_nothing_is_told() {
        let rows: [(_, &[f64]); 4] = [(BARE, &[100.0]), (AGAIN, &[100.0]), (FLOOR, &[600.0]), (FULL, &[700.0])];
        assert_eq!(judged(&of(Load::Polls, &rows), "full: added per poll").verdict, Verdict::CannotTell);
    }

    #[test]
    fn the_noise_is_what_bare_differs_from_itself() {
        let census = |again: f64, census: f64| {
            let rows: [(_, &[f64]); 3] = [(BARE, &[100.0; 3]), (AGAIN, &[again; 3]), (CENSUS, &[census; 3])];
            let judged = judged(&of(Load::Hello, &rows), "census: a request");
            (judged.verdict, judged.wanted)
        };
        assert_eq!(census(104.0, 103.0), (Verdict::Met, "at most 1.04, the noise".to_owned()));
        assert!(matches!(census(100.0, 103.0).0, Verdict::Missed(_)));
        assert_eq!(census(120.0, 103.0).0, Verdict::CannotTell, "anything would be within such noise");
    }

    #[test]
    fn an_estimate_is_good_within_a_fifth() {
        let said = |estimated: f64| {
            let mut results = quiet(Load::Polls, &[(FULL, 200.0)]);
            for row in &mut results.rows {
                row.samples.values_mut().flatten().for_each(|sample| sample.estimated_ns = Some(estimated));
            }
            judged(&results, "full: estimate of itself, of what was measured, polls")
        };
        assert_eq!((said(81.0).verdict, said(81.0).wanted.as_str()), (Verdict::Met, "0.8, to 1.2"));
        assert!(matches!(said(130.0).verdict, Verdict::Missed(part) if (part - 0.1).abs() < 1e-9));
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
