//! Made-up programs under a governor, which is asked every tenth of a second, as it is in a session.

use super::*;

const TICK: u64 = SECOND / 10;

/// A program, of whose time each tier's probes take a part.
struct Program {
    governor: Governor,
    now: Reading,
    said: Vec<(u64, &'static str, &'static str)>,
}

/// Nanoseconds a second: what the program uses itself, and what each tier adds to that.
#[derive(Clone, Copy)]
struct Load {
    own: u64,
    full: u64,
    polls: u64,
    spawns: u64,
}

/// Many tiny polls on one CPU.
const BUSY: Load = Load { own: SECOND, full: 8 * SECOND, polls: 6 * SECOND, spawns: 0 };
/// A few polls a second.
const IDLE_ONE: Load = Load { own: 50_000, full: 400_000, polls: 300_000, spawns: 0 };

impl Program {
    /// Where nobody can be sampled.
    fn new(percent: u32, top: Tier) -> Self {
        Self::that_samples(percent, top, false)
    }

    fn that_samples(percent: u32, top: Tier, can_sample: bool) -> Self {
        let now = Reading { at: Ns(SECOND), ..Reading::default() };
        let governed = Governed { cap: Cap(percent * 10_000), top };
        Self { governor: Governor::new(governed, can_sample, now), now, said: Vec::new() }
    }

    fn runs(&mut self, seconds: u64, load: Load) -> &mut Self {
        for _ in 0..seconds * 10 {
            let added = match self.governor.tier() {
                Tier::Full => load.full,
                Tier::Polls | Tier::Lifecycle => load.polls,
                // A hundred samples a second and CPU.
                Tier::Sampled => load.spawns + load.own / 1000,
                Tier::Spawns => load.spawns,
                Tier::Paused => 0,
            };
            self.now.at.0 += TICK;
            self.now.added.0 += added / 10;
            self.now.cpu.0 += (added + load.own) / 10;
            if let Some((_, Stepped { at, from, to, .. })) = self.governor.take(self.now, false) {
                self.said.push((at.0 / SECOND, from, to));
            }
        }
        self
    }

    fn tier(&self) -> &'static str {
        self.governor.tier().as_str()
    }
}

#[test]
fn who_is_busy_is_observed_less_until_that_is_under_the_cap() {
    let mut program = Program::new(2, Tier::Full);
    program.runs(1, BUSY);
    assert_eq!(program.said, [(1, "full", "polls"), (1, "polls", "spawns")]);
    let mut program = Program::new(2, Tier::Lifecycle);
    program.runs(2, Load { spawns: SECOND, ..BUSY });
    assert_eq!(program.said, [(1, "lifecycle", "spawns"), (1, "spawns", "paused")]);
}

#[test]
fn who_is_idle_is_observed_in_full_for_ever() {
    for percent in [1, 2, 50] {
        let mut program = Program::new(percent, Tier::Full);
        // What is added is many times what the program uses itself, and nothing to speak of.
        program.runs(3600, IDLE_ONE);
        assert_eq!((program.tier(), program.said.len()), ("full", 0));
    }
}

#[test]
fn what_is_under_the_cap_stays_as_it_is() {
    let mut program = Program::new(2, Tier::Full);
    program.runs(600, Load { own: SECOND, full: SECOND / 60, polls: 0, spawns: 0 });
    assert_eq!(program.said, []);
}

#[test]
fn where_samples_can_be_taken_they_are_between_polls_and_spawns_both_ways() {
    let mut program = Program::that_samples(2, Tier::Polls, true);
    program.runs(2, Load { spawns: 5 * SECOND, ..BUSY }).runs(90, IDLE_ONE);
    let steps: Vec<(&str, &str)> = program.said.iter().map(|(_, from, to)| (*from, *to)).collect();
    let down = [("polls", "sampled"), ("sampled", "spawns"), ("spawns", "paused")];
    let up = [("paused", "spawns"), ("spawns", "sampled"), ("sampled", "polls")];
    assert_eq!(steps, [down, up].concat());
    // Where they are too dear for a thousandth, births alone are told.
    let mut program = Program::that_samples(1, Tier::Full, true);
    program.governor.cap = Cap(500);
    program.runs(60, BUSY);
    assert_eq!(program.tier(), "spawns");
}

#[test]
fn the_average_over_any_minute_is_under_the_cap_with_all_trials() {
    under_the_cap(false, "spawns");
    under_the_cap(true, "sampled");
}

