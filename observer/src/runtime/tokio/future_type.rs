//! A future's type, and whether it is told for certain.
//!
//! Does not know: evidence.

use crate::symbols::TypeText;

/// What tokio wraps a blocking closure into, to have a future of it.
pub(super) const BLOCKING_TASK: [&str; 5] = ["tokio", "runtime", "blocking", "task", "BlockingTask"];

/// A future's type and whether the evidence for it is one vtable's alone.
#[derive(Clone, Debug)]
pub(super) struct FutureType {
    pub(super) text: TypeText,
    pub(super) alone: bool,
}

impl FutureType {
    /// From the type that tokio's own generic functions have as `T`: without the wrapper of a blocking closure.
    pub(super) fn of(task: &TypeText, alone: bool) -> Self {
        let wrapper = task.path().filter(|p| p.is(&BLOCKING_TASK));
        let text = wrapper.and_then(|wrapper| wrapper.argument(0)).unwrap_or(task).clone();
        Self { text, alone }
    }
}

/// A future's type as a person writes it, from its name in debug information.
pub fn future_name(raw: &str) -> Option<String> {
    TypeText::parse(raw).map(|text| text.short_future())
}
