//! How much of the lives of tasks was watched, which says what a count of live ones is worth.
//!
//! Does not know: what is alive.

/// From nothing to all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    /// No probe was meant for it: who lives is not known.
    #[default]
    Nothing,
    /// Not all that may free a task: who was seen may have ended.
    Births,
    /// All of a life.
    Lives,
}