fn under_the_cap(can_sample: bool, lasts: &str) {
    // A tick of full adds 800 ms: the cap's share of a minute is 1200.
    let mut program = Program::that_samples(2, Tier::Full, can_sample);
    let mut readings = Vec::new();
    for _ in 0..1200 {
        program.runs(1, BUSY);
        readings.push(program.now);
    }
    let trials = program.said.iter().filter(|(_, from, _)| *from == lasts).count();
    assert!((3..=20).contains(&trials), "{trials} trials in twenty minutes: {:?}", program.said);
    for minute in readings.windows(61).skip(60) {
        let used = minute[60].since(&minute[0]);
        // No tick is shorter than it is: a trial may reach into a minute that has not saved for all of it.
        assert!(used.added.0 <= used.own() / 50 + BUSY.full / 10, "{used:?}");
    }
    let all = program.now.since(&readings[0]);
    assert!(all.added.0 <= all.own() / 50, "{all:?}");
}

#[test]
fn trials_that_do_not_last_come_after_twice_the_time_and_one_that_lasts_begins_anew() {
    let mut program = Program::new(2, Tier::Full);
    let spawns_cheap = Load { own: SECOND, full: SECOND, polls: SECOND / 2, spawns: 0 };
    program.runs(200, spawns_cheap);
    let ups: Vec<u64> = program.said.iter().filter(|(_, from, _)| *from == "spawns").map(|(at, ..)| *at).collect();
    let pauses: Vec<u64> = ups.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses.windows(2).all(|two| two[1] >= two[0] + two[0] / 2), "{pauses:?}");
    // The load is over; once all has lasted the next trial comes as soon as the first.
    program.runs(600, IDLE_ONE);
    assert_eq!(program.tier(), "full");
    program.said.clear();
    program.runs(60, spawns_cheap);
    let down = program.said[1].0;
    let up = program.said.iter().find(|(_, from, _)| *from == "spawns").expect("a trial").0;
    assert!(up - down < 20, "{:?}", program.said);
}

#[test]
fn when_the_load_is_over_all_is_told_again_tier_by_tier_and_no_more_than_at_first() {
    let mut program = Program::new(2, Tier::Polls);
    program.runs(2, Load { spawns: 5 * SECOND, ..BUSY }).runs(60, IDLE_ONE);
    let steps: Vec<(&str, &str)> = program.said.iter().map(|(_, from, to)| (*from, *to)).collect();
    assert_eq!(steps, [("polls", "spawns"), ("spawns", "paused"), ("paused", "spawns"), ("spawns", "polls")]);
    program.runs(600, IDLE_ONE);
    assert_eq!(program.tier(), "polls");
}

#[test]
fn what_is_owed_from_before_is_paid_where_it_can_be_and_leads_no_further_down() {
    let mut program = Program::new(2, Tier::Full);
    // Nearly all of what may be, a little more in one moment and a little less in the next.
    let spawns = |part: u64| Load { spawns: SECOND * part / 1000, ..BUSY };
    program.runs(1, spawns(19));
    for _ in 0..20 {
        program.runs(1, spawns(22)).runs(1, spawns(16));
    }
    assert_eq!(program.tier(), "spawns");
}

#[test]
fn while_a_step_is_under_way_there_is_no_other_and_what_it_adds_is_owed() {
    let mut program = Program::new(2, Tier::Full);
    program.runs(1, BUSY).said.clear();
    let owed = program.governor.credit;
    let mut now = program.now;
    (now.at.0, now.added.0, now.cpu.0) = (now.at.0 + TICK, now.added.0 + TICK, now.cpu.0 + 2 * TICK);
    assert_eq!(program.governor.take(now, true).map(|(tier, _)| tier), None);
    assert!(program.governor.credit < owed);
    // It adds nothing any more: what is owed is no reason to go on.
    (now.at.0, now.cpu.0) = (now.at.0 + TICK, now.cpu.0 + TICK);
    assert_eq!(program.governor.take(now, false).map(|(tier, _)| tier), None);
}

#[test]
fn the_times_of_the_tiers_make_all_of_the_time() {
    let mut program = Program::new(2, Tier::Full);
    program.runs(90, BUSY);
    let times = program.governor.times(program.now.at);
    assert_eq!(times.iter().map(|time| time.held.0).sum::<u64>(), 90 * SECOND);
    assert_eq!(times.iter().map(|time| time.tier).collect::<Vec<_>>(), ["full", "polls", "spawns"]);
}

#[test]
fn a_step_says_what_was_added_to_what_since_the_span_before() {
    let mut program = Program::new(2, Tier::Full);
    program.runs(100, IDLE_ONE);
    let mut now = program.now;
    (now.at.0, now.added.0, now.cpu.0) = (now.at.0 + TICK, now.added.0 + SECOND, now.cpu.0 + 2 * SECOND);
    let (to, stepped) = program.governor.take(now, false).expect("it is over");
    assert_eq!((to, stepped.why, stepped.at, stepped.cap), (Tier::Polls, "over", now.at, 0.02));
    assert!((5..=11).contains(&(stepped.during.0 / SECOND)), "{stepped:?}");
    assert!(stepped.added.0 > SECOND && stepped.cpu.0 > stepped.added.0, "{stepped:?}");
}
