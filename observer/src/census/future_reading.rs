//! One reading of a task's future: what it waits for, future by future, as the shapes of their types say.
//!
//! Does not know: whether the future stood still meanwhile. All that was read is given back, so that somebody may look again.

use std::rc::Rc;
use std::sync::Arc;

use super::source::Source;
use crate::model::{
    Awaiting, Bias, Part, Phase, Place, Polled, ProcAddr, ShapeId, ShapeKind, Shapes, Standing, Suspension, Unfollowed,
    word_at,
};

/// Deepest nesting of values that is followed.
const DEEPEST: u32 = 128;
/// Most futures of one task that are told.
const MOST: usize = 1 << 12;
/// Most values of one task that are looked into.
const MOST_VALUES: u32 = 1 << 16;
/// Most bytes of one task that are read, and of one value.
const MOST_READ: usize = 16 << 20;
const LONGEST: u64 = 4 << 20;
/// Most values in a row that are looked into.
const MOST_ELEMENTS: u64 = 1 << 10;
/// Values that are looked through for a future that another variant would hold.
const MOST_AROUND: u32 = 4;

/// One reading.
pub(super) struct Reading<'r> {
    shapes: &'r Shapes,
    bias: Bias,
    source: &'r mut dyn Source,
    read: Vec<(ProcAddr, Rc<[u8]>)>,
    bytes: usize,
    values: u32,
    told: usize,
}

impl<'r> Reading<'r> {
    /// Nothing was read yet, from an image that is loaded so far from its own addresses.
    pub(super) fn new(shapes: &'r Shapes, bias: Bias, source: &'r mut dyn Source) -> Self {
        Self { shapes, bias, source, read: Vec::new(), bytes: 0, values: 0, told: 0 }
    }

    /// All that was read, with where it was.
    pub(super) fn parts(self) -> Vec<(ProcAddr, Rc<[u8]>)> {
        self.read
    }

    /// Reads so many bytes; `None` where that cannot be, or is too much.
    pub(super) fn block(&mut self, at: ProcAddr, size: u64) -> Option<Rc<[u8]>> {
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
    pub(super) fn own(&mut self, part: Part, bytes: &[u8]) -> Option<Awaiting> {
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
    pub(super) fn variant(&self, id: ShapeId, bytes: &[u8]) -> Option<Part> {
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
