//! Lines that a person can read: seconds since the start, the event, the resource, what is known of it.

use std::collections::HashMap;
use std::io::{self, Write};

use anstyle::AnsiColor;

use crate::model::{AsyncId, Event, EventKind, EventSet, LongStack, Missing, Ns, Pid, TargetEntry, Tid};

use super::chains::Chains;
use super::image_lines::write_image;
use super::label::{is_marked, label};
use super::phrase::{MARKED, alive, cost, enclosure, in_a_poll, left, left_out, lost_news, plural};
use super::{End, Gone, LostNews, Manner, Overhead, Polled, Sink, Spawned, StackCounts, Start, Stepped, TierTime};

/// How many groups of live resources the summary lists.
const GROUPS_LISTED: usize = 10;
/// How many tasks a report of polls lists.
const POLLED_LISTED: usize = 10;

/// Writes one line an event, and a summary at the end.
#[derive(Debug)]
pub struct Text {
    manner: Manner,
    events: EventSet,
    began: Ns,
    many: bool,
    live: HashMap<AsyncId, Live>,
    chains: Chains,
    /// Something was said with a question mark.
    marked: bool,
}

/// What later lines about a live resource repeat.
#[derive(Debug)]
struct Live {
    pid: Option<Pid>,
    label: String,
    /// Polls that are open, by their thread.
    polls: Vec<(Option<Tid>, Ns)>,
}

impl Text {
    /// Writes only these events; `lost` and the summary always.
    pub fn new(events: EventSet, manner: Manner) -> Self {
        Self {
            manner,
            events,
            began: Ns(0),
            many: false,
            live: HashMap::new(),
            chains: Chains::default(),
            marked: false,
        }
    }

    fn paint(&self, word: &str) -> String {
        let colour = match word {
            "init" => AnsiColor::Green,
            "before" | "after" | "polls" => AnsiColor::Cyan,
            "spawned" | "stack" => AnsiColor::Green,
            "resolve" => AnsiColor::Blue,
            "destroy" => AnsiColor::Magenta,
            "target" | "gone" | "tier" => AnsiColor::Yellow,
            _ => AnsiColor::Red,
        };
        self.manner.paint(colour, &format!("{word:<8}"))
    }

    fn label(&self, id: AsyncId) -> &str {
        self.live.get(&id).map_or("", |live| live.label.as_str())
    }

    /// The images of a target, and what is missing.
    fn images(&self, target: &TargetEntry, common: &[Missing], out: &mut dyn Write) -> io::Result<()> {
        for mapped in &target.images {
            let more = format!(" ({} on single-stepped instructions)", mapped.image.single_stepped());
            write_image(mapped, &more, out)?;
        }
        for missing in common.iter().chain(&target.missing) {
            writeln!(out, "  {} {}: {}", self.paint("missing"), missing.event, missing.reason)?;
        }
        Ok(())
    }

    fn summary(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut groups: HashMap<&str, usize> = HashMap::new();
        for live in self.live.values() {
            *groups.entry(live.label.as_str()).or_default() += 1;
        }
        let mut groups: Vec<(&str, usize)> = groups.into_iter().collect();
        groups.sort_by_key(|(label, n)| (std::cmp::Reverse(*n), *label));
        for (label, n) in groups.iter().take(GROUPS_LISTED) {
            writeln!(out, "{n:>10}  {label}")?;
        }
        if groups.len() > GROUPS_LISTED {
            writeln!(out, "            and {} more types", groups.len() - GROUPS_LISTED)?;
        }
        Ok(())
    }
}

impl Sink for Text {
    fn start(&mut self, start: &Start<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.began = start.at;
        self.many = start.targets.len() != 1 || start.following == "everyone";
        for target in &start.targets {
            writeln!(out, "observing pid {} {}{}", target.pid, target.exe, enclosure(target))?;
            self.images(target, start.missing, out)?;
        }
        let (attach, window) = (start.attach.0 as f64 / 1e6, start.window.0 / 1_000_000);
        writeln!(out, "attached by {} in {attach:.1} ms; events appear up to {window} ms late", start.mechanism)?;
        writeln!(out, "{:>12}  {:<8}  resource", "seconds", "event")
    }

