//! What a task's future waits for, call by call: its state machine is read as its shape says.
//!
//! Nothing is stopped, so what is read is read twice: a future that is not the same the second time is read anew, or said
//! to be changing. Does not know: where shapes come from, nor names.

use std::rc::Rc;
use std::sync::Arc;

use super::cell::word_at;
use super::pages::Pages;
use crate::model::{
    Awaiting, Bias, CellLayout, LiveTask, Part, Phase, Place, Polled, ProcAddr, ShapeId, ShapeKind, Shapes, Standing,
    Suspension, TaskState, Unfollowed,
};

/// A task whose state has changed meanwhile is read so often.
const TRIES: usize = 3;
/// Deepest nesting of values that is followed.
const DEEPEST: u32 = 128;
/// Most futures of one task that are told.
const MOST: usize = 1 << 12;
/// Most values of one task that are looked into.
const MOST_VALUES: u32 = 1 << 16;
/// Most bytes of one task that are read, and of one value.
const MOST_READ: usize = 16 << 20;
const LONGEST: u64 = 4 << 20;
/// Bytes of a cell's head in which its words stand, at most.
const HEAD: usize = 256;
/// Bytes of several tasks that are held to be read again.
const MOST_HELD: usize = 16 << 20;
/// Most values in a row that are looked into.
const MOST_ELEMENTS: u64 = 1 << 10;
/// Values that are looked through for a future that another variant would hold.
const MOST_AROUND: u32 = 4;
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
    /// It changed each time while it was read.
    Changing,
    /// Its memory cannot be read.
    Unreadable,
}

/// Memory that is read.
pub trait Source {
    /// Reads exactly so many bytes; false where it cannot.
    fn read(&mut self, at: ProcAddr, to: &mut [u8]) -> bool;

    /// The same, of this moment, whatever was read before.
    fn read_now(&mut self, at: ProcAddr, to: &mut [u8]) -> bool {
        self.read(at, to)
    }
}

impl<S: Source + ?Sized> Source for &mut S {
    fn read(&mut self, at: ProcAddr, to: &mut [u8]) -> bool {
        (**self).read(at, to)
    }

    fn read_now(&mut self, at: ProcAddr, to: &mut [u8]) -> bool {
        (**self).read_now(at, to)
    }
}

impl Source for crate::target::Memory<'_> {
    fn read(&mut self, at: ProcAddr, to: &mut [u8]) -> bool {
        self.read_exact(at, to).is_ok()
    }
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
    let mut reading = Reading { shapes, bias, source: &mut *source, read: Vec::new(), bytes: 0, values: 0, told: 0 };
    let Some(bytes) = reading.block(ProcAddr(at), shape.size) else { return Err(NoAwaits::Unreadable) };
    let found = match reading.variant(stage, &bytes) {
        Some(part) if part.shape == running => reading.own(part, &bytes),
        // It has ended, or is being cancelled: the state says so soon.
        _ => None,
    };
    let read = reading.read;
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

/// One reading of one task.
struct Reading<'r> {
    shapes: &'r Shapes,
    bias: Bias,
    source: &'r mut dyn Source,
    /// What was read where.
    read: Vec<(ProcAddr, Rc<[u8]>)>,
    bytes: usize,
    values: u32,
    told: usize,
}

