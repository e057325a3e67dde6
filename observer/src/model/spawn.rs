//! What is known of one spawn: who made it, and through which calls.
//!
//! Does not know: how it was seen.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Ns, Place, PointIndex, ProcAddr, TargetId, TaskId, Tid, UnwindEnd, VirtAddr};

/// One spawn that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnSeen {
    /// When.
    pub at: Ns,
    /// Which process.
    pub target: TargetId,
    /// The spawner's thread.
    pub tid: Tid,
    /// Which copy of the runtime gave the id, by the number of the first point of the image that holds it: ids are unique
    /// in one copy only.
    pub image: PointIndex,
    /// The new task.
    pub task: TaskId,
    /// The calls that led to it; `None` where there were too many different ones to keep.
    pub stack: Option<StackId>,
    /// The task that made it.
    pub trigger: Trigger,
}

/// The calls that led to a spawn: the same number for the same calls in the same process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(pub u32);

/// Which task made a spawn, as its stack tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// None: the whole stack is known, and no task's poll is in it, or the innermost is a runtime's own worker's.
    NoTask,
    /// This one.
    Task {
        /// Which.
        id: TaskId,
        /// Its type, by its vtable in the process.
        vtable: ProcAddr,
    },
    /// A task of one of these types.
    OfType {
        /// The types that share the poll function which is in the stack, by their vtables in the process.
        vtables: Vec<ProcAddr>,
        /// Why not more is known.
        why: Untold,
    },
    /// Nothing is known: the stack ends early, and no task's poll is in what is there of it.
    Unknown(UnwindEnd),
}

/// Why it is not known which task of a type made a spawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Untold {
    /// The task had ended, or its memory could not be read, when it was looked at.
    Gone,
    /// Several tasks of the type are in the poll's frame.
    Several,
    /// No task is in the poll's frame, or one that proves nothing.
    NotFound,
}

/// The code of a task's poll: the function that the vtable names, or one that it only jumps to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollBody {
    /// From its first byte to behind its last.
    pub code: Range<VirtAddr>,
    /// The types whose polls it is, by their vtables.
    pub vtables: Vec<VirtAddr>,
    /// What the addresses of their headers are multiples of.
    pub align: u32,
    /// Each of them is a runtime's own worker.
    pub worker: bool,
}

/// One call of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The probed instruction for the innermost, where the call returns to for all others.
    pub address: ProcAddr,
    /// The file it is in; `None` where none is mapped there.
    pub image: Option<ImagePlace>,
    /// The functions, innermost first: more than one where the compiler put one into the other. Empty where nothing names
    /// them.
    pub functions: Vec<FunctionName>,
}

/// A place in an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImagePlace {
    /// Path as mapped.
    pub path: String,
    /// The place.
    pub at: VirtAddr,
    /// Where its function begins; `None` where no unwind table tells.
    pub function: Option<VirtAddr>,
}

/// A function in a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionName {
    /// As the source has it, without a hash.
    pub name: String,
    /// Several functions share the code: it may be another of them.
    pub certain: bool,
    /// The line that runs there, where debug information is left.
    pub place: Option<Place>,
    /// The runtime's, or the standard library's.
    pub machinery: bool,
}

/// The function that made a spawn: the first that is neither the runtime's nor the standard library's, as indices of the
/// call and of the function in it. `None` where a call before it has no name, or there is none.
pub fn first_own(stack: &[Caller]) -> Option<(usize, usize)> {
    for (n, caller) in stack.iter().enumerate() {
        if caller.functions.is_empty() {
            return None;
        }
        if let Some(own) = caller.functions.iter().position(|function| !function.machinery) {
            return Some((n, own));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(functions: &[(&str, bool)]) -> Caller {
        let function = |(name, machinery): &(&str, bool)| FunctionName {
            name: (*name).to_owned(),
            certain: true,
            place: None,
            machinery: *machinery,
        };
        Caller { address: ProcAddr(1), image: None, functions: functions.iter().map(function).collect() }
    }

    #[test]
    fn the_first_function_of_ones_own_may_be_inside_another_call() {
        let runtime = caller(&[("tokio::spawn", true)]);
        let own = caller(&[("core::iter::map", true), ("app::serve", false), ("app::main", false)]);
        assert_eq!(first_own(&[runtime.clone(), own.clone()]), Some((1, 1)));
        assert_eq!(first_own(std::slice::from_ref(&runtime)), None);
        assert_eq!(first_own(&[runtime, caller(&[]), own]), None, "what has no name may be one's own");
    }
}
