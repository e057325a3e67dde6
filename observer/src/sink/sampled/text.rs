//! Tables of who is busy, and a paragraph for each poll that blocks.

use std::io::{self, Write};

use anstyle::AnsiColor;

use crate::model::{Missing, Ns, TargetEntry, TypeEntry};
use crate::sink::image_lines::write_image;
use crate::sink::label::future_label;
use crate::sink::phrase::{cost, enclosure, lost_news};
use crate::sink::sites::origin::calls;
use crate::sink::{Manner, Spelling};

use super::{Blocking, Busy, How, Interval, SampledEnd, SampledReport, SampledSink, SampledStart, SampledTotals};

/// Lines of one table.
const ROWS: usize = 20;

/// Writes a table for each interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct SampledText {
    manner: Manner,
    began: Ns,
    /// All processes of the machine are sampled: of those that did not run nothing is said.
    all: bool,
    /// Of the table that is written.
    rows: usize,
}

impl SampledText {
    /// Nothing was said yet.
    pub fn new(manner: Manner) -> Self {
        Self { manner, ..Self::default() }
    }

    /// With times since this moment.
    pub fn since(self, began: Ns) -> Self {
        Self { began, ..self }
    }

    fn seconds(&self, at: Ns) -> f64 {
        at.since(self.began).0 as f64 / 1e9
    }

    fn start(&mut self, start: &SampledStart<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.began = start.at;
        for target in &start.targets {
            writeln!(out, "sampling pid {} {}{}", target.pid, target.exe, enclosure(target))?;
            self.images(target, start.missing, out)?;
        }
        self.all = start.following == "everyone";
        let whom = if self.all { "all processes that run something to sample" } else { "the program that is launched" };
        if start.targets.is_empty() {
            writeln!(out, "sampling {whom}")?;
            self.missing(start.missing, out)?;
        }
        let (hz, ms) = (start.hz, start.attach.0 as f64 / 1e6);
        writeln!(out, "{hz} samples a second of CPU, nothing planted; began in {ms:.1} ms; bounds are of 95 %")
    }

    /// A target's images, and what will be missing of it.
    fn images(&self, target: &TargetEntry, besides: &[Missing], out: &mut dyn Write) -> io::Result<()> {
        target.images.iter().try_for_each(|mapped| write_image(mapped, "", out))?;
        self.missing(besides.iter().chain(&target.missing), out)
    }

    fn missing<'a>(&self, missing: impl IntoIterator<Item = &'a Missing>, out: &mut dyn Write) -> io::Result<()> {
        missing.into_iter().try_for_each(|Missing { event, reason }| {
            writeln!(out, "  {} {event}: {reason}", self.manner.paint(AnsiColor::Red, "missing"))
        })
    }

    fn interval(&mut self, of: &Interval<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.rows = 0;
        let percent = |n: u64| if of.samples == 0 { 0.0 } else { n as f64 * 100.0 / of.samples as f64 };
        let unknown: u64 = of.unknown.iter().map(|(_, n)| n).sum();
        let when = match of.total {
            true => format!("all {:.1} s", of.during.0 as f64 / 1e9),
            false => format!("{:.3} s", self.seconds(of.at)),
        };
        let (pid, samples, busy) = (of.pid, of.samples, seconds(of.busy.busy));
        if samples == 0 && self.all {
            return Ok(());
        }
        if samples == 0 {
            return writeln!(out, "\n{when}  pid {pid}: no sample{}", unseen(of));
        }
        let (polls, outside) = (percent(of.in_polls), percent(of.outside));
        let why: Vec<String> = of.unknown.iter().map(|(why, n)| format!("{why} {n}")).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
        writeln!(
            out,
            "\n{when}  pid {pid}: {busy} on CPU, {samples} samples; {polls:.1} % in tasks, {outside:.1} % in the runtime's or \
             other code, {:.1} % unknown{why}",
            percent(unknown)
        )?;
        if of.in_polls == 0 {
            return Ok(());
        }
        writeln!(out, "{:>10} {:>19} {:>7} {:>8}  future", "busy", "between", "share", "samples")
    }

    fn busy(&mut self, busy: &Busy<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.rows += 1;
        match self.rows.cmp(&(ROWS + 1)) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return writeln!(out, "{:>10} and more, see --json", "..."),
            std::cmp::Ordering::Greater => return Ok(()),
        }
        let between = format!("{} {}", seconds(busy.busy.low), seconds(busy.busy.high));
        let task = busy.task.map_or(String::new(), |task| format!("  task {task}"));
        let (time, share, samples, name) =
            (seconds(busy.busy.busy), busy.share * 100.0, busy.samples, label(&busy.types, self.manner.spelling));
        writeln!(out, "{time:>10} {between:>19} {share:>5.1} % {samples:>8}  {name}{task}")
    }

    fn blocking(&self, of: &Blocking<'_>, out: &mut dyn Write) -> io::Result<()> {
        let how = match of.how {
            How::Waiting => "its thread waits in it".to_owned(),
            How::OnCpu { samples, looks } => format!(
                "on CPU, {samples} samples in a row, seen to run {looks} times besides; not certain that it is one poll"
            ),
        };
        let task = of.task.map_or(String::new(), |task| format!("  task {task}"));
        let (at, word, tid) = (self.seconds(of.at), self.manner.paint(AnsiColor::Red, "BLOCKING"), of.tid);
        let ms = of.during.0 as f64 / 1e6;
        writeln!(out, "{at:.3} s  {word}  {}{task}  thread {tid}", label(&of.types, self.manner.spelling))?;
        writeln!(out, "          for {ms:.0} ms at least: {how}; in")?;
        calls(of.stack).iter().try_for_each(|call| writeln!(out, "            {call}"))
    }

    fn end(&self, end: &SampledEnd, out: &mut dyn Write) -> io::Result<()> {
        let SampledTotals { samples, in_polls, outside, unknown, lost, throttled, malformed, blocking } = end.totals;
        let pauses = if throttled > 0 { format!(", {throttled} pauses by the kernel") } else { String::new() };
        writeln!(
            out,
            "ended ({}): {samples} samples, {in_polls} in polls, {outside} outside, {unknown} unknown; {lost} lost, \
             {malformed} malformed{pauses}; {blocking} polls named as blocking",
            end.reason.as_str()
        )?;
        writeln!(out, "cost: {}", cost(&end.overhead))
    }
}

