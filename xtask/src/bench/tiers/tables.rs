//! The tables of a run, as the page and the terminal show them.

use super::goals::{Judged, Verdict};
use super::load::Load;
use super::machine::Machine;
use super::measure::{Figure, noise};
use super::results::{Million, Results, RowResults};
use super::row::{BARE, FLOOR, FULL};
use super::spread::Spread;
use crate::page::{Piece, Table};

/// Where there is no figure.
const NONE: &str = "-";
/// In the first cell of a row that could not be measured; the table of rows has the reason.
const MISSING: &str = "not measured";

/// All pieces of the page.
pub(super) fn pieces(results: &Results, goals: &[Judged], machine: &Machine) -> Vec<Piece> {
    let piece = |name, text| Piece { name, text };
    vec![
        piece("bench machine", format!("{} Rounds: {}.", machine.text(), results.rounds)),
        piece("bench rows", rows(results).text()),
        piece("bench cost", cost(results).text()),
        piece("bench memory", format!("{}{}", memory(results).text(), results.million.map_or(String::new(), million))),
        piece("bench hold", hold(results).text()),
        piece("bench estimate", estimate(results).text()),
        piece("bench goals", judged(goals).text()),
    ]
}

fn rows(results: &Results) -> Table {
    let mut table = Table::of(&["row", "what is run"], [""; 0]);
    for row in &results.rows {
        table.row(vec![row.name.into(), row.story()]);
    }
    table
}

/// What it costs the target.
fn cost(results: &Results) -> Table {
    let figures = |load: Load| {
        let cost = format!("{} per {}", load.unit().0, load.thing());
        [cost, "of bare".into(), "of floor".into(), "added, of floor's".into()]
    };
    let mut table = Table::of(&["row"], Load::TIMED.into_iter().flat_map(figures));
    each(results, &mut table, |row| {
        let cells = |load: Load| {
            let (_, ns) = load.unit();
            let digits = if ns > 1.0 { 2 } else { 0 };
            let cost = row.cost(load).map(|cost| cost.scaled(1.0 / ns));
            [
                text(cost, digits),
                middle(results.ratio(row.name, BARE, load), 2),
                middle(results.ratio(row.name, FLOOR, load), 2),
                text(results.added_of_floor(row.name, load), 2),
            ]
        };
        Load::TIMED.into_iter().flat_map(cells).collect()
    });
    table
}

/// Memory of both, and the observer's own CPU time.
fn memory(results: &Results) -> Table {
    let figures = [
        "target, 100 k idle tasks (MiB)",
        "observer, to begin with (MiB)",
        "observer, 100 k idle tasks (MiB)",
        "bytes per task",
        "observer's CPU, polls (cores)",
        "observer's CPU, spawns (cores)",
        "observer's CPU, HTTP (cores)",
    ];
    let mut table = Table::of(&["row"], figures);
    each(results, &mut table, |row| {
        let mut cells = vec![
            text(row.target_mib(), 1),
            middle(row.watched_at_all(|watched| Some(watched.base.0 / 1024.0)), 1),
            text(row.watched(Load::Idle, |watched| Some(watched.after.0 / 1024.0)), 1),
            middle(row.bytes_per_task(), 0),
        ];
        cells.extend(Load::TIMED.map(|load| text(row.cores(load), 2)));
        cells
    });
    table
}

fn million(million: Million) -> String {
    let Million { tasks, live, lost, bytes_per_task } = million;
    format!(
        "\n{tasks} idle tasks, all spawned at once, once under `{FULL}`: {live} known to live at the end, {lost} records lost on the \
         way, {bytes_per_task:.0} bytes of the observer for each.\n"
    )
}

/// Taking hold and letting go, and what comes out.
fn hold(results: &Results) -> Table {
    let figures = [
        "command to attached (ms)",
        "attaching alone (ms)",
        "^C to ended (ms)",
        "detaching alone (ms)",
        "events/s, polls",
        "events/s, spawns",
        "events/s, HTTP",
        "lost, polls",
        "lost, spawns",
        "lost, HTTP",
        "lost, idle tasks",
    ];
    let mut table = Table::of(&["row"], figures);
    each(results, &mut table, |row| {
        let ms = |of: std::time::Duration| of.as_secs_f64() * 1e3;
        let mut cells = vec![
            text(row.watched_at_all(|watched| Some(ms(watched.ready))), 0),
            text(row.watched_at_all(|watched| watched.ended.attaching.map(ms)), 1),
            text(row.watched_at_all(|watched| Some(ms(watched.gone))), 0),
            text(row.watched_at_all(|watched| watched.ended.detaching.map(ms)), 0),
        ];
        cells.extend(Load::TIMED.map(|load| middle(row.events_per_second(load), 0)));
        cells.extend(Load::ALL.map(|load| row.lost(load).map_or(NONE.into(), |lost| lost.to_string())));
        cells
    });
    table
}

