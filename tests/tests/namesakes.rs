//! Async bodies that have the paths of others: a package's library and program, blocks of one function, uses of a macro. What is said to
//! be certain is each one's own. The truth is the program's, which tells each task's name and place by its id.

use std::collections::HashMap;
use std::process::Command;

use serde_json::Value;
use tests::fixture::{Fixture, cells, path};
use tests::observer::Observer;
use tests::plain::plain;
use tests::stream::word;

#[test]
fn bodies_of_one_path_have_each_their_own_name_and_place() {
    let cells = cells("namesakes");
    assert_eq!(cells.len(), 2, "{cells:?}");
    for cell in cells {
        let mut fixture = Fixture::spawn(&cell, &mut Command::new(path(&cell, "namesakes")));
        fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
        let looked =
            Observer::run(["ps", "--json", "--tasks", "--no-cache", "--pid", &fixture.pid().to_string()]).ended();
        assert_eq!(looked.code, Some(0), "{:?}", looked.stderr);
        fixture.release();
        let ended = fixture.finish();
        let lines = looked.stdout.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let tasks = lines.filter(|line| line["event"] == "task");
        let tasks: HashMap<String, Value> = tasks.map(|task| (word(&task, "taskId").to_owned(), task)).collect();
        let mut told = 0;
        for truth in ended.stdout.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if !truth["task"].is_u64() {
                continue;
            }
            told += 1;
            let said = &tasks[&truth["task"].to_string()];
            let future = word(said, "future");
            assert_eq!(said["futureCertain"], true, "{cell}: {truth}: {said}");
            assert!(
                plain(future) == plain(word(&truth, "name")) || future.contains("{impl#"),
                "{cell}: {truth}: {said}"
            );
            let location = word(said, "location");
            assert_eq!(said["locationCertain"], true, "{cell}: {truth}: {said}");
            assert!(location.starts_with(&format!("{}:", word(&truth, "place"))), "{cell}: {truth}: {said}");
        }
        assert_eq!(told, 8);
    }
}
