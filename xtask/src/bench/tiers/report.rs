//! The run as JSON, with all figures of the tables and the spread of each.

use serde_json::{Map, Value, json};

use super::goals::{Judged, Verdict};
use super::load::Load;
use super::machine::Machine;
use super::results::{Results, RowResults};
use super::row::{BARE, FLOOR};
use super::spread::Spread;

/// All of it.
pub(super) fn report(results: &Results, goals: &[Judged], machine: &Machine) -> Value {
    let rows: Map<String, Value> = results.rows.iter().map(|row| (row.name.to_owned(), of(results, row))).collect();
    json!({
        "machine": machine.json(),
        "rounds": results.rounds,
        "rows": rows,
        "aMillionTasks": results.million.map(|million| json!({
            "tasks": million.tasks,
            "live": million.live,
            "lost": million.lost,
            "bytesPerTask": million.bytes_per_task.round(),
        })),
        "goals": goals.iter().map(goal).collect::<Value>(),
    })
}

fn of(results: &Results, row: &RowResults) -> Value {
    if !row.there {
        return json!({ "missing": row.text });
    }
    let loads: Map<String, Value> =
        Load::TIMED.iter().map(|&load| (load.word().to_owned(), timed(results, row, load))).collect();
    let ms = |of: std::time::Duration| of.as_secs_f64() * 1e3;
    json!({
        "runs": row.story(),
        "loads": loads,
        "targetMiB": figure(row.target_mib()),
        "observerBaseMiB": figure(row.watched_at_all(|watched| Some(watched.base.0 / 1024.0))),
        "observerIdleMiB": figure(row.watched(Load::Idle, |watched| Some(watched.after.0 / 1024.0))),
        "observerBytesPerTask": figure(row.bytes_per_task()),
        "readyMs": figure(row.watched_at_all(|watched| Some(ms(watched.ready)))),
        "attachMs": figure(row.watched_at_all(|watched| watched.ended.attaching.map(ms))),
        "goneMs": figure(row.watched_at_all(|watched| Some(ms(watched.gone)))),
        "detachMs": figure(row.watched_at_all(|watched| watched.ended.detaching.map(ms))),
    })
}

fn timed(results: &Results, row: &RowResults, load: Load) -> Value {
    json!({
        "costNs": figure(row.cost(load)),
        "ofBare": figure(results.ratio(row.name, BARE, load)),
        "ofFloor": figure(results.ratio(row.name, FLOOR, load)),
        "addedNs": figure(results.added(row.name, load)),
        "addedOfFloors": figure(results.added_of_floor(row.name, load)),
        "observerCores": figure(row.cores(load)),
        "eventsPerSecond": figure(row.events_per_second(load)),
        "lost": row.lost(load),
        "estimateOfMeasured": figure(results.estimate(row.name, load)),
    })
}

fn goal(judged: &Judged) -> Value {
    let missed = match judged.verdict {
        Verdict::Missed(part) => Some(part),
        Verdict::Met | Verdict::CannotTell | Verdict::Unmeasured => None,
    };
    json!({
        "goal": judged.what,
        "wanted": judged.wanted,
        "got": judged.got.map(|figure| figure.got),
        "doubt": judged.got.and_then(|figure| figure.doubt),
        // null: it was not measured, or the run cannot tell.
        "met": match judged.verdict {
            Verdict::Met => Some(true),
            Verdict::Missed(_) => Some(false),
            Verdict::CannotTell | Verdict::Unmeasured => None,
        },
        "missedBy": missed,
    })
}

fn figure(spread: Option<Spread>) -> Value {
    spread.map_or(Value::Null, |spread| spread.json())
}