/// What the observer says that it adds, beside what was measured.
fn estimate(results: &Results) -> Table {
    let mut table = Table::of(&["row"], Load::TIMED.map(|load| format!("estimate of measured, {}", load.word())));
    // Empty probes count nothing: what they say of themselves is nothing.
    for row in results.rows.iter().filter(|row| row.there && row.name != FLOOR) {
        let told = Load::TIMED.map(|load| {
            // In proportion to what is no more than the noise nothing is told.
            let added = results.added(row.name, load).map(|added| added.median());
            let clear = added.zip(noise(results, load)).is_none_or(|(added, noise)| added > noise);
            results.estimate(row.name, load).filter(|_| clear)
        });
        if told.iter().any(Option::is_some) {
            let cells = told.into_iter().map(|figure| text(figure, 2));
            table.row(std::iter::once(row.name.to_owned()).chain(cells).collect());
        }
    }
    table
}

fn judged(goals: &[Judged]) -> Table {
    let mut table = Table::of(&["goal", "wanted"], ["got", "kept?"]);
    for Judged { what, wanted, got, verdict } in goals {
        let said = match verdict {
            Verdict::Met => "met".to_owned(),
            Verdict::Missed(part) => format!("**missed by {:.1} %**", part * 100.0),
            Verdict::CannotTell => "cannot be told".to_owned(),
            Verdict::Unmeasured => MISSING.to_owned(),
        };
        let got = got.map_or(NONE.to_owned(), |Figure { got, doubt }| match doubt {
            Some(doubt) if doubt > 0.0 => format!("{got:.3} ±{doubt:.3}"),
            _ => format!("{got:.3}"),
        });
        table.row(vec![(*what).into(), wanted.clone(), got, said]);
    }
    table
}

fn each(results: &Results, table: &mut Table, cells: impl Fn(&RowResults) -> Vec<String>) {
    for row in &results.rows {
        let mut line = vec![row.name.to_owned()];
        if row.there {
            line.extend(cells(row));
        } else {
            line.push(MISSING.to_owned());
        }
        table.row(line);
    }
}

/// The median and its spread.
fn text(figure: Option<Spread>, digits: usize) -> String {
    figure.map_or(NONE.into(), |figure| figure.text(digits))
}

/// The median alone.
fn middle(figure: Option<Spread>, digits: usize) -> String {
    figure.map_or(NONE.into(), |figure| format!("{:.digits$}", figure.median()))
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::of;
    use super::*;

    #[test]
    fn a_row_that_was_not_measured_stays_in_every_table() {
        let mut results = of(Load::Polls, &[(BARE, &[70.0]), (FLOOR, &[700.0])]);
        results.rows.push(RowResults {
            name: "hud",
            text: "missing: not installed here".into(),
            there: false,
            failed: std::collections::BTreeMap::new(),
            samples: std::collections::BTreeMap::new(),
        });
        assert!(rows(&results).text().contains("| hud | missing: not installed here |"));
        for table in [cost(&results), memory(&results), hold(&results)] {
            assert!(table.text().contains("| hud | not measured |"), "{}", table.text());
        }
        assert!(cost(&results).text().contains("| empty probes | 700 | 10.00 | 1.00 | 1.00 | - |"));
    }

    #[test]
    fn a_goal_says_by_how_much_it_was_missed() {
        let goal = Judged {
            what: "full",
            wanted: "at most 1.4".into(),
            got: Some(Figure { got: 1.5, doubt: Some(0.02) }),
            verdict: Verdict::Missed(0.0714),
        };
        assert!(judged(&[goal]).text().contains("| full | at most 1.4 | 1.500 ±0.020 | **missed by 7.1 %** |"));
    }
}
