//! The tree and the roots for people.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anstyle::AnsiColor;

use crate::model::{AsyncId, Event, EventKind, LongStack, Missing, Ns, TargetEntry};
use crate::sink::image_lines::write_image;
use crate::sink::text::{cost, enclosure, label, lost_news};
use crate::sink::{End, Gone, LostNews, Manner, Overhead, Polled, Sink, Spawned, Start, Stepped};

use super::branches::{Above, Branch, BranchId, Branches, Leaf};
use super::programs::Program;
use super::roots::Roots;
use super::{Origin, Share};

/// Says what is missing when it begins, tables at the end.
#[derive(Debug)]
pub(super) struct LineageText {
    manner: Manner,
    top: Option<usize>,
    tasks: bool,
    began: Ns,
}

/// What is written of a tree.
struct Drawn<'a> {
    below: BTreeMap<BranchId, Vec<BranchId>>,
    branches: BTreeMap<BranchId, &'a Branch>,
    all: Vec<Share>,
    leaves: BTreeMap<BranchId, Vec<(AsyncId, Leaf)>>,
}

impl LineageText {
    pub(super) fn new(manner: Manner, top: Option<usize>, tasks: bool) -> Self {
        Self { manner, top, tasks, began: Ns(0) }
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

    pub(super) fn tree(&self, program: &Program, branches: &Branches, out: &mut dyn Write) -> io::Result<()> {
        let all = branches.with_those_below();
        let mut drawn = Drawn { below: BTreeMap::new(), branches: BTreeMap::new(), all, leaves: branches.leaves() };
        let mut first = Vec::new();
        for (id, branch) in branches.each() {
            drawn.branches.insert(id, branch);
            match branch.above {
                Above::Branch(above) => drawn.below.entry(above).or_default().push(id),
                Above::Outside | Above::Before | Above::Unseen | Above::Anywhere => first.push(id),
            }
        }
        if first.is_empty() {
            return Ok(());
        }
        head(program, "all below", "future, below the one whose tasks spawned it", out)?;
        self.level(&drawn, &first, "", true, out)
    }

    fn level(
        &self,
        drawn: &Drawn<'_>,
        ids: &[BranchId],
        indent: &str,
        first: bool,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut ids = ids.to_vec();
        ids.sort_by_key(|id| {
            let all = &drawn.all[id.index()];
            (std::cmp::Reverse((all.busy, all.live)), *id)
        });
        let shown = self.top.unwrap_or(ids.len()).min(ids.len());
        for (n, id) in ids.iter().take(shown).enumerate() {
            let Some(branch) = drawn.branches.get(id) else { continue };
            let last = n + 1 == ids.len();
            let (arm, further) = match (first, last) {
                (true, _) => ("", ""),
                (false, false) => ("├─ ", "│  "),
                (false, true) => ("└─ ", "   "),
            };
            let all = &drawn.all[id.index()];
            let name = branch.facts.as_ref().map_or_else(
                || "what found no room: more branches, or deeper ones, than are kept".to_owned(),
                |facts| label(facts, self.manner.spelling),
            );
            let origin = match branch.above {
                Above::Branch(_) => "",
                Above::Outside => "  spawned outside of tasks",
                Above::Before => "  there before",
                Above::Unseen => "  spawner not seen",
                Above::Anywhere => "  spawned anywhere",
            };
            let recurs = if branch.recurs { "  (and from its own kind)" } else { "" };
            row(&branch.own, all.busy, &format!("{indent}{arm}{name}{origin}{recurs}"), out)?;
            let inner = format!("{indent}{further}");
            if self.tasks {
                for (id, leaf) in drawn.leaves.get(id).into_iter().flatten() {
                    let task = leaf.task.map_or("id not seen".to_owned(), |task| format!("task {task}"));
                    let trigger = leaf.trigger.map_or(String::new(), |id| format!(", spawned by #{id}"));
                    writeln!(out, "{:>54}  {inner}   · #{id} {task}{trigger}", "")?;
                }
            }
            if let Some(below) = drawn.below.get(id) {
                self.level(drawn, below, &inner, false, out)?;
            }
        }
        if shown < ids.len() {
            let arm = if first { "" } else { "└─ " };
            writeln!(out, "{:>54}  {indent}{arm}and {} more", "", ids.len() - shown)?;
        }
        Ok(())
    }

    pub(super) fn roots(&self, program: &Program, roots: &Roots, out: &mut dyn Write) -> io::Result<()> {
        let (alive, over) = (roots.alive(), roots.over());
        if alive.is_empty() && over.is_empty() {
            return Ok(());
        }
        head(program, "longest poll", "root, and all that it led to", out)?;
        let shown = self.top.unwrap_or(alive.len()).min(alive.len());
        for (id, root) in &alive[..shown] {
            let task = root.facts.task_id.map_or(String::new(), |task| format!("  task {task}"));
            let origin = match root.origin {
                Origin::Before => "  there before",
                Origin::Outside => "",
                Origin::Task(_) | Origin::Unseen => "  spawner not seen",
            };
            let over = if root.live { "" } else { "  ended itself" };
            let label = label(&root.facts, self.manner.spelling);
            row(&root.all, root.all.longest, &format!("#{id}  {label}{task}{origin}{over}"), out)?;
        }
        if shown < alive.len() {
            writeln!(out, "{:>54}  and {} more (--top)", "", alive.len() - shown)?;
        }
        for over in over {
            let label = label(&over.facts, self.manner.spelling);
            row(&over.all, over.all.longest, &format!("{} that are over: {label}", over.roots), out)?;
        }
        Ok(())
    }

    fn remark(&self, word: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} {text}", self.manner.paint(AnsiColor::Yellow, word))
    }
}

