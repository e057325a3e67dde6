//! From the registers and the copied stack of a thread to its callers, and to the task among them.
//!
//! Floor 2: sees `model` only; rules, memory and which function is a task's poll come in as arguments. Never guesses: where
//! no rule leads on, the callers end with the reason. Bounded, whatever the stack and the rules say.

mod step;
mod trigger;

pub use step::{MOST_FRAMES, Unwound, unwind};
pub use trigger::{Habits, Memory, Poll, PollCall, Polls, Told, trigger};
