//! The watching itself for people: whom, what is missing and who has gone while it lasts, what it was in all when it ends.
//!
//! Does not know: who spawned whom.

use std::io::{self, Write};

use anstyle::AnsiColor;

use crate::lifecycle::Watched;
use crate::model::{Event, EventKind, LongStack, Missing, Ns, TargetEntry};
use crate::sink::image_lines::write_image;
use crate::sink::phrase::{cost, enclosure, left, left_out, lost_news, plural};
use crate::sink::{End, EndReason, Gone, LostNews, Manner, Overhead, Polled, Sink, Spawned, Start, Stepped};

/// Says it, and nothing of tasks.
#[derive(Debug)]
pub(super) struct WatchText {
    manner: Manner,
    began: Ns,
}

impl WatchText {
    pub(super) fn new(manner: Manner) -> Self {
        Self { manner, began: Ns(0) }
    }

    fn begin(&self, target: &TargetEntry, common: &[Missing], out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "watching pid {} {}{}", target.pid, target.exe, enclosure(target))?;
        target.images.iter().try_for_each(|mapped| write_image(mapped, "", out))?;
        self.missing(common.iter().chain(&target.missing), out)
    }

    fn missing<'a>(&self, missing: impl IntoIterator<Item = &'a Missing>, out: &mut dyn Write) -> io::Result<()> {
        let word = self.manner.paint(AnsiColor::Red, "missing");
        missing.into_iter().try_for_each(|Missing { event, reason }| writeln!(out, "  {word} {event}: {reason}"))
    }

    fn remark(&self, word: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} {text}", self.manner.paint(AnsiColor::Yellow, word))
    }
}

impl Sink for WatchText {
    fn start(&mut self, start: &Start<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.began = start.at;
        start.targets.iter().try_for_each(|target| self.begin(target, start.missing, out))?;
        if start.targets.is_empty() {
            writeln!(out, "watching whatever runs a supported runtime")?;
            self.missing(start.missing, out)?;
        }
        Ok(())
    }

    fn target(&mut self, _: Ns, target: &TargetEntry, _: &'static str, out: &mut dyn Write) -> io::Result<()> {
        self.begin(target, &[], out)
    }

    fn gone(&mut self, gone: &Gone, out: &mut dyn Write) -> io::Result<()> {
        self.remark("gone", &format!("pid {} ({}), {}", gone.pid, gone.why, left(gone)), out)
    }

    fn degraded(&mut self, _: Ns, what: &'static str, reason: &str, out: &mut dyn Write) -> io::Result<()> {
        self.remark("degraded", &format!("from now on without: {what}; {reason}"), out)
    }

    fn lost_news(&mut self, lost: &LostNews, out: &mut dyn Write) -> io::Result<()> {
        self.remark("lost", &lost_news(lost), out)
    }

    fn stepped(&mut self, _: &Stepped, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn polled(&mut self, _: Ns, _: &[Polled], _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn overhead(&mut self, _: Ns, _: &Overhead, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn event(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        match event.kind {
            EventKind::Lost { count } => self.remark("lost", &format!("{count} records found no room"), out),
            _ => Ok(()),
        }
    }

    fn spawned(&mut self, _: &Spawned, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn stack(&mut self, _: Ns, _: &LongStack, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, end: &End, out: &mut dyn Write) -> io::Result<()> {
        let totals = &end.totals;
        let seconds = end.at.since(self.began).0 as f64 / 1e9;
        let least = match totals.lost {
            0 => String::new(),
            lost => format!("; {lost} records were lost, so all figures are at least so large"),
        };
        let polls = totals.polls.unwrap_or(0);
        let gone = match totals.ended_with_process {
            0 => String::new(),
            gone => format!(", {gone} alive when their program ended"),
        };
        let alive = match (totals.watched, end.reason) {
            (Watched::Nothing, _) => "alive: not known, nothing was planted".to_owned(),
            (_, EndReason::Exited) => format!("{} were alive when it ended", totals.live),
            (_, EndReason::Duration | EndReason::Signal) => format!("{} alive", totals.live),
        };
        writeln!(
            out,
            "\n{seconds:.1} s ({}): {} tasks met, {} ended, {alive}{gone}, {polls} {}{least}",
            end.reason.as_str(),
            totals.init,
            totals.destroy,
            plural(polls, "poll", "polls")
        )?;
        for (count, what) in [
            (totals.unsure, "of those that are alive were perhaps freed, unseen"),
            (totals.malformed, "records could not be understood"),
            (totals.late, "records came too late to be put in order"),
            (totals.lost_news, "news of processes were lost"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .chain(left_out(totals))
        {
            writeln!(out, "{count} {what}")?;
        }
        writeln!(out, "cost: {}", cost(&end.overhead))
    }
}
