//! `cargo xtask names`: what is told of types, places, spawns and waits, against what the fixtures say of themselves.
//!
//! The live tests that know a figure say it (`tests::score`); here they become the tables of docs/names.md.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::page::{Piece, Table, put};
use crate::{coverage, fixtures, preflight};

/// Where the tables go.
const PAGE: &str = "docs/names.md";
/// Where the tests say their figures. Mirrors `tests::score`.
const VARIABLE: &str = "ASYNC_OBSERVER_SCORES";
/// The tests that know one.
const TESTS: [&str; 3] = ["names", "spawns", "awaits"];
/// What each table is of, the tests' word for it, and its columns.
const TABLES: [(&str, &str, &[&str]); 4] = [
    ("names types", "types", &["right", "wrong", "uncertain", "of these true", "unknown"]),
    ("names places", "places", &["right", "wrong", "uncertain", "of these true", "unknown"]),
    ("names spawns", "spawns", &["right", "wrong", "unknown", "whole", "cut"]),
    ("names waits", "waits", &["right", "wrong", "unknown"]),
];

/// Runs the tests and writes the tables.
pub fn run(root: &Path) -> Result<()> {
    preflight::check()?;
    preflight::programs()?;
    preflight::cargo(root, &["build", "--locked", "--release", "--package", "observer"])?;
    fixtures::run(&fixtures::Options::default())?;
    let scores = std::env::temp_dir().join(format!("async-observer-scores-{}", std::process::id()));
    let mut arguments = vec!["test", "--locked", "--package", "tests"];
    arguments.extend(TESTS.iter().flat_map(|test| ["--test", test]));
    let ran = preflight::cargo_with(root, &arguments, &[(VARIABLE, &scores)]);
    let said = std::fs::read_to_string(&scores);
    // Nothing was said where no test came so far, which is told below.
    let _ = std::fs::remove_file(&scores);
    ran?;
    let said = said.context("the tests said no figures")?;
    let page = std::fs::read_to_string(root.join(PAGE)).context(PAGE)?;
    let mut pieces = pieces(&said)?;
    pieces.push(coverage::piece(root)?);
    let page = pieces.iter().try_fold(page, |page, piece| put(&page, piece))?;
    std::fs::write(root.join(PAGE), page).context(PAGE)
}

/// The tables of what the tests said, one JSON object a line.
fn pieces(said: &str) -> Result<Vec<Piece>> {
    let lines: Vec<Value> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("a figure")?;
    let piece = |(name, of, columns): (&'static str, &str, &[&str])| {
        let mut rows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for line in lines.iter().filter(|line| line["of"] == of) {
            let cell = line["cell"].as_str().with_context(|| format!("no cell in {line}"))?;
            let figure = |column: &&str| {
                let figure = line[*column].as_u64().with_context(|| format!("no {column} in {line}"))?;
                Ok(figure.to_string())
            };
            rows.insert(cell, columns.iter().map(figure).collect::<Result<_>>()?);
        }
        ensure!(!rows.is_empty(), "no test said anything of {of}");
        let mut table = Table::of(&["build"], columns.iter().copied());
        rows.into_iter().for_each(|(cell, figures)| table.row([vec![cell.to_owned()], figures].concat()));
        Ok(Piece { name, text: table.text() })
    };
    TABLES.into_iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_has_a_row_a_build_and_one_without_figures_is_refused() {
        let all = r#"{"of":"types","cell":"b","right":1,"wrong":0,"uncertain":2,"of these true":1,"unknown":3}
{"of":"types","cell":"a","right":4,"wrong":0,"uncertain":5,"of these true":5,"unknown":6}
{"of":"places","cell":"a","right":1,"wrong":0,"uncertain":2,"of these true":1,"unknown":3}
{"of":"spawns","cell":"a","right":1,"wrong":0,"unknown":0,"whole":2,"cut":3}
{"of":"waits","cell":"a","right":1,"wrong":0,"unknown":3}"#;
        let found = pieces(all).expect("all of it is there");
        assert!(found[0].text.ends_with("| a | 4 | 0 | 5 | 5 | 6 |\n| b | 1 | 0 | 2 | 1 | 3 |\n"), "{}", found[0].text);
        let without: Vec<&str> = all.lines().take(4).collect();
        assert!(pieces(&without.join("\n")).is_err());
        assert!(pieces(&all.replace("\"whole\":2,", "")).is_err());
    }
}
