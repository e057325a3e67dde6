//! Who spawned whom in some time: nothing is said of single events, and at the end a tree of types, or sums by root.
//!
//! Does not know: how events come about.

mod branches;
mod json;
mod programs;
mod roots;
mod text;
mod watch;

use std::io::{self, Write};

use crate::model::{
    AsyncId, Event, EventKind, EventSet, LongStack, Ns, Pid, Place, PollSum, ResourceFacts, TargetEntry, TypeId,
};

use super::{End, Gone, Json, LostNews, Manner, Overhead, Polled, Sink, Spawned, Start, Stepped};
use programs::{Gathered, Programs};
use text::Tables;
use watch::WatchText;

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineages {
    /// Types below the types that spawned them; with each live task, too.
    Tree {
        /// Each live task, too.
        tasks: bool,
    },
    /// Sums of all that one task led to.
    Roots,
}

/// How often, how long, and of how many tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Tasks whose memory is not freed.
    pub(super) live: u64,
    /// Tasks that ended in this time.
    pub(super) ended: u64,
    /// Tasks that were alive when their process ended, or was observed no longer.
    pub(super) gone: u64,
    /// Polls in this time.
    pub(super) polls: u64,
    /// What these took, nanoseconds.
    pub(super) busy: u64,
    /// The longest poll of those, nanoseconds.
    pub(super) longest: u64,
    /// Tasks that are inside of a poll at the end, which is none of those.
    pub(super) polling: u64,
    /// For how long the first of them has been, nanoseconds.
    pub(super) polling_for: u64,
}

impl Share {
    fn poll(&mut self, sum: &PollSum) {
        self.polls += sum.polls;
        self.busy += sum.busy_ns;
        self.longest = self.longest.max(sum.longest_ns);
    }

    /// One of its tasks has been inside of a poll for so long.
    fn goes_on(&mut self, so_far: Ns) {
        self.polling += 1;
        self.polling_for = self.polling_for.max(so_far.0);
    }

    /// What is known to have been spent in polls, for the order of lines.
    fn spent(&self) -> u64 {
        self.busy + self.polling_for
    }

    fn join(&mut self, other: &Self) {
        self.live += other.live;
        self.ended += other.ended;
        self.gone += other.gone;
        self.polls += other.polls;
        self.busy += other.busy;
        self.longest = self.longest.max(other.longest);
        self.polling += other.polling;
        self.polling_for = self.polling_for.max(other.polling_for);
    }
}

/// A task comes into sight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Birth<'a> {
    id: AsyncId,
    root: AsyncId,
    origin: Origin,
    facts: &'a ResourceFacts,
}

/// Where a task came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// This task spawned it.
    Task(AsyncId),
    /// It was spawned outside of any task.
    Outside,
    /// It was there before.
    Before,
    /// It was not seen who spawned it.
    Unseen,
}

/// What makes tasks one kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Type(TypeId),
    /// Whose type was not seen: by what is known of it.
    Facts(String),
}

impl Kind {
    fn of(facts: &ResourceFacts) -> Self {
        let ResourceFacts { resource, type_id, future, place, .. } = facts;
        type_id.clone().map_or_else(
            || {
                let place = place.as_ref().map(Place::to_string).unwrap_or_default();
                Self::Facts(format!("{} {} {place}", resource.as_str(), future.text().unwrap_or_default()))
            },
            Self::Type,
        )
    }
}

/// Says nothing until the end.
#[derive(Debug)]
pub struct Lineage {
    programs: Programs,
    /// Of the last report: who was inside of a poll, and for how long.
    polling: Vec<(Pid, AsyncId, Ns)>,
    look: Look,
}

#[derive(Debug)]
enum Look {
    Text(Tables, WatchText),
    Json(Json),
}

impl Lineage {
    /// For people; of each level, or of the roots, so many.
    pub fn text(what: Lineages, top: Option<usize>, manner: Manner) -> Self {
        let tasks = what == Lineages::Tree { tasks: true };
        let tables = Tables { spelling: manner.spelling, top, tasks };
        Self { programs: Programs::new(what), polling: Vec::new(), look: Look::Text(tables, WatchText::new(manner)) }
    }

