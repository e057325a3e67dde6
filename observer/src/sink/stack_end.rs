//! Why a stack was followed no further, in the words of every rendering.

use crate::model::{CopyEnd, NoRule, UnwindEnd};

/// One reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackEnd {
    /// Of a stack that a task was spawned through, for programs.
    pub(super) word: &'static str,
    /// The same for people, in the place of the next call.
    pub(super) line: &'static str,
    /// Of samples that are not followed, for both.
    pub cause: &'static str,
}

impl StackEnd {
    /// `None` where it was followed to its root.
    pub fn of(end: UnwindEnd) -> Option<Self> {
        let (word, line, cause) = match end {
            UnwindEnd::Root => return None,
            UnwindEnd::Bound => ("bound", "more calls than are kept", "more calls than are followed"),
            UnwindEnd::NoRule(NoRule::Trampoline) => (
                "probe",
                "polled by the runtime; who called that is the kernel's, while polls are probed",
                "a function whose return is probed",
            ),
            UnwindEnd::NoRule(NoRule::NoImage) => ("noRule", "called from code that is in no image", "code of no file"),
            UnwindEnd::NoRule(NoRule::NoTable) => ("noRule", UNTOLD, "no unwind table"),
            UnwindEnd::NoRule(NoRule::NotCovered) => ("noRule", UNTOLD, "not in the unwind table"),
            UnwindEnd::NoRule(NoRule::Ended) => (
                "ended",
                "the process had ended before the image was read that says how to unwind further",
                "a process that had ended",
            ),
            UnwindEnd::NoRule(NoRule::Unread) => (
                "unread",
                "the image that says how to unwind further could not be read",
                "an image that could not be read",
            ),
            UnwindEnd::Unsupported => (
                "unsupported",
                "the image says how to unwind further in a way that is not followed",
                "a rule that is not computed",
            ),
            UnwindEnd::Copy(CopyEnd::Bound) => ("copy", COPIED, "a deeper stack than a sample holds"),
            UnwindEnd::Copy(CopyEnd::Unreadable | CopyEnd::NoRoom) => {
                ("copy", COPIED, "a stack that could not be read")
            }
            UnwindEnd::Astray => ("astray", "unwinding leads nowhere from here", "rules that lead nowhere"),
        };
        Some(Self { word, line, cause })
    }
}

const UNTOLD: &str = "the image does not say how to unwind further";
const COPIED: &str = "the part of the stack that is copied ends here";
