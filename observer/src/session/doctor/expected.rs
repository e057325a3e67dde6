//! What observing would cost a program, tier by tier, before anything is planted: the points by their instructions, and what hits
//! cost here.
//!
//! Pure. Does not know how often the program polls and spawns.

use crate::attach::Prices;
use crate::model::{AttachPoint, Cost, EventSet, ImageFacts, Program, Role};
use crate::plan::{Pace, Slow, choose, is_hot_and_slow, pace};

/// The tiers that plant probes: their word, their events, whether each poll writes a record.
const TIERS: [(&str, EventSet, bool); 4] = [
    ("full", EventSet::ALL, true),
    ("polls", ENDS, false),
    ("lifecycle", ENDS, false),
    ("spawns", EventSet { init: true, ..EventSet::NONE }, false),
];
const ENDS: EventSet = EventSet { init: true, resolve: true, destroy: true, ..EventSet::NONE };

/// From the cheapest of the points to the dearest, nanoseconds of the program's CPU time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// At the cheapest points.
    pub least: f64,
    /// At the dearest.
    pub most: f64,
}

/// What one tier costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Its word.
    pub tier: &'static str,
    /// With hot and slow points.
    pub slow: bool,
    /// Added to each poll; `None` where the tier would see nothing of the program.
    pub poll: Option<Span>,
    /// Added to the life of each task besides its polls, if its join handle is dropped or awaited; `None` as above.
    pub spawn: Option<Span>,
}

/// Of all tiers, as they are by default; and with slow points, where that is not the same.
pub(super) fn expected(images: &[&ImageFacts], prices: Prices) -> Vec<Expected> {
    let hot = images.iter().flat_map(|facts| &facts.plan.points).any(is_hot_and_slow);
    let ways = if hot { &[Slow::LeftOut, Slow::Allowed][..] } else { &[Slow::LeftOut] };
    let rows = ways.iter().flat_map(|slow| TIERS.map(|tier| (tier, *slow)));
    rows.map(|((tier, events, records), slow)| {
        let chosen = images.iter().flat_map(|facts| choose(&facts.plan, &facts.types, events, slow).points);
        let points: Vec<AttachPoint> = chosen.collect();
        let seen = !points.is_empty();
        let sum = |wanted, unsaid| {
            let roles = [Role::Mint, Role::Birth, Role::Poll, Role::DropJoinHandle];
            let spans = roles.into_iter().filter(|role| pace(*role) == wanted);
            let spans = spans.filter_map(|role| span(&points, role, unsaid, prices));
            seen.then(|| spans.fold(Span::NONE, Span::and))
        };
        let (poll, spawn) = (sum(Pace::EachPoll, !records), sum(Pace::EachSpawn, false));
        Expected { tier, slow: slow == Slow::Allowed, poll, spawn }
    })
    .collect()
}

/// What a hit of this point costs, the return with it where there is one, nanoseconds. `unsaid`: no record is written.
pub(super) fn cost_of(point: &AttachPoint, unsaid: bool, prices: Prices) -> f64 {
    let Prices { price, stepped } = prices;
    let dearer = match point.cost {
        Cost::Emulated => 0.0,
        Cost::SingleStepped => stepped - price.hit,
    };
    let returns = point.role.programs().contains(&Program::Leave);
    let written = !unsaid && point.role != Role::Mint;
    dearer + price.of(1, returns.into(), written.into())
}

fn span(points: &[AttachPoint], role: Role, unsaid: bool, prices: Prices) -> Option<Span> {
    let costs = points.iter().filter(|point| point.role == role).map(|point| cost_of(point, unsaid, prices));
    costs
        .map(|cost| Span { least: cost, most: cost })
        .reduce(|a, b| Span { least: a.least.min(b.least), most: a.most.max(b.most) })
}

impl Span {
    /// Nothing is added.
    const NONE: Self = Self { least: 0.0, most: 0.0 };

    fn and(self, other: Self) -> Self {
        Self { least: self.least + other.least, most: self.most + other.most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::Price;
    use crate::model::BuildId;

    /// 3400 ns more than a hit that is emulated.
    const STEPPED: f64 = 3500.0;

    /// What so many hits, returns and records cost, whole nanoseconds.
    fn of(entries: u64, returns: u64, records: u64) -> u64 {
        Price::sample().of(entries, returns, records).round() as u64
    }

    fn facts(points: &[(Role, Cost)]) -> ImageFacts {
        let mut facts = ImageFacts::sample(BuildId::Content(1), Vec::new());
        facts.plan.points =
            points.iter().map(|(role, cost)| AttachPoint { cost: *cost, ..AttachPoint::sample(*role) }).collect();
        facts
    }

    /// From and to, in whole nanoseconds.
    type Whole = Option<[u64; 2]>;

    /// Tier, with slow points, what it adds to a poll and to a spawn.
    fn said(facts: &ImageFacts) -> Vec<(&'static str, bool, Whole, Whole)> {
        let whole = |span: Option<Span>| span.map(|span| [span.least, span.most].map(|ns| ns.round() as u64));
        expected(&[facts], Prices { price: Price::sample(), stepped: STEPPED })
            .iter()
            .map(|of| (of.tier, of.slow, whole(of.poll), whole(of.spawn)))
            .collect()
    }

    #[test]
    fn tiers_cost_what_their_points_cost() {
        let roles = [Role::Mint, Role::Birth, Role::Poll, Role::DropJoinHandle];
        let (unsaid, said_at_once) = (of(1, 1, 0), of(1, 1, 1));
        let (spawn, life) = (of(1, 0, 0) + of(1, 0, 1), of(1, 0, 0) + of(1, 0, 1) + of(1, 1, 1));
        let expected = [
            ("full", false, Some([said_at_once; 2]), Some([life; 2])),
            ("polls", false, Some([unsaid; 2]), Some([life; 2])),
            ("lifecycle", false, Some([unsaid; 2]), Some([life; 2])),
            ("spawns", false, Some([0; 2]), Some([spawn; 2])),
        ];
        assert_eq!(said(&facts(&roles.map(|role| (role, Cost::Emulated)))), expected);
    }

    #[test]
    fn a_slow_birth_is_in_the_sum_only_where_it_is_allowed() {
        let cheap = Cost::Emulated;
        let points = [(Role::Birth, cheap), (Role::Birth, Cost::SingleStepped), (Role::Poll, cheap)];
        let said = said(&facts(&points));
        let (birth, poll) = (of(1, 0, 1), of(1, 1, 1));
        let dearer = [birth, birth + 3400];
        assert_eq!((said[0].3, said[4]), (Some([birth; 2]), ("full", true, Some([poll; 2]), Some(dearer))));
    }

    #[test]
    fn where_polls_are_slow_and_left_out_nothing_is_expected_of_tiers_that_need_them() {
        let said = said(&facts(&[(Role::Poll, Cost::SingleStepped), (Role::Birth, Cost::Emulated)]));
        assert_eq!((said[0].2, said[0].3, said[3].3), (None, None, Some([of(1, 0, 1); 2])));
        assert_eq!(said[4].2, Some([of(1, 1, 1) + 3400; 2]));
    }
}
