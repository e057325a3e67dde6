//! Tables and findings that a person can read.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use crate::model::{Ns, Waiting};
use crate::sink::label::{future_label, is_marked};
use crate::sink::phrase::{MARKED, plural};
use crate::sink::{Manner, Spelling};
use crate::verdict::{Evidence, Finding, Grows, SiteCount, Verdict, WaitCount, Why};

use super::{CensusReport, FuturesCount, News, Report, SiteOf, SiteSink, SitesEnd, SpawnsWatched};
use super::{origin, stack};

/// Writes a table of sites, a line a task, and a paragraph a finding.
#[derive(Clone, Copy, Debug)]
pub struct SitesText {
    manner: Manner,
    shows: Shows,
    /// The sites of one process stand under one head.
    head_said: bool,
    many: bool,
    /// Something was said with a question mark.
    marked: bool,
}

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// What lives: each census is a table.
    Tables,
    /// What is ill: a census is worth a line only if something is wrong with it.
    Findings,
}

impl SitesText {
    /// Shows one or the other.
    pub fn new(shows: Shows, manner: Manner) -> Self {
        Self { manner, shows, head_said: false, many: false, marked: false }
    }

    fn paint(&self, colour: AnsiColor, text: &str) -> String {
        if !self.manner.colour {
            return text.to_owned();
        }
        let style = Style::new().fg_color(Some(colour.into())).bold();
        format!("{}{text}{}", style.render(), style.render_reset())
    }

    fn census(&mut self, census: &CensusReport<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.head_said = false;
        let (took, mib) = (census.took.0 as f64 / 1e6, census.bytes as f64 / f64::from(1 << 20));
        let CensusReport { pid, exe, live, .. } = census;
        if self.shows == Shows::Findings && census.doubt.is_none() {
            return Ok(());
        }
        let within = match census.futures {
            FuturesCount { low, high: Some(high), .. } if low == high => String::new(),
            FuturesCount { low, high: Some(high), .. } => format!(" (futures: {low} to {high})"),
            FuturesCount { low, high: None, .. } => format!(" (futures: at least {low})"),
        };
        writeln!(
            out,
            "pid {pid} {exe}: {live} live tasks{within}; read {mib:.1} MiB in {took:.1} ms, no probe attached"
        )?;
        match census.doubt {
            Some(doubt) => writeln!(out, "  {} {doubt}", self.paint(AnsiColor::Yellow, "not certain:")),
            None => Ok(()),
        }
    }

    fn site(&mut self, of: &SiteOf<'_>, count: &SiteCount, out: &mut dyn Write) -> io::Result<()> {
        if !std::mem::replace(&mut self.head_said, true) {
            writeln!(
                out,
                "{:>9} {:>9} {:>9} {:>7} {:>9} {:>9}  future",
                "live", "idle", "scheduled", "running", "complete", "stuck"
            )?;
        }
        let SiteCount { live, idle, scheduled, running, complete, stuck, .. } = count;
        let stuck = match stuck {
            0 => format!("{:>9}", 0),
            stuck => self.paint(AnsiColor::Red, &format!("{stuck:>9}")),
        };
        writeln!(
            out,
            "{live:>9} {idle:>9} {scheduled:>9} {running:>7} {complete:>9} {stuck}  {}",
            label(of, self.manner.spelling)
        )
    }

    fn finding(&self, of: &SiteOf<'_>, finding: &Finding, news: News, out: &mut dyn Write) -> io::Result<()> {
        let verdict = finding.evidence.verdict();
        let word = format!("{:<8}", verdict.as_str().to_uppercase());
        let word = match news {
            News::Arisen => self.paint(colour_of(verdict), &word),
            News::Vanished => self.paint(AnsiColor::Green, &format!("no more {}", word.trim_end())),
        };
        let process = if self.many { format!("  pid {} {}", of.pid, of.exe) } else { String::new() };
        writeln!(out, "{word}  {}{process}", label(of, self.manner.spelling))?;
        match news {
            News::Arisen => writeln!(out, "          {}", evidence(finding).replace("; ", "\n          ")),
            News::Vanished => Ok(()),
        }
    }

    fn end(&self, end: &SitesEnd, out: &mut dyn Write) -> io::Result<()> {
        let seconds = end.elapsed.0 as f64 / 1e9;
        if self.marked {
            writeln!(out, "{MARKED}")?;
        }
        let Some(findings) = end.findings else { return Ok(()) };
        if let Some(SpawnsWatched { seen, lost, malformed, dropped, .. }) = end.spawns {
            writeln!(out, "{seen} spawns seen, {lost} lost, {malformed} not understood, {dropped} not kept")?;
        }
        let (sites, tasks) = end.healthy;
        let unreadable = match end.unreadable {
            0 => String::new(),
            n => format!("; {n} of the processes could not be looked at to the end"),
        };
        let (word, types, live) =
            (plural(findings, "finding", "findings"), plural(sites, "type", "types"), plural(tasks, "task", "tasks"));
        writeln!(
            out,
            "{findings} {word}; nothing is said against {sites} {types} with {tasks} live {live}; {seconds:.1} s{unreadable}"
        )
    }
}