impl Reading<'_> {
    fn block(&mut self, at: ProcAddr, size: u64) -> Option<Rc<[u8]>> {
        let length = usize::try_from(size).ok().filter(|_| size <= LONGEST)?;
        self.bytes = self.bytes.checked_add(length).filter(|bytes| *bytes <= MOST_READ)?;
        let mut bytes = vec![0; length];
        if length > 0 && !self.source.read(at, &mut bytes) {
            return None;
        }
        let bytes: Rc<[u8]> = Rc::from(bytes);
        self.read.push((at, Rc::clone(&bytes)));
        Some(bytes)
    }

    /// The task's own future; `None` where it has none to wait in.
    fn own(&mut self, part: Part, bytes: &[u8]) -> Option<Awaiting> {
        // The variant is a record around it.
        let (part, bytes) = match &self.shapes.get(part.shape)?.kind {
            ShapeKind::Record(fields) => (*fields.first()?, within(bytes, part, self.shapes)?),
            _ => (part, bytes),
        };
        let value = within(bytes, part, self.shapes)?;
        let mut found = Vec::new();
        self.futures_in(part.shape, value, Polled::Awaited, 0, &mut found);
        match found.len() {
            1 => found.pop(),
            // Not known to be a future by itself, as a boxed one of no known type: it is one, for it was spawned.
            _ => {
                let future = Arc::clone(&self.shapes.get(part.shape)?.name);
                Some(Awaiting { future, standing: Standing::Leaf, how: Polled::Awaited, on: found })
            }
        }
    }

    /// The futures in a value, outermost only; what they wait for is within them.
    fn futures_in(&mut self, id: ShapeId, bytes: &[u8], how: Polled, depth: u32, found: &mut Vec<Awaiting>) {
        let shapes = self.shapes;
        let Some(shape) = shapes.get(id) else { return };
        self.values += 1;
        if depth > DEEPEST || self.told >= MOST || self.values > MOST_VALUES {
            let is_said = found.last().is_some_and(|last| last.standing == Standing::Unfollowed(Unfollowed::TooDeep));
            if !is_said {
                found.push(unfollowed(&shape.name, how, Unfollowed::TooDeep));
            }
            return;
        }
        if shape.future && !matches!(shape.kind, ShapeKind::Object) {
            self.told += 1;
            found.extend(self.future(id, bytes, how, depth + 1));
            return;
        }
        match &shape.kind {
            ShapeKind::Opaque | ShapeKind::Body { .. } => {}
            ShapeKind::Record(fields) => {
                // A wrapper, as `Pin` is one, changes nothing.
                let wraps = |field: &Part| shapes.get(field.shape).is_some_and(|inner| inner.size == shape.size);
                let how = if fields.iter().any(wraps) { how } else { Polled::Held };
                for field in fields {
                    if let Some(value) = within(bytes, *field, shapes) {
                        self.futures_in(field.shape, value, how, depth + 1, found);
                    }
                }
            }
            ShapeKind::Choice(..) => {
                if let Some(part) = self.variant(id, bytes)
                    && let Some(value) = within(bytes, part, shapes)
                {
                    self.futures_in(part.shape, value, Polled::Held, depth + 1, found);
                }
            }
            ShapeKind::Pointer(to) => {
                let (Some(at), Some(of)) = (word_at(bytes, 0), shapes.get(*to)) else { return };
                match self.block(ProcAddr(at), of.size) {
                    Some(value) => self.futures_in(*to, &value, how, depth + 1, found),
                    None if of.future => found.push(unfollowed(&of.name, how, Unfollowed::Unreadable)),
                    None => {}
                }
            }
            ShapeKind::Object => self.object(id, bytes, how, depth, found),
            ShapeKind::Slice(of) => {
                let (Some(at), Some(count), Some(size)) =
                    (word_at(bytes, 0), word_at(bytes, 8), shapes.get(*of).map(|of| of.size))
                else {
                    return;
                };
                for n in 0..count.min(MOST_ELEMENTS) {
                    let Some(at) = n.checked_mul(size).and_then(|offset| at.checked_add(offset)) else { return };
                    let Some(value) = self.block(ProcAddr(at), size) else { return };
                    self.futures_in(*of, &value, Polled::Held, depth + 1, found);
                }
            }
        }
    }

    /// A value behind a table of functions.
    fn object(&mut self, id: ShapeId, bytes: &[u8], how: Polled, depth: u32, found: &mut Vec<Awaiting>) {
        let shapes = self.shapes;
        let (Some(at), Some(table), Some(shape)) = (word_at(bytes, 0), word_at(bytes, 8), shapes.get(id)) else {
            return;
        };
        let of = match shapes.objects.get(&self.bias.to_virtual(ProcAddr(table))) {
            Some(Some(of)) => *of,
            // Whether anything else is polled is not known.
            _ if !shape.future => return,
            Some(None) => return found.push(unfollowed(&shape.name, how, Unfollowed::SharedObject)),
            None => return found.push(unfollowed(&shape.name, how, Unfollowed::UnknownObject)),
        };
        let Some(size) = shapes.get(of).map(|of| of.size) else { return };
        match self.block(ProcAddr(at), size) {
            Some(value) => self.futures_in(of, &value, how, depth + 1, found),
            None if shape.future => found.push(unfollowed(&shape.name, how, Unfollowed::Unreadable)),
            None => {}
        }
    }

    /// One future and what it waits for; `None` for one that is over and that nobody awaits any more.
    fn future(&mut self, id: ShapeId, bytes: &[u8], how: Polled, depth: u32) -> Option<Awaiting> {
        let shapes = self.shapes;
        let shape = shapes.get(id)?;
        let future = Arc::clone(&shape.name);
        let mut on = Vec::new();
        let ShapeKind::Body { tag, states, declared } = &shape.kind else {
            self.fields(id, bytes, depth, &mut on);
            // Another of its variants would hold one: it has got what it waited for.
            let over = on.is_empty() && matches!(shape.kind, ShapeKind::Choice(..)) && self.may_hold(id, 0);
            if over && how == Polled::Held {
                return None;
            }
            return Some(Awaiting { future, standing: Standing::Leaf, how, on });
        };
        let tag = tag.of(bytes);
        let Some(state) = states.iter().find(|state| Some(state.tag) == tag) else {
            return Some(unfollowed(&shape.name, how, Unfollowed::NoSuchState));
        };
        let standing = match &state.phase {
            Phase::NotStarted => Standing::NotStarted,
            Phase::Returned | Phase::Panicked => match how {
                Polled::Awaited => Standing::Unfollowed(Unfollowed::Over),
                Polled::Held => return None,
            },
            Phase::Suspended { place, awaits } => {
                if let Some(part) = awaits {
                    self.awaited(*part, bytes, depth, &mut on);
                }
                let place = place.clone();
                let is_elsewhere = |begin: &Arc<Place>| place.as_ref().is_some_and(|place| place.file != begin.file);
                let within = declared.clone().filter(is_elsewhere);
                Standing::Suspended(Suspension { place, within })
            }
        };
        Some(Awaiting { future, standing, how, on })
    }

    /// What a body awaits: a future, whether or not it is known to be one.
    fn awaited(&mut self, part: Part, bytes: &[u8], depth: u32, on: &mut Vec<Awaiting>) {
        let shapes = self.shapes;
        let (Some(shape), Some(value)) = (shapes.get(part.shape), within(bytes, part, shapes)) else { return };
        self.futures_in(part.shape, value, Polled::Awaited, depth, on);
        if on.is_empty() && !shape.name.is_empty() {
            let future = Arc::clone(&shape.name);
            on.push(Awaiting { future, standing: Standing::Leaf, how: Polled::Awaited, on: Vec::new() });
        }
    }

    /// What a future that is no async body holds.
    fn fields(&mut self, id: ShapeId, bytes: &[u8], depth: u32, on: &mut Vec<Awaiting>) {
        let shapes = self.shapes;
        let Some(shape) = shapes.get(id) else { return };
        let parts = match &shape.kind {
            ShapeKind::Record(fields) => fields.clone(),
            ShapeKind::Choice(..) => self.variant(id, bytes).into_iter().collect(),
            _ => return,
        };
        for part in parts {
            if let Some(value) = within(bytes, part, shapes) {
                self.futures_in(part.shape, value, Polled::Held, depth, on);
            }
        }
    }

    /// Whether a value of this type may hold futures.
    fn may_hold(&mut self, id: ShapeId, depth: u32) -> bool {
        let shapes = self.shapes;
        self.values += 1;
        if depth > MOST_AROUND || self.values > MOST_VALUES {
            return false;
        }
        let mut future = |part: &Part| {
            shapes.get(part.shape).is_some_and(|shape| shape.future) || self.may_hold(part.shape, depth + 1)
        };
        match shapes.get(id).map(|shape| &shape.kind) {
            Some(ShapeKind::Record(fields)) => fields.iter().any(future),
            Some(ShapeKind::Choice(_, variants)) => variants.iter().any(|variant| future(&variant.part)),
            _ => false,
        }
    }

    /// The variant that is there.
    fn variant(&self, id: ShapeId, bytes: &[u8]) -> Option<Part> {
        let ShapeKind::Choice(tag, variants) = &self.shapes.get(id)?.kind else { return None };
        let Some(tag) = tag else { return variants.first().map(|only| only.part) };
        let there = tag.of(bytes)?;
        let found = variants.iter().find(|variant| variant.tag == Some(there));
        found.or_else(|| variants.iter().find(|variant| variant.tag.is_none())).map(|variant| variant.part)
    }
}

fn unfollowed(future: &Arc<str>, how: Polled, why: Unfollowed) -> Awaiting {
    Awaiting { future: Arc::clone(future), standing: Standing::Unfollowed(why), how, on: Vec::new() }
}

/// The bytes of a part of a value.
fn within<'b>(bytes: &'b [u8], part: Part, shapes: &Shapes) -> Option<&'b [u8]> {
    let (from, size) = (usize::try_from(part.offset).ok()?, usize::try_from(shapes.get(part.shape)?.size).ok()?);
    bytes.get(from..)?.get(..size)
}
