//! What several renderings for people say in one phrase.
//!
//! Does not know: the lines that the phrases are part of.

use crate::lifecycle::Watched;
use crate::model::{Ns, TargetEntry};

use super::{End, EndReason, Gone, LostNews, Overhead, Totals};

/// The word for one, or that for several.
pub(super) fn plural<'a>(count: impl TryInto<u64>, one: &'a str, several: &'a str) -> &'a str {
    if count.try_into().is_ok_and(|count| count == 1) { one } else { several }
}

/// What a question mark behind a name or a place says.
pub(super) const MARKED: &str = "? behind a name or a place: it may be another type's, as what tells it is shared with others or was not read to its end";

/// Of a task whose poll goes on: what else is said of its polls is of those that ended.
pub(super) fn in_a_poll(so_far: Ns) -> String {
    format!("in a poll for {:.3} ms", so_far.0 as f64 / 1e6)
}

/// What was missed with news of processes, in one phrase.
pub(super) fn lost_news(lost: &LostNews) -> String {
    let what = match lost.looks_again {
        true => "all processes are looked at again, and who began and ended meanwhile was not observed",
        false => "what the observed processes loaded or began meanwhile may not be observed",
    };
    match lost.count {
        Some(count) => format!("{count} news of processes found no room, or were not understood: {what}"),
        None => format!("a CPU came online, and news of processes there were not heard until now: {what}"),
    }
}

/// What observing has cost, in one phrase.
pub(super) fn cost(overhead: &Overhead) -> String {
    let seconds = overhead.during.0 as f64 / 1e9;
    let share =
        |ns: Ns| format!("{:.1} ms ({:.2} % of a CPU)", ns.0 as f64 / 1e6, ns.0 as f64 / 1e7 / seconds.max(1e-9));
    let added = overhead.added.map_or("not measured".to_owned(), |added| format!("about {}", share(added)));
    let own = share(overhead.own_cpu);
    let memory = overhead.own_memory.map_or(String::new(), |bytes| format!(", {:.1} MiB", bytes as f64 / 1048576.0));
    let foreign = match overhead.foreign {
        0 => String::new(),
        foreign => format!(" and {foreign} of processes that are not observed"),
    };
    let by = match (overhead.hits, overhead.samples) {
        (hits, 0) => format!("{hits} hits{foreign}"),
        (0, samples) => format!("{samples} samples"),
        (hits, samples) => format!("{hits} hits{foreign} and {samples} samples"),
    };
    format!("{added} of the target's time by {by} in {seconds:.1} s; of our own {own}{memory}")
}

/// What was alive in a process that is gone, in one phrase.
pub(super) fn left(gone: &Gone) -> String {
    let Gone { live, unsure, .. } = gone;
    match (gone.watched, *unsure) {
        (Watched::Nothing, _) => "nothing was planted in it: who was alive is not known".to_owned(),
        (Watched::Births, _) => format!("{live} tasks seen in it; their ends are not watched"),
        (Watched::Lives, 0) => format!("{live} tasks alive in it"),
        (Watched::Lives, unsure) => format!("{live} tasks alive in it, {unsure} of them perhaps freed before"),
    }
}

/// Who is alive at the end of a stream, in one phrase, and what to do where that is not known.
pub(super) fn alive(end: &End) -> String {
    let Totals { live, unsure, watched, .. } = end.totals;
    // Who lives now is of no use where all have ended.
    let ps = if end.reason == EndReason::Exited { "" } else { "ps tells who lives now, " };
    match (watched, unsure) {
        (Watched::Nothing, _) => format!(
            "alive: not known, nothing was planted ({ps}--tier sampled who is busy, without any probe; --allow-slow plants points that \
             were left out because they are slow)"
        ),
        (Watched::Births, _) => {
            format!("{live} born, or there before; their ends are not watched ({ps}--tier lifecycle watches ends)")
        }
        (Watched::Lives, 0) => format!("{live} alive at the end"),
        (Watched::Lives, unsure) => {
            let next = if ps.is_empty() { "" } else { " (ps tells who lives now)" };
            format!(
                "{live} born, or there before, and not seen to end; {unsure} of them were perhaps freed, unseen{next}"
            )
        }
    }
}

/// What was left out of the totals of a stream: how much, and what.
pub(super) fn left_out(totals: &Totals) -> impl Iterator<Item = (u64, &'static str)> {
    [
        (
            totals.unfollowed,
            "births, or first sights of tasks, were not followed: the memory bound was met (--max-memory)",
        ),
        (totals.unplaced, "records or polls are of processes or tasks that were not known, and in no line"),
        (
            if totals.watched == Watched::Nothing { 0 } else { totals.unplanted },
            "processes had nothing planted in them: of their tasks nothing is known",
        ),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
}

/// What encloses a process, if that is not what encloses us.
pub(super) fn enclosure(target: &TargetEntry) -> String {
    let mut said = String::new();
    if let Some(container) = &target.enclosure.container {
        let id = container.as_str();
        said.push_str(&format!(", container {}", id.get(..12).unwrap_or(id)));
    }
    if let Some(own) = target.enclosure.ns_pid.filter(|own| *own != target.pid) {
        said.push_str(&format!(", pid {own} in its own namespace"));
    }
    said
}