    fn target(&mut self, at: Ns, target: &TargetEntry, why: &'static str, out: &mut dyn Write) -> io::Result<()> {
        let seconds = at.since(self.began).0 as f64 / 1e9;
        let (word, pid, exe) = (self.paint("target"), target.pid, &target.exe);
        writeln!(out, "{seconds:>12.6}  {word}  pid {pid} {exe}{} ({why})", enclosure(target))?;
        self.images(target, &[], out)
    }

    fn gone(&mut self, gone: &Gone, out: &mut dyn Write) -> io::Result<()> {
        let seconds = gone.at.since(self.began).0 as f64 / 1e9;
        // What lived in it ended with it.
        if gone.live > 0 {
            self.live.retain(|_, live| live.pid != Some(gone.pid));
        }
        let Gone { pid, why, .. } = gone;
        writeln!(out, "{seconds:>12.6}  {}    pid {pid} ({why}), {}", self.paint("gone"), left(gone))
    }

    fn degraded(&mut self, at: Ns, what: &'static str, reason: &str, out: &mut dyn Write) -> io::Result<()> {
        let seconds = at.since(self.began).0 as f64 / 1e9;
        writeln!(out, "{seconds:>12.6}  {}  from now on without: {what}; {reason}", self.paint("degraded"))
    }

    fn lost_news(&mut self, lost: &LostNews, out: &mut dyn Write) -> io::Result<()> {
        let seconds = lost.at.since(self.began).0 as f64 / 1e9;
        writeln!(out, "{seconds:>12.6}  {}  {}", self.paint("lost"), lost_news(lost))
    }

    fn stepped(&mut self, stepped: &Stepped, out: &mut dyn Write) -> io::Result<()> {
        let seconds = stepped.at.since(self.began).0 as f64 / 1e9;
        let Stepped { from, to, during, added, cpu, cap, why, .. } = stepped;
        let milliseconds = |ns: Ns| ns.0 as f64 / 1e6;
        let (added, own) = (milliseconds(*added), milliseconds(cpu.since(*added)));
        let share = cap * 100.0;
        let why = if *why == "over" { format!("more than {share} %") } else { format!("{share} % has room again") };
        let during = during.0 as f64 / 1e9;
        writeln!(
            out,
            "{seconds:>12.6}  {}  {from} -> {to}: about {added:.1} ms added to {own:.1} ms in {during:.1} s, {why}",
            self.paint("tier")
        )
    }

    fn event(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        let seconds = event.at.since(self.began).0 as f64 / 1e9;
        let pid = event.pid.filter(|_| self.many).map_or(String::new(), |pid| format!("pid {pid}  "));
        let mark = if event.inferred { "  (inferred)" } else { "" };
        let thread = event.tid.map_or(String::new(), |tid| format!("  thread {tid}"));
        let said = match &event.kind {
            EventKind::Init { id, trigger, existing, resource } => {
                let label = label(resource, self.manner.spelling);
                // Of a chain of two or one the trigger says it.
                let root = event.root.filter(|root| root != id && Some(Some(*root)) != *trigger);
                let root = root.map_or(String::new(), |root| format!(" from #{root}"));
                let trigger = match trigger {
                    Some(Some(trigger)) => format!("  trigger #{trigger}{root}"),
                    Some(None) => "  no trigger".to_owned(),
                    None => "  trigger unknown".to_owned(),
                };
                let task = resource.task_id.map_or(String::new(), |id| format!("  task {id}"));
                let existing = if *existing { "  existing" } else { "" };
                let said = format!("{}  #{id}  {label}{trigger}{task}{existing}", self.paint("init"));
                self.marked |= is_marked(&resource.future, resource.place.as_ref());
                self.live.insert(*id, Live { pid: event.pid, label, polls: Vec::new() });
                said
            }
            EventKind::Before(id) => {
                if let Some(live) = self.live.get_mut(id) {
                    live.polls.push((event.tid, event.at));
                }
                format!("{}  #{id}  {}{thread}", self.paint("before"), self.label(*id))
            }
            EventKind::After(id) => {
                let polls = self.live.get_mut(id).map(|live| &mut live.polls);
                let began = polls.and_then(|polls| {
                    let at = polls.iter().rposition(|(tid, _)| *tid == event.tid)?;
                    Some(polls.remove(at).1)
                });
                let took = began
                    .map_or(String::new(), |began| format!("  after {:.3} ms", event.at.since(began).0 as f64 / 1e6));
                format!("{}  #{id}  {}{thread}{took}", self.paint("after"), self.label(*id))
            }
            EventKind::Resolve(id, outcome, panicked_at) => {
                let at = panicked_at.as_ref().map_or(String::new(), |place| format!(" at {place}"));
                format!("{}  #{id}  {}  {}{at}", self.paint("resolve"), self.label(*id), outcome.as_str())
            }
            EventKind::Destroy(id) => {
                let said = format!("{}  #{id}  {}", self.paint("destroy"), self.label(*id));
                self.live.remove(id);
                said
            }
            EventKind::Lost { count } => {
                format!("{}  {count} records were lost: totals are now \"at least\"", self.paint("lost"))
            }
        };
        // Also an event that is not shown tells what later lines repeat.
        if !self.events.wants(&event.kind) {
            return Ok(());
        }
        writeln!(out, "{seconds:>12.6}  {pid}{said}{mark}")
    }

