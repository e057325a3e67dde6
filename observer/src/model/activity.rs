//! What a task is doing at the moment its state word was read.

use super::TaskState;

/// One of the four; the words of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Activity {
    /// Waits to be woken.
    Idle,
    /// Woken, waits to be polled.
    Scheduled,
    /// Being polled, or cancelled, by a thread.
    Running,
    /// Over; its cell is kept by a handle. Not live.
    Complete,
}

impl Activity {
    /// The word used on output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Complete => "complete",
        }
    }
}

impl TaskState {
    /// What the word says: complete before running before scheduled.
    pub fn activity(self) -> Activity {
        if self.is_complete() {
            Activity::Complete
        } else if self.is_running() {
            Activity::Running
        } else if self.is_notified() {
            Activity::Scheduled
        } else {
            Activity::Idle
        }
    }

    /// Whether nothing is left that could have a future polled again: it is idle, and all references are accounted for
    /// by its task list (1) and its join handle. A waker is a reference, and so is a place in a queue.
    pub fn is_unwakeable(self) -> bool {
        self.activity() == Activity::Idle && self.references() == 1 + u64::from(self.has_join_interest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_word_is_one_activity() {
        let words = [0xcc, 0x84, 0x80, 0x89, 0x8d, 0x42, 0x4a];
        let said = words.map(|word| TaskState(word).activity().as_str());
        assert_eq!(said, ["scheduled", "scheduled", "idle", "running", "running", "complete", "complete"]);
    }

    #[test]
    fn only_an_idle_task_whose_references_are_all_accounted_for_is_unwakeable() {
        // Its list's reference alone; the same and a join handle; both of these with a join waker.
        for word in [0x40, 0x88, 0x98] {
            assert!(TaskState(word).is_unwakeable(), "0x{word:x}");
        }
        // A waker or an abort handle besides; scheduled; running; complete.
        for word in [0x80, 0xc8, 0x44, 0x8c, 0x41, 0x89, 0x42, 0x8a] {
            assert!(!TaskState(word).is_unwakeable(), "0x{word:x}");
        }
    }
}
