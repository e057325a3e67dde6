//! The tree and the roots for people.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::model::{AsyncId, Ns};
use crate::sink::Spelling;
use crate::sink::label::label;
use crate::sink::phrase::in_a_poll;

use super::branches::{Above, Branch, BranchId, Branches, Leaf};
use super::programs::Program;
use super::roots::Roots;
use super::{Origin, Share};

/// How tables are drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables {
    /// How types are spelled.
    pub(super) spelling: Spelling,
    /// Of each level, or of the roots, so many.
    pub(super) top: Option<usize>,
    /// Each live task, too.
    pub(super) tasks: bool,
}

/// What is drawn of a tree.
struct Drawn<'a> {
    below: BTreeMap<BranchId, Vec<BranchId>>,
    branches: BTreeMap<BranchId, &'a Branch>,
    all: Vec<Share>,
    leaves: BTreeMap<BranchId, Vec<(AsyncId, Leaf)>>,
}

impl Tables {
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
        self.level(&drawn, &first, "", true, out)?;
        goes_on(drawn.all.iter().any(|share| share.polling > 0), out)
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
            (std::cmp::Reverse((all.spent(), all.live)), *id)
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
                |facts| label(facts, self.spelling),
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
            let label = label(&root.facts, self.spelling);
            row(&root.all, root.all.longest, &format!("#{id}  {label}{task}{origin}{over}"), out)?;
        }
        if shown < alive.len() {
            writeln!(out, "{:>54}  and {} more (--top)", "", alive.len() - shown)?;
        }
        for over in over {
            let label = label(&over.facts, self.spelling);
            row(&over.all, over.all.longest, &format!("{} that are over: {label}", over.roots), out)?;
        }
        goes_on(alive.iter().any(|(_, root)| root.all.polling > 0), out)
    }
}

/// What the figures leave out, if some poll goes on.
fn goes_on(some: bool, out: &mut dyn Write) -> io::Result<()> {
    match some {
        true => {
            writeln!(out, "a poll is counted when it has ended: what goes on is in none of the columns before its end")
        }
        false => Ok(()),
    }
}

/// Whose the table is, and what its columns are.
fn head(program: &Program, last: &str, what: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\npid {} {}", program.pid, program.exe)?;
    writeln!(out, "{:>9} {:>9} {:>9} {:>11} {last:>12}  {what}", "live", "ended", "polls", "busy")
}

fn row(share: &Share, last: u64, what: &str, out: &mut dyn Write) -> io::Result<()> {
    let Share { live, ended, polls, busy, gone, polling, polling_for, .. } = *share;
    let goes_on = match polling {
        0 => String::new(),
        1 => format!("  ({})", in_a_poll(Ns(polling_for))),
        more => format!("  ({more} are in polls, one {})", in_a_poll(Ns(polling_for))),
    };
    let gone = match gone {
        0 => String::new(),
        gone => format!("  ({gone} were alive when their program ended, or was observed no longer)"),
    };
    writeln!(out, "{live:>9} {ended:>9} {polls:>9} {:>11} {:>12}  {what}{goes_on}{gone}", time(busy), time(last))
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
        let tables = Tables { spelling: Spelling::default(), top, tasks };
        tables.tree(&program, &branches, &mut out).expect("a Vec takes everything");
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
    fn a_root_of_which_a_task_is_inside_of_a_poll_says_for_how_long_and_stands_before_those_that_were_less_busy() {
        let mut roots = Roots::default();
        for (id, name) in [(1, "quick"), (2, "wedged")] {
            roots.born(&Birth {
                id: AsyncId(id),
                root: AsyncId(id),
                origin: Origin::Outside,
                facts: &facts_named(name),
            });
        }
        let mut sum = PollSum::default();
        sum.add(3_000_000);
        roots.polled(AsyncId(1), &sum);
        roots.goes_on(AsyncId(2), Ns(270_000_000));
        let program = Program { pid: Pid(7), exe: "/app".into(), gathered: Gathered::Roots(Roots::default()) };
        let mut out = Vec::new();
        let tables = Tables { spelling: Spelling::default(), top: None, tasks: false };
        tables.roots(&program, &roots, &mut out).expect("a Vec takes everything");
        let said = String::from_utf8(out).expect("is text");
        let wedged = "#2  TOKIO_TASK wedged  (in a poll for 270.000 ms)";
        assert_eq!(names(&said)[..2], [wedged, "#1  TOKIO_TASK quick"]);
        assert!(said.ends_with("what goes on is in none of the columns before its end\n"), "{said}");
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
        let tables = Tables { spelling: Spelling::default(), top: Some(1), tasks: false };
        tables.roots(&program, &roots, &mut out).expect("a Vec takes everything");
        let said = String::from_utf8(out).expect("is text");
        assert_eq!(names(&said), ["#4  TOKIO_TASK busy", "and 3 more (--top)", "1 that are over: TOKIO_TASK request"]);
    }
}