impl Sink for LineageText {
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
        self.remark("gone", &format!("pid {} ({}), {} tasks alive in it", gone.pid, gone.why, gone.live), out)
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
        writeln!(
            out,
            "\n{seconds:.1} s ({}): {} tasks met, {} ended, {} alive{gone}, {polls} polls{least}",
            end.reason.as_str(),
            totals.init,
            totals.destroy,
            totals.live
        )?;
        for (count, what) in [
            (totals.unplaced, "polls are of tasks that were not known, and in no line"),
            (totals.unsure, "of those that are alive were perhaps freed, unseen"),
            (totals.unfollowed, "tasks were not followed: the memory bound was met (--max-memory)"),
            (totals.malformed, "records could not be understood"),
            (totals.late, "records came too late to be put in order"),
            (totals.lost_news, "news of processes were lost"),
        ] {
            if count > 0 {
                writeln!(out, "{count} {what}")?;
            }
        }
        writeln!(out, "cost: {}", cost(&end.overhead))
    }
}

/// Whose the table is, and what its columns are.
fn head(program: &Program, last: &str, what: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\npid {} {}", program.pid, program.exe)?;
    writeln!(out, "{:>9} {:>9} {:>9} {:>11} {last:>12}  {what}", "live", "ended", "polls", "busy")
}

fn row(share: &Share, last: u64, what: &str, out: &mut dyn Write) -> io::Result<()> {
    let Share { live, ended, polls, busy, gone, .. } = *share;
    let gone = match gone {
        0 => String::new(),
        gone => format!("  ({gone} were alive when their program ended, or was observed no longer)"),
    };
    writeln!(out, "{live:>9} {ended:>9} {polls:>9} {:>11} {:>12}  {what}{gone}", time(busy), time(last))
}

fn time(ns: u64) -> String {
    format!("{:.3} ms", ns as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use crate::model::{Pid, PollSum, ResourceFacts};

    use super::super::Birth;
    use super::super::branches::facts_named;
    use super::super::programs::Gathered;
    use super::*;

    fn tree(top: Option<usize>, tasks: bool) -> String {
        let mut branches = Branches::default();
        let born = |branches: &mut Branches, id: u64, origin, facts: &ResourceFacts| {
            branches.born(&Birth { id: AsyncId(id), root: AsyncId(1), origin, facts });
        };
        born(&mut branches, 1, Origin::Before, &facts_named("accept"));
        for (id, name, above) in [(2, "conn", 1), (3, "read", 2), (4, "write", 2), (5, "tick", 1)] {
            born(&mut branches, id, Origin::Task(AsyncId(above)), &facts_named(name));
        }
        let mut sum = PollSum::default();
        sum.add(2_000_000);
        branches.polled(AsyncId(3), &sum);
        let mut out = Vec::new();
        let program = Program { pid: Pid(7), exe: "/app".into(), gathered: Gathered::Tree(Branches::default()) };
        let text = LineageText::new(Manner::default(), top, tasks);
        text.tree(&program, &branches, &mut out).expect("a Vec takes everything");
        String::from_utf8(out).expect("is text")
    }

    fn names(tree: &str) -> Vec<&str> {
        tree.lines().skip(3).map(|line| line.get(56..).unwrap_or(line)).collect()
    }

    #[test]
    fn each_stands_below_who_spawned_it_the_busiest_first() {
        assert_eq!(
            names(&tree(None, false)),
            [
                "TOKIO_TASK accept  there before",
                "├─ TOKIO_TASK conn",
                "│  ├─ TOKIO_TASK read",
                "│  └─ TOKIO_TASK write",
                "└─ TOKIO_TASK tick",
            ]
        );
    }

    #[test]
    fn of_each_level_no_more_are_shown_than_wanted_and_the_rest_is_counted() {
        assert_eq!(
            names(&tree(Some(1), false)),
            [
                "TOKIO_TASK accept  there before",
                "├─ TOKIO_TASK conn",
                "│  ├─ TOKIO_TASK read",
                "│  └─ and 1 more",
                "└─ and 1 more",
            ]
        );
    }

    #[test]
    fn live_tasks_are_listed_with_who_spawned_them() {
        assert!(tree(None, true).contains("· #3 id not seen, spawned by #2"));
    }

    #[test]
    fn of_the_roots_the_busiest_are_shown_and_the_rest_is_counted_and_those_that_are_over_stand_together() {
        let mut roots = Roots::default();
        for id in 1..=5 {
            let facts = facts_named(if id == 4 { "busy" } else { "request" });
            roots.born(&Birth { id: AsyncId(id), root: AsyncId(id), origin: Origin::Outside, facts: &facts });
        }
        let mut sum = PollSum::default();
        sum.add(3_000_000);
        roots.polled(AsyncId(4), &sum);
        roots.ended(AsyncId(1));
        let program = Program { pid: Pid(7), exe: "/app".into(), gathered: Gathered::Roots(Roots::default()) };
        let mut out = Vec::new();
        let text = LineageText::new(Manner::default(), Some(1), false);
        text.roots(&program, &roots, &mut out).expect("a Vec takes everything");
        let said = String::from_utf8(out).expect("is text");
        assert_eq!(names(&said), ["#4  TOKIO_TASK busy", "and 3 more (--top)", "1 that are over: TOKIO_TASK request"]);
    }
}
