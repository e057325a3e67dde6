//! What one record says once its bytes are understood: the event arm's input.

use super::{CellLayout, Ns, ProcAddr, Role, TargetId, TaskId, TaskState, Tid};

/// One hit of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When.
    pub at: Ns,
    /// Which process.
    pub target: TargetId,
    /// On which thread.
    pub tid: Tid,
    /// What.
    pub seen: Seen,
}

/// What a probe saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A task of the vtable's type is born; `minted` is the id its thread took from the runtime's counter.
    Birth {
        /// The type, by its vtable in the process.
        vtable: ProcAddr,
        /// The id, where the mint was seen.
        minted: Option<TaskId>,
    },
    /// A function of a task's vtable begins.
    Enter {
        /// Which function.
        role: Role,
        /// Where the thread's stack stands.
        frame: Frame,
        /// The task.
        header: ProcAddr,
        /// The task's memory at that moment.
        cell: Cell,
    },
    /// That function ends.
    Leave {
        /// Which function.
        role: Role,
        /// The frame of its entry.
        frame: Frame,
        /// The task; `None` where the entry was not remembered.
        header: Option<ProcAddr>,
        /// The task's memory at that moment, which may be freed and used for something else by now.
        cell: Cell,
        /// The stage, where the task is complete.
        stage: Option<StageWords>,
    },
    /// The last reference to a task is given up: its memory is freed next.
    Release {
        /// The task.
        header: ProcAddr,
        /// The task's memory at that moment, which is still its own.
        cell: Cell,
    },
    /// A panic is told to the program's hook: one of these, the first that can be, is the address of its `Location`.
    Hook([ProcAddr; 2]),
    /// A panic begins to unwind.
    Raise,
}

/// A stack pointer at a function's entry: orders and identifies the open calls of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(pub u64);

/// What stands at a header's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// A task of a known type.
    Task(CellWords),
    /// Not looked at by us. Who looked saw the task as it was at the call's entry, with neither an outcome nor asked to end, and
    /// had nothing to report.
    Unsaid,
    /// Something else: no known vtable where one should be.
    Foreign,
    /// The memory could not be read.
    Unreadable,
}

/// The words of a task's cell that the life cycle needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellWords {
    /// Its type.
    pub vtable: ProcAddr,
    /// Its id.
    pub id: TaskId,
    /// Its state word.
    pub state: TaskState,
    /// Its queue link: 0 or another header.
    pub queue_next: u64,
}

impl CellWords {
    /// Whether a live task can have these words, given its type's layout. Freed memory fails it: the last reference
    /// leaves 0 behind, and allocators write links over the first words.
    pub fn is_plausible(&self, layout: &CellLayout) -> bool {
        self.state.is_plausible() && layout.is_queue_link(self.queue_next)
    }
}

/// How many words of a stage are looked at.
const STAGE_MOST: usize = 13;

/// How many words may stand between the beginning of what a stage holds and a `JoinError` in it: the discriminant of a
/// `Result` whose output has none to spare.
const LATEST_ERROR: usize = 1;

/// The first words of a complete task's stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageWords {
    words: [u64; STAGE_MOST],
    len: usize,
}

/// What a stage tells of how the task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageEvidence {
    /// A `JoinError` with this task's id and a panic's payload.
    PanicStored,
    /// A `JoinError` with this task's id and no payload.
    CancellationStored,
    /// An output is stored, and no `JoinError` with this task's id.
    OutputStored,
    /// The output was taken already, or the stage's form is not known for this version.
    Silent,
}

/// `Stage::Finished` and `Stage::Consumed` in the `repr(C)` enum of tokio's `runtime/task/core.rs`.
const STAGE_FINISHED: u32 = 1;

impl StageWords {
    /// Takes the first words of the slice.
    pub fn new(from: &[u64]) -> Self {
        let mut words = [0; STAGE_MOST];
        let len = from.len().min(STAGE_MOST);
        words[..len].copy_from_slice(&from[..len]);
        Self { words, len }
    }