impl SiteSink for SitesText {
    fn say(&mut self, report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
        if let Report::Site { of, .. }
        | Report::Task { of, .. }
        | Report::Stack { of, .. }
        | Report::Finding { of, .. }
        | Report::Undecided { of, .. } = report
        {
            self.marked |= is_marked(&of.entry.task.future, of.entry.task.place.as_ref());
        }
        match report {
            Report::Start { targets, missing, .. } => {
                self.many = targets.len() > 1;
                for target in targets {
                    for missing in missing.iter().chain(&target.missing) {
                        let word = self.paint(AnsiColor::Yellow, "missing");
                        writeln!(out, "pid {}: {word} {}: {}", target.pid, missing.event, missing.reason)?;
                    }
                }
                Ok(())
            }
            Report::Unreadable { pid, reason, .. } => {
                writeln!(out, "pid {pid}: {} {reason}", self.paint(AnsiColor::Yellow, "not looked at:"))
            }
            Report::Census(census) => self.census(census, out),
            Report::Site { of, count, waits, .. } => {
                self.site(of, count, out)?;
                waits_of(waits, &" ".repeat(59), out)
            }
            Report::Task { of, task, stuck, waits, .. } => {
                let state = task.state;
                let handle = if state.has_join_interest() { ", join handle" } else { "" };
                let thread = task.running_on.map_or(String::new(), |tid| format!(" on thread {tid}"));
                let cancelled = if state.is_cancelled() { ", cancelled" } else { "" };
                let stuck = if *stuck { format!("  {}", self.paint(AnsiColor::Red, "stuck")) } else { String::new() };
                writeln!(
                    out,
                    "  task {:<8} {:<9}{thread} {} references{handle}{cancelled}  {}{stuck}",
                    task.id,
                    state.activity().as_str(),
                    state.references(),
                    label(of, self.manner.spelling),
                )?;
                waits.iter().try_for_each(|waiting| writeln!(out, "                waits {waiting}"))
            }
            Report::Stack { of, tasks, stack, waits, .. } => {
                writeln!(out, "{:>9}  {}  ({})", tasks.len(), label(of, self.manner.spelling), stack::ids(tasks))?;
                match stack {
                    Ok(frames) => stack::write(frames, self.manner.spelling, out)?,
                    Err(unstacked) => {
                        writeln!(out, "          {} {}", self.paint(AnsiColor::Yellow, "not told:"), unstacked.reason)?;
                    }
                }
                waits_of(waits, "          ", out)
            }
            Report::Left { sites, tasks, .. } => {
                let (types, live) = (plural(*sites, "type", "types"), plural(*tasks, "task", "tasks"));
                writeln!(out, "  and {sites} more {types} with {tasks} live {live}")
            }
            Report::Finding { of, finding, news, waits, origins, .. } => {
                self.finding(of, finding, *news, out)?;
                waits_of(waits, "          ", out)?;
                match (news, origins) {
                    (News::Arisen, Some(origins)) => origin::write(origins, finding.live, self.manner.spelling, out),
                    _ => Ok(()),
                }
            }
            Report::Undecided { of, undecided, .. } => {
                let word = self.paint(AnsiColor::Yellow, "undecided");
                writeln!(out, "{word} {}", label(of, self.manner.spelling))?;
                writeln!(
                    out,
                    "          {} live and growing; not enough evidence yet: {}",
                    undecided.live,
                    why(undecided.why)
                )
            }
            Report::End(end) => self.end(end, out),
        }
    }
}

/// What tasks wait for, most first.
fn waits_of(waits: &[WaitCount], indent: &str, out: &mut dyn Write) -> io::Result<()> {
    for WaitCount { tasks, example } in waits {
        match (tasks, kind(example)) {
            (1, _) => writeln!(out, "{indent}1 waits {example}")?,
            (_, None) if matches!(example, Waiting::OwnFuture) => {
                writeln!(out, "{indent}{tasks} wait on something in their own futures")?;
            }
            (_, Some(kind)) => writeln!(out, "{indent}{tasks} wait {kind}, one of them {example}")?,
            (_, None) => writeln!(out, "{indent}{tasks} wait {example}")?,
        }
    }
    Ok(())
}

/// What several tasks wait for, each for one of its own; `None` where the same words hold for all of them.
fn kind(example: &Waiting) -> Option<&'static str> {
    match example {
        Waiting::Join { .. } => Some("for other tasks to end"),
        Waiting::Io { .. } => Some("on file descriptors"),
        Waiting::Semaphore { .. } => Some("for semaphores or mutexes"),
        Waiting::Notify { .. } => Some("to be notified"),
        Waiting::Queue { .. } => Some("in queues"),
        Waiting::Object { .. } => Some("on objects on the heap (channels are such)"),
        Waiting::HeldBy { .. } => Some("on something in other tasks' futures"),
        Waiting::Timer { .. } | Waiting::OwnFuture | Waiting::Nobody | Waiting::Unknown(_) => None,
    }
}

