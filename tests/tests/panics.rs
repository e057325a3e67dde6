//! Where a task panicked is said as the program's own panic hook heard it.

use std::collections::BTreeMap;

use tests::fixture::Fixture;
use tests::life::Lives;
use tests::observer::Observer;
use tests::stream::word;

/// By tokio's id, where each task that panicked did, `file:line`, by the program's own words: the place that its hook heard last
/// before its handle said so, or none where it heard nothing. Tasks of which it tells nothing are not among them.
fn truth(transcript: &[String]) -> BTreeMap<u64, Option<String>> {
    let mut told = BTreeMap::new();
    let mut ended = None;
    for line in transcript {
        if let Some((_, heard)) = line.split_once("heard: ") {
            if let Some(task) = ended {
                told.insert(task, heard.rsplit_once(" at ").map(|(_, place)| place.to_owned()));
            }
            continue;
        }
        // As tokio prints a `JoinError`.
        let panicked = line.split_once("JoinError::Panic(Id(").and_then(|(_, rest)| rest.split_once(')'));
        ended = panicked.map(|(id, _)| id.parse().expect("an id is a number"));
        told.extend(ended.map(|task| (task, None)));
    }
    told
}

#[test]
fn a_panicked_task_says_the_place_of_its_message_whatever_the_build_and_none_where_no_hook_was_called() {
    for cell in ["newest-release", "newest-thin", "newest-static"] {
        let mut fixture = Fixture::start(cell, "panics", &[]);
        let observer = Observer::attach(fixture.pid(), &[]);
        fixture.release();
        let truth = truth(&fixture.finish().stdout);
        assert!(truth.len() > 100 && truth.values().filter(|place| place.is_none()).count() >= 10, "{cell}: {truth:?}");

        let stream = observer.stream();
        Lives::of(&stream).assert_sane(cell);
        let tasks: BTreeMap<u64, u64> = stream
            .of("init")
            .filter_map(|init| Some((init["asyncId"].as_u64()?, init["resource"]["taskId"].as_str()?.parse().ok()?)))
            .collect();
        let mut said = BTreeMap::new();
        for resolve in stream.of("resolve") {
            let place = resolve.get("panickedAt");
            assert_eq!(place.is_some(), word(resolve, "outcome") == "panicked", "{cell}: {resolve}");
            let Some(place) = place else { continue };
            // Our own has the column, too.
            let place = place.as_str().map(|place| place.rsplit_once(':').expect("a column").0.to_owned());
            said.insert(tasks[&resolve["asyncId"].as_u64().expect("an id")], place);
        }
        let of_truth: BTreeMap<_, _> = said.iter().filter(|(task, _)| truth.contains_key(task)).collect();
        assert_eq!(of_truth, truth.iter().collect(), "{cell}");
    }
}
