//! Records that find no room are counted and said, and what is said after them is right again.

use tests::fixture::Fixture;
use tests::life::{Life, Lives};
use tests::observer::Observer;
use tests::stream::number;
use tests::wait::{now, until};

#[test]
fn after_a_loss_the_picture_is_whole_again() {
    let mut fixture = Fixture::start("newest-release", "burst", &[]);
    let observer = Observer::attach(fixture.pid(), &["--ring-pages", "1"]);
    fixture.release();
    let quiet = fixture.wait_for("the burst is over", |line| line.contains("\"quiet\""));
    let lost = observer.wait_for("a loss is said", |line| line.contains("\"event\":\"lost\""));
    assert!(lost.is_some(), "the observer ended without saying that it lost anything");

    // What died unseen is found out by a census; only then is the picture whole.
    let alive = quiet["live"].as_u64().zip(quiet["workers"].as_u64()).map(|(live, workers)| live + workers);
    until("as many are alive as the program says", || {
        let said = observer.said();
        let count = |event: &str| said.iter().filter(|line| line.contains(event)).count() as u64;
        (Some(count(r#""event":"init""#).saturating_sub(count(r#""event":"destroy""#))) == alive).then_some(())
    });
    let quiet = now();
    fixture.release();
    let truth = fixture.wait_for("the slow events are over", |line| line.contains("\"truth\""));
    fixture.release();
    let ended = fixture.finish();
    assert!(ended.status.success(), "the fixture ended with {}: {:?}", ended.status, ended.stderr);
    let stream = observer.stream();
    let told = |member: &str| truth[member].as_u64().unwrap_or_else(|| panic!("no {member} in {truth}"));

    let said: u64 = stream.of("lost").map(|line| number(line, "count")).sum();
    assert!(said > 0, "one page a ring was not small enough to lose anything: the test shows nothing");
    assert_eq!(stream.total("lost"), said, "the total of what was lost");

    let lives = Lives::of_lossy(&stream);
    lives.assert_sane("after a loss");
    assert_eq!(stream.total("live"), told("live") + told("workers"), "live at the end");

    let later: Vec<&Life> = lives
        .by_id
        .values()
        .filter(|life| number(&life.init, "ts") >= quiet && !life.existing() && life.init["inferred"] == false)
        .collect();
    assert_eq!(later.len() as u64, told("later"), "births after the silence");
    let short: Vec<&&Life> = later.iter().filter(|life| life.destroy.is_some()).collect();
    assert_eq!(short.len() as u64, told("later") - 5, "short lives after the silence");
    for life in short {
        assert_eq!(life.outcome(), Some("ready"), "{life:?}");
        assert!(life.polls.iter().all(|poll| poll.to.is_some()) && !life.polls.is_empty(), "{life:?}");
    }
}
