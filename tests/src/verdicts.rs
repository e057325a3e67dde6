//! The table of verdicts: what is right for each place, and what was found. A Markdown table, whose verdicts are compared
//! with the one in the repository and whose figures are those of the run that wrote it.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use crate::look::Look;
use crate::places::{Place, Places};
use crate::stream::word;

/// What one run said of one place in one cell.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The cell.
    pub cell: String,
    /// The program.
    pub program: String,
    /// The place.
    pub place: Place,
    /// Verdicts, in the order of the alphabet.
    pub found: BTreeSet<String>,
    /// The evidence of the first of them, in words.
    pub evidence: String,
    /// What the idle tasks of the finding wait for, the most frequent first.
    pub waits: String,
}

/// Whether verdicts are right for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Right,
    /// Nothing was said of tasks that are ill.
    Missed,
    /// Only a hint, where there is nothing to hint at.
    Hint,
    /// A grave verdict on what is not so.
    False,
}

impl Mark {
    fn as_str(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Missed => "missed",
            Self::Hint => "false hint",
            Self::False => "FALSE",
        }
    }
}

/// Every place of a program with what a run said of it.
pub fn seen(cell: &str, program: &str, look: &Look, pid: u32, places: &Places) -> Vec<Seen> {
    let findings = places.by_place(look.of("finding", pid));
    let of = |place: &Place| {
        let lines: &[&Value] = findings.get(&place.name).map_or(&[], Vec::as_slice);
        let waits = lines.first().and_then(|line| line["waits"].as_array());
        let waits: Vec<&str> = waits.into_iter().flatten().map(|wait| word(wait, "on")).collect();
        Seen {
            waits: waits.join(", "),
            cell: cell.to_owned(),
            program: program.to_owned(),
            place: place.clone(),
            found: lines.iter().map(|line| word(line, "verdict").to_owned()).collect(),
            evidence: lines
                .first()
                .map_or("", |line| word(&line["evidence"], "words"))
                .replace('\n', "; ")
                .replace('|', "\\|"),
        }
    };
    places.iter().map(of).collect()
}

impl Seen {
    /// Whether what was found is right.
    pub fn mark(&self) -> Mark {
        let right = self.place.right.as_str();
        // What is stuck may grow, too. No other place has two right verdicts.
        let grave = |verdict: &String| match verdict.as_str() {
            "stuck" => right != "stuck",
            "leaking" => right != "leaking" && !(right == "stuck" && self.place.moves),
            _ => false,
        };
        if self.found.iter().any(grave) {
            Mark::False
        } else if right == "healthy" {
            if self.found.is_empty() { Mark::Right } else { Mark::Hint }
        } else if self.found.contains(right) {
            Mark::Right
        } else {
            Mark::Missed
        }
    }

    /// What was found; a hint beside a graver verdict adds nothing, and comes and goes with the moment.
    fn verdicts(&self) -> String {
        let grave: Vec<&str> = self.found.iter().map(String::as_str).filter(|word| *word != "suspect").collect();
        match (grave.is_empty(), self.found.is_empty()) {
            (false, _) => grave.join(", "),
            (true, false) => "suspect".into(),
            (true, true) => "-".into(),
        }
    }

    /// The columns that must stay as they are, but for the cells.
    fn fixed(&self) -> [String; 5] {
        let (program, place, right) = (&self.program, &self.place.name, &self.place.right);
        [program.clone(), place.clone(), right.clone(), self.verdicts(), self.mark().as_str().into()]
    }
}

/// How many columns are compared: program to cells. The others are figures and words of one run.
const COMPARED: usize = 6;

/// The table, one row a place; a place that was judged differently in some cells has several.
pub fn table(all: &[Seen]) -> String {
    let mut rows: Vec<([String; 5], Vec<&Seen>)> = Vec::new();
    for seen in all {
        match rows.iter_mut().find(|(fixed, _)| *fixed == seen.fixed()) {
            Some((_, row)) => row.push(seen),
            None => rows.push((seen.fixed(), vec![seen])),
        }
    }
    let rank = |right: &str| ["stuck", "leaking", "suspect", "healthy"].iter().position(|word| *word == right);
    rows.sort_by_key(|([program, place, right, ..], _)| (program == "healthy", rank(right), place.clone()));
    let mut text = String::from(
        "| program | place | wanted | found | mark | cells | live | what its tasks do | evidence | they wait for |\n\
         |---|---|---|---|---|---|--:|---|---|---|\n",
    );
    for (fixed, row) in rows {
        let cells: Vec<&str> = row.iter().map(|seen| seen.cell.as_str()).collect();
        let Seen { place, evidence, waits, .. } = row[0];
        let fixed = fixed.join(" | ");
        let (cells, live, about) = (cells.join(", "), place.live, &place.about);
        writeln!(text, "| {fixed} | {cells} | {live} | {about} | {evidence} | {waits} |")
            .expect("a string takes any text");
    }
    text
}

/// The part of each row that must stay as it is.
pub fn compared(table: &str) -> Vec<String> {
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| program "));
    rows.map(|row| row.split('|').skip(1).take(COMPARED).map(str::trim).collect::<Vec<_>>().join(" | ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(cell: &str, right: &str, moves: bool, found: &[&str]) -> Seen {
        let place = Place {
            name: "pile".into(),
            offset: 16,
            live: 7,
            born: 9,
            moves,
            right: right.into(),
            about: "piles up".into(),
        };
        let found = found.iter().map(|word| (*word).to_owned()).collect();
        Seen {
            cell: cell.into(),
            program: "leaks".into(),
            place,
            found,
            evidence: "grows".into(),
            waits: "timer".into(),
        }
    }

    #[test]
    fn verdicts_are_marked_by_what_is_right() {
        let cases: [(&str, bool, &[&str], Mark); 9] = [
            ("healthy", true, &[], Mark::Right),
            ("healthy", true, &["suspect"], Mark::Hint),
            ("healthy", true, &["leaking"], Mark::False),
            ("stuck", false, &["stuck"], Mark::Right),
            ("stuck", true, &["leaking", "stuck"], Mark::Right),
            ("stuck", false, &["leaking", "stuck"], Mark::False),
            ("leaking", true, &["suspect"], Mark::Missed),
            ("leaking", true, &["leaking", "stuck"], Mark::False),
            ("suspect", false, &[], Mark::Missed),
        ];
        for (right, moves, found, mark) in cases {
            assert_eq!(judged("a", right, moves, found).mark(), mark, "{right} {moves} {found:?}");
        }
    }

    #[test]
    fn cells_that_agree_share_a_row_and_figures_are_not_compared() {
        let all = [
            judged("a", "leaking", true, &["leaking"]),
            judged("b", "leaking", true, &["leaking", "suspect"]),
            judged("c", "leaking", true, &[]),
        ];
        let table = table(&all);
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| leaks | pile | leaking | leaking | right | a, b | 7 | piles up | grows | timer |",
                "| leaks | pile | leaking | - | missed | c | 7 | piles up | grows | timer |"
            ]
        );
        assert_eq!(
            compared(&table),
            ["leaks | pile | leaking | leaking | right | a, b", "leaks | pile | leaking | - | missed | c"]
        );
    }
}
