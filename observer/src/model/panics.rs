//! How panics of an image's code show.

/// How a panic shows in this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicSight {
    /// A probe sits where panics begin.
    Probed,
    /// The program is built to abort on panic: no task outlives one.
    Aborts,
    /// Panics exist and are not seen: only the stored `JoinError` tells of them.
    Unseen,
}