    /// For programs: all of it.
    pub fn json(what: Lineages) -> Self {
        Self { programs: Programs::new(what), polling: Vec::new(), look: Look::Json(Json::new(EventSet::NONE)) }
    }

    /// Whoever says what does not belong into the tree.
    fn besides(&mut self) -> &mut dyn Sink {
        match &mut self.look {
            Look::Text(_, watch) => watch,
            Look::Json(json) => json,
        }
    }
}

impl Sink for Lineage {
    fn start(&mut self, start: &Start<'_>, out: &mut dyn Write) -> io::Result<()> {
        start.targets.iter().for_each(|target| self.programs.begins(target));
        self.besides().start(start, out)
    }

    fn target(&mut self, at: Ns, target: &TargetEntry, why: &'static str, out: &mut dyn Write) -> io::Result<()> {
        self.programs.begins(target);
        self.besides().target(at, target, why, out)
    }

    fn gone(&mut self, gone: &Gone, out: &mut dyn Write) -> io::Result<()> {
        self.programs.gone(gone.pid);
        self.besides().gone(gone, out)
    }

    fn degraded(&mut self, at: Ns, what: &'static str, reason: &str, out: &mut dyn Write) -> io::Result<()> {
        self.besides().degraded(at, what, reason, out)
    }

    fn lost_news(&mut self, lost: &LostNews, out: &mut dyn Write) -> io::Result<()> {
        self.besides().lost_news(lost, out)
    }

    fn stepped(&mut self, stepped: &Stepped, out: &mut dyn Write) -> io::Result<()> {
        self.besides().stepped(stepped, out)
    }

    fn polled(&mut self, _: Ns, reports: &[Polled], _: &mut dyn Write) -> io::Result<()> {
        self.polling.clear();
        for Polled { pid, id, sum, polling_for, .. } in reports {
            self.polling.extend(polling_for.map(|so_far| (*pid, *id, so_far)));
            if let Some(gathered) = self.programs.of(*pid) {
                gathered.polled(*id, sum);
            }
        }
        Ok(())
    }

    /// The end has all of it.
    fn overhead(&mut self, _: Ns, _: &Overhead, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn event(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        if let EventKind::Lost { .. } = event.kind {
            return self.besides().event(event, out);
        }
        let Some(gathered) = event.pid.and_then(|pid| self.programs.of(pid)) else { return Ok(()) };
        match &event.kind {
            EventKind::Init { id, trigger, existing, resource } => {
                let origin = match trigger {
                    Some(Some(trigger)) => Origin::Task(*trigger),
                    Some(None) => Origin::Outside,
                    None if *existing => Origin::Before,
                    None => Origin::Unseen,
                };
                gathered.born(&Birth { id: *id, root: event.root.unwrap_or(*id), origin, facts: resource });
            }
            EventKind::Destroy(id) => gathered.ended(*id),
            EventKind::Before(_) | EventKind::After(_) | EventKind::Resolve(..) | EventKind::Lost { .. } => {}
        }
        Ok(())
    }

    fn spawned(&mut self, _: &Spawned, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn stack(&mut self, _: Ns, _: &LongStack, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, end: &End, out: &mut dyn Write) -> io::Result<()> {
        for (pid, id, so_far) in std::mem::take(&mut self.polling) {
            if let Some(gathered) = self.programs.of(pid) {
                gathered.goes_on(id, so_far);
            }
        }
        for program in self.programs.each() {
            match (&self.look, &program.gathered) {
                (Look::Text(tables, _), Gathered::Tree(branches)) => tables.tree(program, branches, out)?,
                (Look::Text(tables, _), Gathered::Roots(roots)) => tables.roots(program, roots, out)?,
                (Look::Json(_), Gathered::Tree(branches)) => json::tree(program, branches, end.at, out)?,
                (Look::Json(_), Gathered::Roots(roots)) => json::roots(program, roots, end.at, out)?,
            }
        }
        if let Some(reason) = self.programs.left_out() {
            self.besides().degraded(end.at, "programs", &reason, out)?;
        }
        self.besides().end(end, out)
    }
}
