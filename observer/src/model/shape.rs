//! How types lie in memory, as far as it takes to find the futures that wait in others.
//!
//! Does not know: where that was read.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Place, VirtAddr};

/// Which of an image's shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShapeId(pub u32);

/// All shapes that were asked for of one image, and those that are within them.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    /// By number.
    pub all: Vec<Shape>,
    /// What a task of each type has its future in, by the address of its poll function; `None` where it has several.
    pub stages: HashMap<VirtAddr, Option<ShapeId>>,
    /// What an object with this table of functions is; `None` where several types share the table.
    pub objects: HashMap<VirtAddr, Option<ShapeId>>,
    /// Names as a person writes them, of futures whose own name only numbers what a person would name.
    pub names: HashMap<Arc<str>, String>,
}

impl Shapes {
    /// The shape with this number.
    pub fn get(&self, id: ShapeId) -> Option<&Shape> {
        self.all.get(usize::try_from(id.0).ok()?)
    }
}

/// One type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its full name, as debug information has it; empty where nobody needs it.
    pub name: Arc<str>,
    /// Bytes.
    pub size: u64,
    /// What its address is a multiple of; 1 where that is not told.
    pub align: u64,
    /// It is known to be a future: it has a function that polls it. Of an object: `dyn Future`.
    pub future: bool,
    /// What it consists of.
    pub kind: ShapeKind,
}

/// What a type consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShapeKind {
    /// Nothing that is looked into.
    Opaque,
    /// Fields, all of them there.
    Record(Vec<Part>),
    /// Of several variants one is there. Without a tag there is only one.
    Choice(Option<Tag>, Vec<Variant>),
    /// An async body.
    Body {
        /// Which state it is in.
        tag: Tag,
        /// Its states.
        states: Vec<BodyState>,
        /// Where it begins in the source.
        declared: Option<Arc<Place>>,
    },
    /// The one pointer to a value, which belongs to whoever has the pointer (`&mut`, `Box`).
    Pointer(ShapeId),
    /// Such a pointer to a value whose type the second word tells: a table of functions.
    Object,
    /// Such a pointer to values in a row, whose number is the second word.
    Slice(ShapeId),
}

/// A value within another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From the other's beginning, bytes.
    pub offset: u64,
    /// What it is.
    pub shape: ShapeId,
}

/// Which variant is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// From the value's beginning, bytes.
    pub offset: u64,
    /// Bytes: 1, 2, 4 or 8.
    pub size: u8,
}

impl Tag {
    /// The tag as it lies in a value's bytes.
    pub fn of(self, value: &[u8]) -> Option<u64> {
        let from = usize::try_from(self.offset).ok()?;
        let bytes = value.get(from..)?.get(..usize::from(self.size))?;
        let mut word = [0; 8];
        word.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(u64::from_le_bytes(word))
    }

    /// So much of a number as a tag has bytes.
    pub fn cut(self, value: u64) -> u64 {
        match u32::from(self.size) * 8 {
            bits @ 1..64 => value & ((1 << bits) - 1),
            _ => value,
        }
    }
}

/// One variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Its tag; `None` for the one that has every tag which is no other's.
    pub tag: Option<u64>,
    /// Its fields.
    pub part: Part,
}

/// One state of an async body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyState {
    /// Its tag.
    pub tag: u64,
    /// What that means.
    pub phase: Phase,
}

/// How far an async body has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It was not polled yet.
    NotStarted,
    /// It has returned.
    Returned,
    /// It panicked, and is never polled again.
    Panicked,
    /// It awaits.
    Suspended {
        /// Where in the source; the column is not told.
        place: Option<Arc<Place>>,
        /// What, within the body; `None` where it awaits nothing that has a name there.
        awaits: Option<Part>,
    },
}
