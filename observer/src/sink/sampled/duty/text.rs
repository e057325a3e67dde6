//! A table of who is busy, by windows.

use std::io::{self, Write};

use anstyle::AnsiColor;

use crate::model::{Ns, Scaled};
use crate::sink::image_lines::write_image;
use crate::sink::sampled::text::{SampledText, label, seconds};
use crate::sink::text::enclosure;

use super::{DutyBusy, DutyEnd, DutyInterval, DutyReport, DutyStart};

impl SampledText {
    pub(in crate::sink::sampled) fn duty(&mut self, report: &DutyReport<'_>, out: &mut dyn Write) -> io::Result<()> {
        match report {
            DutyReport::Start(start) => self.duty_start(start, out),
            DutyReport::Interval(interval) => self.duty_interval(interval, out),
            DutyReport::Busy(busy) => self.duty_busy(busy, out),
            DutyReport::End(end) => duty_end(end, out),
        }
    }

    fn duty_start(&mut self, start: &DutyStart<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.began = start.at;
        for target in &start.targets {
            writeln!(out, "looking for a part of the time at pid {} {}{}", target.pid, target.exe, enclosure(target))?;
            target.images.iter().try_for_each(|mapped| write_image(mapped, "", out))?;
            for missing in start.missing.iter().chain(&target.missing) {
                writeln!(out, "  {} {}: {}", self.paint(AnsiColor::Red, "missing"), missing.event, missing.reason)?;
            }
        }
        let (part, window, ms) = (start.duty.0 * 100.0, start.window.0 as f64 / 1e6, start.attach.0 as f64 / 1e6);
        writeln!(
            out,
            "every poll for {part} % of the time, in windows of {window:.0} ms by {}; loaded in {ms:.1} ms; bounds are of 95 %",
            start.mechanism
        )
    }

    fn duty_interval(&mut self, of: &DutyInterval, out: &mut dyn Write) -> io::Result<()> {
        self.rows = 0;
        let when = match of.total {
            true => format!("all {}", seconds(of.during)),
            false => format!("{:.3} s", self.seconds(of.at)),
        };
        let (pid, windows, measured, cut) = (of.pid, of.windows, seconds(of.measured), of.cut);
        if windows == 0 {
            return writeln!(out, "\n{when}  pid {pid}: no window, nothing is known");
        }
        let cut = if cut > 0 { format!(", {cut} of them cut") } else { String::new() };
        writeln!(
            out,
            "\n{when}  pid {pid}: {} in polls ({}), {} polls a second; {} polls seen{cut} in {windows} windows of {measured} \
             together",
            spoken(&of.busy),
            between(&of.busy),
            rate(&of.per_second),
            of.polls,
        )?;
        match of.polls {
            0 => Ok(()),
            _ => writeln!(
                out,
                "{:>10} {:>19} {:>9} {:>10} {:>10}  future",
                "busy", "between", "of polls", "polls/s", "longest"
            ),
        }
    }

    fn duty_busy(&mut self, busy: &DutyBusy<'_>, out: &mut dyn Write) -> io::Result<()> {
        if !self.row_fits(out)? {
            return Ok(());
        }
        let task = busy.task.map_or(String::new(), |task| format!("  task {task}"));
        let name = if busy.types.is_empty() { "of a type that was not seen".to_owned() } else { label(&busy.types) };
        let longest = format!("{:.3} ms{}", busy.longest.0 as f64 / 1e6, if busy.cut > 0 { "+" } else { "" });
        writeln!(
            out,
            "{:>10} {:>19} {:>7.1} % {:>10} {longest:>10}  {name}{task}",
            spoken(&busy.busy),
            between(&busy.busy),
            busy.of_polls * 100.0,
            rate(&busy.per_second),
        )
    }
}

fn duty_end(end: &DutyEnd, out: &mut dyn Write) -> io::Result<()> {
    let ms = |span: Option<Ns>| span.map_or("?".to_owned(), |span| format!("{:.1}", span.0 as f64 / 1e6));
    let differing = match end.differing {
        0 => String::new(),
        count => format!("; {count} points left out, memory was not the file's there"),
    };
    writeln!(
        out,
        "ended ({}): {} polls seen in {} windows, {} cut; probes were in for {}, {} hits; putting them in took {} ms \
         ({} at most), taking them out {} ms ({} at most); {} lost, {} malformed{differing}",
        end.reason.as_str(),
        end.polls,
        end.windows,
        end.cut,
        seconds(end.planted),
        end.hits,
        ms(end.attach.median),
        ms(end.attach.longest),
        ms(end.detach.median),
        ms(end.detach.longest),
        end.lost,
        end.malformed,
    )
}

fn spoken(time: &Scaled) -> String {
    seconds(Ns(time.value as u64))
}

fn between(time: &Scaled) -> String {
    match time.bounds {
        Ok((low, high)) => format!("{} {}", seconds(Ns(low as u64)), seconds(Ns(high as u64))),
        Err(_) => "error unknown".to_owned(),
    }
}

fn rate(rate: &Scaled) -> String {
    format!("{:.1}", rate.value)
}
