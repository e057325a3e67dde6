//! What the futures of many tasks wait for, read in batches.
//!
//! Nothing is stopped, so what is read is read twice: a future that is not the same the second time is read anew, or said
//! to be changing. Does not know: how one future is read, where shapes come from, names.

use std::rc::Rc;

use super::future_reading::Reading;
use super::pages::Pages;
use super::source::Source;
use crate::model::{Awaiting, Bias, CellLayout, LiveTask, ProcAddr, ShapeId, ShapeKind, Shapes, TaskState, word_at};

/// A task whose state has changed meanwhile is read so often.
const TRIES: usize = 3;
/// Bytes of a cell's head in which its words stand, at most.
const HEAD: usize = 256;
/// Bytes of several tasks that are held to be read again.
const MOST_HELD: usize = 16 << 20;
/// `Stage::Running` is the first of its variants, see `StageWords`.
const FIRST_VARIANT: usize = 0;

/// Why a task has no await stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoAwaits {
    /// A thread is inside it.
    Running,
    /// It has ended.
    Complete,
    /// It is a closure: it awaits nothing.
    Closure,
    /// Nothing describes how its future lies in memory.
    Undescribed,
    /// Its poll is several types' code, so it is not known which future it has.
    Shared,
    /// The debug information that may describe it could not be read to its end.
    Unread,
    /// It changed each time while it was read.
    Changing,
    /// Its memory cannot be read.
    Unreadable,
}

/// A task with what is known of its future.
#[derive(Clone, Copy)]
pub struct Awaiter<'a> {
    /// The task.
    pub task: &'a LiveTask,
    /// How its cell lies in memory.
    pub layout: &'a CellLayout,
    /// The shapes of its image.
    pub shapes: &'a Shapes,
    /// What it has its future in.
    pub stage: ShapeId,
    /// How far from its own addresses the image is loaded.
    pub bias: Bias,
}

/// Read once, and to be found the same again.
struct Draft {
    before: TaskState,
    found: Option<Awaiting>,
    read: Vec<(ProcAddr, Rc<[u8]>)>,
}

/// Gives `each` the await stack of each of these tasks, by its number. They lie close together: so memory is read by pages, of as many
/// tasks as fit into a bound, and then all of those pages again; but for their states, which are of the moment. What was not the same the
/// second time is read anew by itself.
pub fn awaits(source: &mut dyn Source, tasks: &[Awaiter<'_>], mut each: impl FnMut(usize, Result<Awaiting, NoAwaits>)) {
    let mut by_place: Vec<usize> = (0..tasks.len()).collect();
    by_place.sort_unstable_by_key(|n| tasks[*n].task.header);
    let mut left = &by_place[..];
    while !left.is_empty() {
        let (mut drafts, mut held, mut first) = (Vec::new(), 0, Pages::of(&mut *source));
        while let [next, rest @ ..] = left
            && held + first.held() < MOST_HELD
        {
            let draft = read(&mut first, &tasks[*next]);
            held += draft.iter().flat_map(|draft| &draft.read).map(|(_, bytes)| bytes.len()).sum::<usize>();
            drafts.push((*next, draft));
            left = rest;
        }
        let mut again = Pages::of(&mut *source);
        let confirmed =
            drafts.into_iter().map(|(n, draft)| (n, draft.map(|draft| draft.confirmed(&mut again, &tasks[n]))));
        for (n, found) in confirmed.collect::<Vec<_>>() {
            let told = match found {
                Ok(Ok(Some(found))) => Ok(found),
                Ok(Ok(None)) => by_itself(source, &tasks[n]),
                Ok(Err(why)) | Err(why) => Err(why),
            };
            each(n, told);
        }
    }
}

fn by_itself(source: &mut dyn Source, of: &Awaiter<'_>) -> Result<Awaiting, NoAwaits> {
    for _ in 0..TRIES {
        if let Some(found) = read(source, of)?.confirmed(source, of)? {
            return Ok(found);
        }
    }
    Err(NoAwaits::Changing)
}

fn read(source: &mut dyn Source, of: &Awaiter<'_>) -> Result<Draft, NoAwaits> {
    let Awaiter { task, layout, shapes, stage, bias } = *of;
    let shape = shapes.get(stage).ok_or(NoAwaits::Undescribed)?;
    let ShapeKind::Choice(_, variants) = &shape.kind else { return Err(NoAwaits::Undescribed) };
    let running = variants.get(FIRST_VARIANT).ok_or(NoAwaits::Undescribed)?.part.shape;
    let after = u64::from(layout.stage());
    let at = task.header.0.checked_add(after.next_multiple_of(shape.align.max(1))).ok_or(NoAwaits::Unreadable)?;
    let before = state(source, task, layout)?;
    let mut reading = Reading::new(shapes, bias, &mut *source);
    let Some(bytes) = reading.block(ProcAddr(at), shape.size) else { return Err(NoAwaits::Unreadable) };
    let found = match reading.variant(stage, &bytes) {
        Some(part) if part.shape == running => reading.own(part, &bytes),
        // It has ended, or is being cancelled: the state says so soon.
        _ => None,
    };
    let read = reading.parts();
    // Whoever has been polled meanwhile was read in the middle of it.
    let same = state(source, task, layout)? == before;
    Ok(Draft { before, found: found.filter(|_| same), read })
}

impl Draft {
    /// What was found, if all of it is as it was; what is read now must be newer than all that was read before.
    fn confirmed(self, source: &mut dyn Source, of: &Awaiter<'_>) -> Result<Option<Awaiting>, NoAwaits> {
        let mut now = Vec::new();
        let same = self.read.iter().all(|(at, bytes)| {
            now.resize(bytes.len(), 0);
            bytes.is_empty() || source.read(*at, &mut now) && now[..] == bytes[..]
        });
        let after = state(source, of.task, of.layout)?;
        Ok(self.found.filter(|_| same && self.before == after))
    }
}

/// The task's state now, if its future may be read in it.
fn state(source: &mut dyn Source, task: &LiveTask, layout: &CellLayout) -> Result<TaskState, NoAwaits> {
    let offsets = [layout.state, layout.vtable, layout.id].map(|offset| offset as usize);
    let mut head = [0; HEAD];
    let head = head.get_mut(..offsets.into_iter().max().unwrap_or(0) + 8).ok_or(NoAwaits::Undescribed)?;
    if !source.read_now(task.header, head) {
        return Err(NoAwaits::Unreadable);
    }
    let [state, vtable, id] = offsets.map(|offset| word_at(head, offset));
    let state = TaskState(state.ok_or(NoAwaits::Unreadable)?);
    let same = vtable == Some(task.vtable.0) && id == Some(task.id.0);
    match state {
        // Freed, and perhaps another's by now: it has ended.
        _ if !same || state.is_complete() => Err(NoAwaits::Complete),
        state if state.is_running() => Err(NoAwaits::Running),
        state => Ok(state),
    }
}
