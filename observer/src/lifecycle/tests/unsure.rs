//! Scenarios in which nobody knows of everyone whether it lives: how many, and until when.

use super::*;

const IDLE: u64 = 0xc4;
const RULES: Rules = Rules { polls: true, births: true, ends: true, others: false, room: true, sight: Sight::All };

impl Story {
    fn loses(&mut self, at: u64, until: u64) -> &mut Self {
        self.life.lost(Ns(at), (1, Ns(until)), &mut Vec::new());
        self
    }

    /// How many are alive as far as is known, and of how many of them that is not certain.
    fn alive(&self) -> (u64, u64) {
        let Tally { live, unsure, .. } = self.life.tally();
        (live, unsure)
    }
}

#[test]
fn where_no_end_is_watched_everyone_who_was_born_may_be_gone() {
    let mut story = Story::of(Rules { polls: false, ends: false, ..RULES }, target());
    story.born(1, VT, 9).born(1, VT, 10);
    let of_those = Left { live: 2, unsure: 2, watched: Watched::Births };
    assert_eq!((story.alive(), story.life.tally().watched), ((2, 2), Watched::Births));
    assert_eq!(story.life.target_ended(TARGET), of_those);
    assert_eq!(story.life.tally().watched, Watched::Births, "also when it has ended");
}

#[test]
fn where_nothing_was_planted_it_is_told_that_nothing_is_known() {
    let nothing = TargetEntry { images: Vec::new(), ..TargetEntry::new(Pid(77), "fixture".into()) };
    let mut story = Story::of(RULES, Arc::new(nothing));
    let Tally { watched, unplanted, .. } = story.life.tally();
    assert_eq!((watched, unplanted), (Watched::Nothing, 1));
    story.life.target(TargetId(1), target());
    story.life.target_ended(TARGET);
    let Tally { watched, unplanted, .. } = story.life.tally();
    assert_eq!((watched, unplanted), (Watched::Lives, 1), "one of two");
}

#[test]
fn after_a_loss_who_was_not_seen_since_may_be_gone_until_a_census_has_met_it() {
    let mut story = Story::new();
    story.born(1, VT, 9).born(1, VT, 10);
    assert_eq!(story.alive(), (2, 0));
    story.loses(20, 25).born(1, VT, 11);
    assert_eq!(story.alive(), (3, 2), "the third was born later");
    story.census(40, &[(0x80, VT, 10, IDLE, None), (0x180, VT, 11, IDLE, None)]);
    assert_eq!(story.alive(), (2, 0), "the first was not in memory");
}

#[test]
fn a_census_that_began_before_the_last_record_was_lost_settles_nobody() {
    let mut story = Story::new();
    story.born(1, VT, 9).loses(12, 30).census(25, &[(0x80, VT, 9, IDLE, None)]);
    assert_eq!(story.alive(), (1, 1));
    story.census(31, &[(0x80, VT, 9, IDLE, None)]);
    assert_eq!(story.alive(), (1, 0));
}

#[test]
fn while_calls_are_out_of_sight_everyone_may_be_gone_and_after_that_until_a_census() {
    let mut story = Story::new();
    story.born(1, VT, 9);
    story.life.sees(Ns(20), Sight::Births);
    story.born(1, VT, 10).census(25, &[(0x80, VT, 9, IDLE, None), (0x180, VT, 10, IDLE, None)]);
    assert_eq!(story.alive(), (2, 2), "either may have ended since");
    story.life.sees(Ns(60), Sight::All);
    assert_eq!(story.alive(), (2, 2));
    story.census(61, &[(0x80, VT, 9, IDLE, None), (0x180, VT, 10, IDLE | 1, None)]);
    assert_eq!(story.alive(), (2, 1), "the end of a poll that began out of sight is not seen");
}