    fn polled(&mut self, at: Ns, reports: &[Polled], out: &mut dyn Write) -> io::Result<()> {
        let seconds = at.since(self.began).0 as f64 / 1e9;
        let word = self.paint("polls");
        let mut busiest: Vec<&Polled> = reports.iter().collect();
        let busy = |report: &Polled| report.sum.busy_ns + report.polling_for.map_or(0, |so_far| so_far.0);
        busiest.sort_by_key(|report| std::cmp::Reverse(busy(report)));
        for Polled { pid, id, sum, polling_for, .. } in busiest.iter().take(POLLED_LISTED) {
            let pid = if self.many { format!("pid {pid}  ") } else { String::new() };
            let (polls, label) = (sum.polls, self.label(*id));
            let [busy, longest] = [sum.busy_ns, sum.longest_ns].map(|ns| ns as f64 / 1e6);
            let goes_on = polling_for.map_or(String::new(), |so_far| format!("; {}", in_a_poll(so_far)));
            writeln!(
                out,
                "{seconds:>12.6}  {pid}{word}  #{id}  {label}  {polls} {}, busy {busy:.3} ms, longest {longest:.3} ms{goes_on}",
                plural(polls, "poll", "polls")
            )?;
        }
        if busiest.len() > POLLED_LISTED {
            let rest = &busiest[POLLED_LISTED..];
            let (polls, busy): (u64, u64) =
                rest.iter().fold((0, 0), |(polls, busy), report| (polls + report.sum.polls, busy + report.sum.busy_ns));
            let busy = busy as f64 / 1e6;
            writeln!(out, "{seconds:>12.6}  {word}  {} more tasks: {polls} polls, busy {busy:.3} ms", rest.len())?;
        }
        Ok(())
    }

    fn overhead(&mut self, at: Ns, overhead: &Overhead, out: &mut dyn Write) -> io::Result<()> {
        let seconds = at.since(self.began).0 as f64 / 1e9;
        writeln!(out, "{seconds:>12.6}  {}  {}", self.paint("overhead"), cost(overhead))
    }

    fn spawned(&mut self, spawned: &Spawned, out: &mut dyn Write) -> io::Result<()> {
        let seconds = spawned.at.since(self.began).0 as f64 / 1e9;
        let pid = spawned.pid.filter(|_| self.many).map_or(String::new(), |pid| format!("pid {pid}  "));
        let (word, id, stack) = (self.paint("spawned"), spawned.id, spawned.stack);
        writeln!(out, "{seconds:>12.6}  {pid}{word}  #{id}  through stack {stack}")
    }

    fn stack(&mut self, at: Ns, stack: &LongStack, out: &mut dyn Write) -> io::Result<()> {
        let seconds = at.since(self.began).0 as f64 / 1e9;
        let pid = if self.many { format!("pid {}  ", stack.pid) } else { String::new() };
        writeln!(out, "{seconds:>12.6}  {pid}{}  {}, spawned through", self.paint("stack"), stack.id)?;
        self.chains.write(stack, out)
    }