impl SampledSink for SampledText {
    fn say(&mut self, report: &SampledReport<'_>, out: &mut dyn Write) -> io::Result<()> {
        match report {
            SampledReport::Start(start) => self.start(start, out),
            SampledReport::Interval(interval) => self.interval(interval, out),
            SampledReport::Busy(busy) => self.busy(busy, out),
            SampledReport::Blocking(blocking) => self.blocking(blocking, out),
            SampledReport::Target { at, entry, why, .. } => {
                let (seconds, word) = (self.seconds(*at), self.manner.paint(AnsiColor::Green, "target"));
                writeln!(out, "{seconds:.3} s  {word}  pid {} {}{} ({why})", entry.pid, entry.exe, enclosure(entry))?;
                self.images(entry, &[], out)
            }
            SampledReport::Ended { at, pid, why } => {
                writeln!(
                    out,
                    "{:.3} s  {}  pid {pid} ({why})",
                    self.seconds(*at),
                    self.manner.paint(AnsiColor::Yellow, "ended")
                )
            }
            SampledReport::Lost { at, count } => {
                let word = self.manner.paint(AnsiColor::Red, "lost");
                writeln!(out, "{:.3} s  {word}  {count} samples: figures are now \"at least\"", self.seconds(*at))
            }
            SampledReport::LostNews(lost) => {
                let word = self.manner.paint(AnsiColor::Red, "lost");
                writeln!(out, "{:.3} s  {word}  {}", self.seconds(lost.at), lost_news(lost))
            }
            SampledReport::Overhead(at, overhead) => {
                let word = self.manner.paint(AnsiColor::Cyan, "overhead");
                writeln!(out, "{:.3} s  {word}  {}", self.seconds(*at), cost(overhead))
            }
            SampledReport::End(end) => self.end(end, out),
        }
    }
}

/// One type, or all that it may be.
fn label(types: &[&TypeEntry], spelling: Spelling) -> String {
    types.iter().map(|entry| future_label(entry, spelling)).collect::<Vec<_>>().join(" or ")
}

/// What no sample says: little is not nothing, and one that was lost may have been its.
fn unseen(of: &Interval<'_>) -> String {
    match of.lost {
        0 => format!(": ran at most {} (95 %)", seconds(of.busy.high)),
        lost => format!(", {lost} samples of the machine were lost: whether it ran is not known"),
    }
}

fn seconds(span: Ns) -> String {
    format!("{:.3} s", span.0 as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Estimate, Pid};

    #[test]
    fn without_a_sample_it_is_said_how_much_may_have_run_and_nothing_where_samples_were_lost() {
        let said = |lost| {
            let interval = Interval {
                at: Ns(1_000_000_000),
                pid: Pid(7),
                during: Ns(1_000_000_000),
                total: false,
                lost,
                samples: 0,
                busy: Estimate::of(0, Ns(10_000_000)),
                in_polls: 0,
                outside: 0,
                unknown: &[],
                untold: &[],
            };
            let mut out = Vec::new();
            SampledText::default().say(&SampledReport::Interval(interval), &mut out).expect("a Vec takes everything");
            String::from_utf8(out).expect("is text")
        };
        assert_eq!(said(0), "\n1.000 s  pid 7: no sample: ran at most 0.037 s (95 %)\n");
        let lost = "\n1.000 s  pid 7: no sample, 5 samples of the machine were lost: whether it ran is not known\n";
        assert_eq!(said(5), lost);
    }
}
