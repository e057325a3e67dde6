//! The observer's events of a run equal what the runtime's own hooks and the program itself logged of it.

use tests::fixture::{Fixture, Scratch};
use tests::life::{Lives, summary};
use tests::observer::Observer;
use tests::oracle::Log;

#[test]
fn events_equal_the_runtime_s_own_hooks_task_by_task() {
    let place = Scratch::new("oracle");
    let log = place.path().join("log.jsonl");
    let mut fixture = Fixture::start("newest-unstable", "oracle", &[log.to_str().expect("a temporary path is text")]);
    let observer = Observer::attach(fixture.pid(), &[]);
    fixture.release();
    let truth = fixture.truth();
    let stream = observer.stream();

    let text = std::fs::read_to_string(&log).expect("the oracle wrote its log");
    let log = Log::parse(&text);
    assert_eq!(Some(log.workers()), truth["workers"].as_u64(), "the oracle's two voices agree");

    assert_eq!(stream.end()["reason"], "exited");
    assert_eq!((stream.total("lost"), stream.total("malformed")), (0, 0));
    let lives = Lives::of(&stream);
    lives.assert_sane("the stream");
    let differences = log.differences(&lives);
    assert!(differences.is_empty(), "the stream differs from the oracle: {}", summary(&differences));
    // Where the end of the process was told before the stream's, they ended with it.
    let left = stream.total("live") + stream.total("endedWithProcess");
    assert_eq!(Some(left), truth["leaked"].as_u64(), "what is live at the end is what was leaked");
}