    /// Reads the evidence. Mirrors tokio 1.23 to 1.54: `JoinError { repr: Cancelled | Panic(Box<dyn Any>), id }`, in the
    /// field order that the compiler chose, inside `Stage::Finished(Result<Output, JoinError>)`. `tagged` says that the
    /// version's `Stage` is `repr(C)`, so that its first 32 bits are the variant.
    ///
    /// What lies further behind is whatever the future left there, and what its output did not fill is whatever was on a
    /// stack: it may be the id as well. Found there, it proves nothing.
    pub fn evidence(&self, id: TaskId, tagged: bool) -> StageEvidence {
        let words = &self.words[..self.len];
        if tagged && words.first().is_none_or(|tag| *tag as u32 != STAGE_FINISHED) {
            return StageEvidence::Silent;
        }
        let begins = usize::from(tagged)..=usize::from(tagged) + LATEST_ERROR;
        let mut elsewhere = false;
        for (at, _) in words.iter().enumerate().filter(|(_, word)| **word == id.0) {
            let before =
                at.checked_sub(2).filter(|first| begins.contains(first)).and_then(|first| words.get(first..at));
            let after = words.get(at + 1..at + 3).filter(|_| begins.contains(&at));
            elsewhere |= before.is_none() && after.is_none();
            for pair in [before, after].into_iter().flatten() {
                match (pair[0], pair[1]) {
                    (data, vtable) if data != 0 && looks_like_pointer(vtable) => return StageEvidence::PanicStored,
                    (0, _) => return StageEvidence::CancellationStored,
                    _ => {}
                }
            }
        }
        if tagged && !elsewhere { StageEvidence::OutputStored } else { StageEvidence::Silent }
    }
}

/// A `Box<dyn Any>`'s vtable: aligned, in user space, not in the first page.
fn looks_like_pointer(word: u64) -> bool {
    word.is_multiple_of(8) && (0x1000..1 << 47).contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(words: &[u64], id: u64) -> StageEvidence {
        StageWords::new(words).evidence(TaskId(id), true)
    }

    // Words of tokio 1.54.1 in a release build, as they were read.

    #[test]
    fn what_an_allocator_leaves_in_freed_memory_is_no_live_task() {
        let layout = CellLayout::sample();
        let words = |state, queue_next| CellWords {
            vtable: ProcAddr(0x7efd_699f_0e68),
            id: TaskId(44),
            state: TaskState(state),
            queue_next,
        };
        assert!(words(0x84, 0).is_plausible(&layout) && words(0x84, 0x30fe_4c80).is_plausible(&layout));
        // As read from a program that is not position independent, after glibc 2.36 had freed it: the link to the next
        // piece, and the process's random number, which happens to be a multiple of 128.
        assert!(!words(821_909_220, 5_423_746_007_784_257_920).is_plausible(&layout));
        assert!(!words(0, 0).is_plausible(&layout), "the last reference is gone");
        assert!(!words(0x84, 0x80).is_plausible(&layout), "nothing is in the first page");
    }

    #[test]
    fn a_join_error_stands_at_the_beginning_of_what_is_stored() {
        let cancelled = [1, 0x2a, 0, 0x55a7_9464_7ae0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(evidence(&cancelled, 0x2a), StageEvidence::CancellationStored);
        let panicked = [1, 0x2a, 0x55a7_9464_7ae0, 0x55a7_9464_2938, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(evidence(&panicked, 0x2a), StageEvidence::PanicStored);
        let behind_a_discriminant = [1, 1, 0x2a, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(evidence(&behind_a_discriminant, 0x2a), StageEvidence::CancellationStored);
    }

    #[test]
    fn an_id_that_the_future_or_a_stack_left_behind_proves_nothing() {
        let ready = [1, 0, 0, 0, 0, 0, 0x55a7_9464_3910, 0x29, 0, 0, 0];
        assert_eq!(evidence(&ready, 0x29), StageEvidence::Silent);
        assert_eq!(evidence(&ready, 0x2a), StageEvidence::OutputStored);
    }

    #[test]
    fn a_stage_whose_output_was_taken_is_silent() {
        assert_eq!(evidence(&[2, 0x2a, 0, 0], 0x2a), StageEvidence::Silent);
    }
}
