//! What a doctor found, as a table that a tired person can read: the verdict of each row first, the next step under what is
//! missing, the sum last.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{DoctorReport, DoctorResult, DoctorRow, DoctorSink, Fact, PointsOf, costs};
use crate::model::{Pid, TargetEntry};
use crate::sink::image_lines::write_image;

/// Width of the column of verdicts, and of that of needs.
const VERDICT: usize = 9;
const NEED: usize = 16;

/// Writes the table.
#[derive(Clone, Copy, Debug)]
pub struct DoctorText {
    colour: bool,
    /// Of which process the last row was.
    of: Option<Option<Pid>>,
}

impl DoctorText {
    /// `colour` should be true only where the output is a terminal and NO_COLOR is not set.
    pub fn new(colour: bool) -> Self {
        Self { colour, of: None }
    }

    fn paint(&self, colour: AnsiColor, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let style = Style::new().fg_color(Some(colour.into())).bold();
        format!("{}{text}{}", style.render(), style.render_reset())
    }

    fn row(&self, row: &DoctorRow, out: &mut dyn Write) -> io::Result<()> {
        let (colour, word) = match (&row.result, row.optional) {
            (DoctorResult::Works { .. }, _) => (AnsiColor::Green, "works"),
            (DoctorResult::Risk { .. }, _) => (AnsiColor::Yellow, "risk"),
            (DoctorResult::Missing { .. }, true) => (AnsiColor::Yellow, "missing"),
            (DoctorResult::Missing { .. }, false) => (AnsiColor::Red, "MISSING"),
            (DoctorResult::NotTried { .. }, _) => (AnsiColor::Cyan, "not tried"),
        };
        let optional = if row.optional { "optional; " } else { "" };
        let verdict = self.paint(colour, &format!("{word:<VERDICT$}"));
        writeln!(out, "  {verdict}  {:<NEED$}  {optional}{}", row.need, row.purpose)?;
        let indent = VERDICT + 4;
        let mut under = |what: &str, text: &str| writeln!(out, "{:indent$}{what}{text}", "");
        match &row.result {
            DoctorResult::Works { detail: None } => Ok(()),
            DoctorResult::Works { detail: Some(detail) } => under("", detail),
            DoctorResult::NotTried { why } => under("why: ", why),
            DoctorResult::Risk { why, step } | DoctorResult::Missing { why, step, errno: None } => {
                under("why: ", why)?;
                under("next step: ", step)
            }
            DoctorResult::Missing { why, step, errno: Some(errno) } => {
                let error = io::Error::from_raw_os_error(*errno).to_string();
                let said = if why.contains(&error) { why.clone() } else { format!("{why} [{error}]") };
                under("why: ", &said)?;
                under("next step: ", step)
            }
        }
    }

    fn target(&self, entry: &TargetEntry, points: &[PointsOf], cost: &str, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\nWould be observed in pid {} {}", entry.pid, entry.exe)?;
        for mapped in &entry.images {
            write_image(mapped, "", out)?;
        }
        writeln!(out, "  {:>8} {:>15}  points", "count", "single-stepped")?;
        for PointsOf { role, purpose, count, single_stepped } in points {
            writeln!(out, "  {count:>8} {single_stepped:>15}  {role}: {purpose}")?;
        }
        writeln!(out, "  {cost}")?;
        for missing in &entry.missing {
            writeln!(out, "  {} {}: {}", self.paint(AnsiColor::Yellow, "missing"), missing.event, missing.reason)?;
        }
        Ok(())
    }
}

impl DoctorSink for DoctorText {
    fn say(&mut self, report: &DoctorReport<'_>, out: &mut dyn Write) -> io::Result<()> {
        match report {
            DoctorReport::Start { facts, .. } => {
                let width = facts.iter().map(|fact| fact.name.len()).max().unwrap_or(0);
                for Fact { name, value, note, .. } in *facts {
                    let value = value.as_deref().unwrap_or("not known");
                    let note = note.as_ref().map_or(String::new(), |note| format!("  ({note})"));
                    writeln!(out, "{name:<width$}  {value}{note}")?;
                }
                Ok(())
            }
            DoctorReport::Need { pid, row, .. } => {
                if self.of.replace(*pid) != Some(*pid) {
                    match pid {
                        None => writeln!(out, "\nThis machine, this user")?,
                        Some(pid) => writeln!(out, "\nProcess {pid}")?,
                    }
                }
                self.row(row, out)
            }
            DoctorReport::Target { entry, points, cost, hit_ns, slow, expected, .. } => {
                self.target(entry, points, cost, out)?;
                costs::write_slow(slow, out)?;
                costs::write_expected(*hit_ns, expected, out)
            }
            DoctorReport::End { summary, .. } => {
                writeln!(out)?;
                let width = summary.iter().map(|(what, ..)| what.len()).max().unwrap_or(0) + 1;
                for (what, verdict, good) in *summary {
                    let colour = if *good { AnsiColor::Green } else { AnsiColor::Red };
                    writeln!(out, "{:<width$} {}", format!("{what}:"), self.paint(colour, verdict))?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ns;

    /// Linux's number for it.
    const EPERM: i32 = 1;

    fn said(colour: bool) -> String {
        let mut out = Vec::new();
        let result =
            DoctorResult::Missing { why: "lacks it".to_owned(), errno: Some(EPERM), step: "get it".to_owned() };
        let row = DoctorRow { need: "rings", purpose: "records", optional: false, result };
        DoctorText::new(colour).say(&DoctorReport::Need { at: Ns(0), pid: None, row }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_next_step_stands_under_what_is_missing() {
        let expected = "\nThis machine, this user\n  MISSING    rings             records\n             \
            why: lacks it [Operation not permitted (os error 1)]\n             next step: get it\n";
        assert_eq!(said(false), expected);
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        assert!(!said(false).contains('\u{1b}') && said(true).contains('\u{1b}'));
    }
}
