//! Scenarios in which calls, or births too, are out of sight for a while.

use super::*;

impl Story {
    fn sees(&mut self, sight: Sight) -> &mut Self {
        self.now += 10;
        self.life.sees(Ns(self.now), sight);
        self
    }
}

/// Idle, and running.
const IDLE: u64 = 0xc4;
const RUNNING: u64 = 0xc5;

#[test]
fn what_is_out_of_sight_is_not_said_and_no_trigger_is_known_meanwhile() {
    Story::new()
        .born(1, VT, 9)
        .sees(Sight::Births)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .born(2, VT, 10)
        .leave(2, Role::Poll, 100, 0x80, FREED)
        .sees(Sight::Nothing)
        .born(2, VT, 11)
        .expect(&["init 1<0", "init 2<?"]);
}

#[test]
fn a_poll_that_was_open_is_over_when_its_thread_begins_another_and_no_trigger_before() {
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .sees(Sight::Births)
        .sees(Sight::All)
        .born(2, VT, 10)
        .enter(2, Role::Poll, 90, 0x180, cell(10, 0x84))
        .born(2, VT, 11)
        .leave(2, Role::Poll, 90, 0x180, cell(10, IDLE))
        // Whether the first is still open below that one cannot be told.
        .born(2, VT, 12)
        .enter(2, Role::Poll, 100, 0x180, cell(10, 0x84))
        .expect(&[
            "init 1<0", "before 1", "init 2<?", "before 2", "init 3<2", "after 2", "init 4<?", "after? 1", "before 2",
        ]);
}

#[test]
fn the_first_census_after_calls_are_watched_again_settles_who_ended_and_who_may_be_running() {
    let mut story = Story::new();
    story.born(1, VT, 9).born(1, VT, 10).born(1, VT, 11);
    for (id, at) in [(9, 0x80), (10, 0x180), (11, 0x280)] {
        story.enter(2, Role::Poll, 100, at, cell(id, 0x84)).leave(2, Role::Poll, 100, at, cell(id, IDLE));
    }
    story.sees(Sight::Births).sees(Sight::All).said.clear();
    let began = story.now + 1;
    story
        .born(3, VT, 12)
        .census(began, &[(0x180, VT, 10, RUNNING, Some(4)), (0x280, VT, 11, IDLE, None)])
        // The fourth thread may be in the second task's poll, the third is in none.
        .born(4, VT, 13)
        .born(3, VT, 14)
        .enter(4, Role::Poll, 100, 0x280, cell(11, 0x84))
        .born(4, VT, 15)
        .expect(&["init 4<?", "resolve? 1 unknown", "destroy? 1", "init 5<?", "init 6<0", "before 3", "init 7<3"]);
}

#[test]
fn a_census_that_began_before_calls_were_watched_again_settles_nothing_of_threads() {
    let mut story = Story::new();
    story.born(1, VT, 9).sees(Sight::Births);
    let began = story.now;
    story.sees(Sight::All).census(began, &[(0x80, VT, 9, RUNNING, None)]).born(3, VT, 10);
    story.expect(&["init 1<0", "init 2<?"]);
}

#[test]
fn who_was_just_born_while_its_polls_are_not_watched_is_not_taken_for_ended() {
    let mut story = Story::new();
    story.sees(Sight::Births).born(1, VT, 9).said.clear();
    let soon = story.now + 1;
    story.census(soon, &[]).expect(&[]);
    let later = soon + 1_000_000_000;
    story.now = later;
    story.census(later, &[]).expect(&["resolve? 1 unknown", "destroy? 1"]);
}

#[test]
fn a_life_after_calls_are_watched_again_is_as_any_other() {
    Story::new()
        .sees(Sight::Births)
        .sees(Sight::All)
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .leave(2, Role::Poll, 100, 0x80, FREED)
        .expect(&["init 1<?", "before 1", "resolve 1 ready", "after 1", "destroy 1"]);
}