/// The evidence of a finding in words.
pub(super) fn evidence(finding: &Finding) -> String {
    let Finding { live, tasks, .. } = finding;
    let seen = span(finding.seen_for);
    match finding.evidence {
        Evidence::Stuck { with_handle, apart } => {
            let handles = match with_handle {
                0 => "none with a join handle".to_owned(),
                n if n == *tasks => "each with a join handle".to_owned(),
                n => format!("{n} of them with a join handle"),
            };
            format!(
                "{tasks} of {live} live: idle at two readings {} apart, and no reference is left that could be a waker \
                 ({handles}); nothing polls them again, short of an abort or a shutdown",
                span(apart)
            )
        }
        Evidence::Leaking { grows, slope, fit, born, ended, readings, during } => {
            let what = match grows {
                Grows::All => "live tasks grow",
                Grows::Part => "those that outlive a whole step grow, in a busy place,",
            };
            format!(
                "{live} live: {what} by {slope:.1} a second (fit {fit:.3}) over {readings} readings in {}; seen born {born}, \
                 ended {ended}; the oldest has been seen for {seen} and may be older",
                span(during)
            )
        }
        Evidence::Ring { readings } => format!(
            "{tasks} of {live} live: idle and unchanged at all {readings} readings over {seen}; they wait for locks or for tasks to \
             end, and each task that is known to hold what they wait for waits in the same way, or is stuck; a hint of a deadlock, not a proof"
        ),
        Evidence::Suspect { newer, readings } => format!(
            "{tasks} of {live} live: idle and unchanged at all {readings} readings over {seen}, while at least {newer} others were \
             spawned after them; a hint, not a proof"
        ),
    }
}

/// Why a site is not judged, in words.
pub(super) fn why(why: Why) -> String {
    match why {
        Why::Readings { had, needed } => format!("{had} readings of {needed} (--samples)"),
        Why::Births { had, needed } => format!("{had} births seen of {needed}; look for longer (--for)"),
        Why::Young { age, warm_up } => format!(
            "the process was {} old, and one that is starting up grows the same way; wait until it is {} old, or say --warm-up",
            span(age),
            span(warm_up)
        ),
        Why::Incomplete => "some of its memory could not be read, so nobody knows who has ended".to_owned(),
    }
}

fn colour_of(verdict: Verdict) -> AnsiColor {
    match verdict {
        Verdict::Stuck | Verdict::Leaking => AnsiColor::Red,
        Verdict::Suspect => AnsiColor::Yellow,
    }
}

fn label(of: &SiteOf<'_>, spelling: Spelling) -> String {
    let mut label = future_label(of.entry, spelling);
    if let Some(place) = of.spawned_at {
        label.push_str(&format!(" spawned at {place}"));
    }
    if of.entry.task.worker {
        label.push_str(" (a runtime's worker thread)");
    }
    label
}

fn span(span: Ns) -> String {
    const SECOND: u64 = 1_000_000_000;
    let whole = Duration::from_nanos(span.0);
    match span.0 {
        0..SECOND => format!("{:.0} ms", whole.as_secs_f64() * 1e3),
        n if n < 120 * SECOND => format!("{:.1} s", whole.as_secs_f64()),
        _ => humantime::format_duration(Duration::from_secs(whole.as_secs())).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProcAddr, Site, TaskId};

    fn finding(evidence: Evidence) -> Finding {
        Finding {
            site: Site { vtable: ProcAddr(8), spawned_at: None },
            live: 9,
            tasks: 4,
            ids: (TaskId(3), TaskId(7)),
            seen_for: Ns(10_000_000_000),
            evidence,
        }
    }

    #[test]
    fn a_proof_says_what_it_proves_and_its_limits() {
        let said = evidence(&finding(Evidence::Stuck { with_handle: 4, apart: Ns(200_000_000) }));
        assert!(said.starts_with("4 of 9 live: idle at two readings 200 ms apart"), "{said}");
        assert!(
            said.contains("each with a join handle") && said.ends_with("short of an abort or a shutdown"),
            "{said}"
        );
    }

    #[test]
    fn a_leak_says_its_slope_its_fit_and_that_ages_are_at_least() {
        let evidence_of = |grows| {
            evidence(&finding(Evidence::Leaking {
                grows,
                slope: 2.5,
                fit: 0.9991,
                born: 25,
                ended: 1,
                readings: 5,
                during: Ns(10_000_000_000),
            }))
        };
        let said = evidence_of(Grows::All);
        for part in ["2.5 a second", "fit 0.999", "5 readings in 10.0 s", "seen born 25, ended 1", "may be older"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(evidence_of(Grows::Part).contains("in a busy place"));
    }

    #[test]
    fn too_little_evidence_names_the_option_that_gives_more() {
        assert!(why(Why::Readings { had: 2, needed: 3 }).contains("--samples"));
        assert!(why(Why::Births { had: 2, needed: 8 }).contains("--for"));
        assert!(why(Why::Young { age: Ns(1), warm_up: Ns(2) }).contains("--warm-up"));
    }
}