    fn end(&mut self, end: &End, out: &mut dyn Write) -> io::Result<()> {
        let totals = &end.totals;
        let least = if totals.is_at_least() { "at least " } else { "" };
        let each = match totals.every_poll {
            true => format!("{} before, {} after, ", totals.before, totals.after),
            false => String::new(),
        };
        let polls = totals.polls.map_or(each.clone(), |polls| format!("{each}{polls} polls, "));
        writeln!(
            out,
            "ended ({}): {least}{} init, {polls}{} resolve, {} destroy; {} lost, {} malformed, {} late",
            end.reason.as_str(),
            totals.init,
            totals.resolve,
            totals.destroy,
            totals.lost,
            totals.malformed,
            totals.late
        )?;
        if totals.elsewhere > 0 {
            writeln!(
                out,
                "{} of those lost are calls on another stack than their thread's own (fibers): to wait for their return could end the program",
                totals.elsewhere
            )?;
        }
        left_out(totals).try_for_each(|(count, what)| writeln!(out, "{count} {what}"))?;
        writeln!(out, "{}{}", alive(end), if self.live.is_empty() { "" } else { ", by type:" })?;
        self.summary(out)?;
        if self.marked {
            writeln!(out, "{MARKED}")?;
        }
        if !end.tiers.is_empty() {
            let held = |time: &TierTime| format!("{} {:.1} s", time.tier, time.held.0 as f64 / 1e9);
            writeln!(out, "tiers: {}", end.tiers.iter().map(held).collect::<Vec<_>>().join(", "))?;
        }
        if let Some(StackCounts { different, without, lost, malformed }) = end.stacks {
            let spoilt = match (lost, malformed) {
                (0, 0) => String::new(),
                _ => format!(" ({lost} found no room, {malformed} could not be understood)"),
            };
            writeln!(out, "stacks: {different} different ones, {without} births without one{spoilt}")?;
        }
        writeln!(out, "cost: {}", cost(&end.overhead))
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Naming, Place, Resource, ResourceFacts, Unnamed};

    use super::*;

    fn line(text: &mut Text, at: u64, kind: EventKind) -> String {
        let event = Event { at: Ns(at), pid: Some(Pid(7)), tid: Some(Tid(8)), root: None, inferred: false, kind };
        let mut out = Vec::new();
        text.event(&event, &mut out).expect("a Vec takes everything");
        String::from_utf8(out).expect("is text")
    }

    fn facts() -> Box<ResourceFacts> {
        Box::new(ResourceFacts {
            resource: Resource::Task,
            task_id: None,
            address: None,
            type_id: None,
            future: Naming::Unknown(Unnamed::Stripped),
            place: Some(Place { file: "a.rs".into(), line: 2, column: None, certain: false }),
        })
    }

    #[test]
    fn an_unknown_name_is_not_invented_and_an_uncertain_place_is_marked() {
        let mut text = Text::new(EventSet::ALL, Manner::default());
        let kind = EventKind::Init { id: AsyncId(1), trigger: Some(None), existing: false, resource: facts() };
        assert_eq!(line(&mut text, 0, kind), "    0.000000  init      #1  TOKIO_TASK (a.rs:2?)  no trigger\n");
    }

    #[test]
    fn an_after_tells_how_long_its_own_threads_poll_took() {
        let mut text = Text::new(EventSet::ALL, Manner::default());
        line(&mut text, 0, EventKind::Init { id: AsyncId(1), trigger: None, existing: true, resource: facts() });
        line(&mut text, 1_000_000, EventKind::Before(AsyncId(1)));
        let after = line(&mut text, 3_500_000, EventKind::After(AsyncId(1)));
        assert!(after.ends_with("thread 8  after 2.500 ms\n"), "{after}");
    }

    #[test]
    fn what_a_question_mark_says_is_said_at_the_end_where_one_stands() {
        let marked = |future| {
            let mut text = Text::new(EventSet::ALL, Manner::default());
            let resource = ResourceFacts {
                resource: Resource::Task,
                task_id: None,
                address: None,
                type_id: None,
                future,
                place: None,
            };
            line(
                &mut text,
                1,
                EventKind::Init { id: AsyncId(1), trigger: None, existing: false, resource: Box::new(resource) },
            );
            text.marked
        };
        assert!(marked(Naming::Uncertain("app::serve".into())));
        assert!(!marked(Naming::Certain("app::serve".into())));
    }

    #[test]
    fn colour_is_there_only_when_asked_for() {
        let lost = || EventKind::Lost { count: 3 };
        assert!(!line(&mut Text::new(EventSet::ALL, Manner::default()), 0, lost()).contains('\x1b'));
        assert!(
            line(&mut Text::new(EventSet::ALL, Manner { colour: true, ..Manner::default() }), 0, lost())
                .contains('\x1b')
        );
    }
}
