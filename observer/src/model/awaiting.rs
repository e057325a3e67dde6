//! What a task's future waits for, call by call, as its own state says.
//!
//! Does not know: how that was read.

use std::sync::Arc;

use super::Place;

/// One future that waits, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Awaiting {
    /// The future's type, as debug information has it.
    pub future: Arc<str>,
    /// How it stands.
    pub standing: Standing,
    /// Who polls it.
    pub how: Polled,
    /// The futures that it waits for.
    pub on: Vec<Awaiting>,
}

/// How a future stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// An async body that awaits at this place.
    Suspended(Suspension),
    /// An async body that was not polled yet.
    NotStarted,
    /// A future that is no async body: what it has come to it does not say.
    Leaf,
    /// What it is, or waits for, could not be read.
    Unfollowed(Unfollowed),
}

/// Where an async body awaits; without columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Suspension {
    /// File and line, if they are told.
    pub place: Option<Arc<Place>>,
    /// Where the body begins, if the place is in another file: a macro's, which awaits for it.
    pub within: Option<Arc<Place>>,
}

/// Whether a future is polled by the one above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Polled {
    /// The body above awaits it, or it is the task's own.
    Awaited,
    /// The future above holds it: a branch of `join!` or `select!`, or what a combinator wraps. That it still waits for
    /// this one is likely, not certain.
    Held,
}

/// Why an await stack is not told further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unfollowed {
    /// A `dyn Future` whose table of functions is no known type's.
    UnknownObject,
    /// A `dyn Future` whose table of functions several types share.
    SharedObject,
    /// The memory cannot be read.
    Unreadable,
    /// The state that stands in memory is none that the type has.
    NoSuchState,
    /// An async body that has panicked or returned, and is still held.
    Over,
    /// It goes deeper than is followed.
    TooDeep,
}

impl Unfollowed {
    /// In words.
    pub fn why(self) -> &'static str {
        match self {
            Self::UnknownObject => "a dyn Future whose type its function table does not tell",
            Self::SharedObject => "a dyn Future of one of several types with one function table",
            Self::Unreadable => "its memory cannot be read",
            Self::NoSuchState => "its memory holds no state that it can have",
            Self::Over => "it has ended, and is still held",
            Self::TooDeep => "more deeply nested than is followed",
        }
    }
}
