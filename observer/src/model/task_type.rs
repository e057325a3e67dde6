//! What is known of one spawned future type from the image, and of one live task from memory.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Naming, Place, ProcAddr, TaskId, Tid, VirtAddr};

/// What kind of resource a task of this type is; named as Node names its providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Resource {
    /// A future on a scheduler (`tokio::spawn`, `JoinSet`, `LocalSet`).
    Task,
    /// A closure on the blocking pool (`spawn_blocking`); a multi-thread runtime's workers are such tasks, too.
    Blocking,
}

impl Resource {
    /// The word used on output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "TOKIO_TASK",
            Self::Blocking => "TOKIO_BLOCKING",
        }
    }
}

/// The functions of a task's vtable that matter here, in link-time addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFunctions {
    /// Polls the future once.
    pub poll: VirtAddr,
    /// Puts the task into its scheduler's queue; one per scheduler type, not per future type.
    pub schedule: VirtAddr,
    /// Frees the cell.
    pub dealloc: VirtAddr,
    /// Takes the output for the join handle.
    pub try_read_output: VirtAddr,
    /// Ends the join handle's interest.
    pub drop_join_handle_slow: VirtAddr,
    /// Gives back an abort handle's reference.
    pub drop_abort_handle: VirtAddr,
    /// Cancels the task because its runtime or set goes down.
    pub shutdown: VirtAddr,
}

impl TaskFunctions {
    /// Those that may drop the future or its output, and never poll it.
    pub fn dropping(&self) -> [VirtAddr; 5] {
        [self.dealloc, self.shutdown, self.drop_join_handle_slow, self.drop_abort_handle, self.try_read_output]
    }
}

/// Addresses that a program's own memory can have on x86-64, unless it asks for more: all but the first page below 2^47.
const USER_SPACE: Range<u64> = 0x1000..1 << 47;

/// Byte offsets in a task's cell, from the header's address on. Mirrors tokio 1.23 to 1.54 `runtime/task/core.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellLayout {
    /// The state word: flags in bits 0 to 5, references above.
    pub state: u32,
    /// Intrusive queue link.
    pub queue_next: u32,
    /// Pointer to the vtable.
    pub vtable: u32,
    /// Id of the owning task list, 0 for blocking tasks and before binding.
    pub owner: u32,
    /// The scheduler handle.
    pub scheduler: u32,
    /// The task id.
    pub id: u32,
    /// The `&'static Location` of the spawn call; only with `tokio_unstable`.
    pub spawn_location: Option<u32>,
    /// Links of the owned list, the join waker and hooks.
    pub trailer: u32,
    /// Smallest alignment of a cell that this runtime version allocates.
    pub align: u32,
    /// The version's `Stage` is `repr(C)`: the first 32 bits of the stage are its variant.
    pub stage_tagged: bool,
}

impl CellLayout {
    /// Which word of the cell holds the id, where that lies behind a record's head: a future that asks for a strong
    /// alignment moves all that stands behind the header. `None` also where it lies further than a record can say.
    pub fn far_id(&self) -> Option<u8> {
        let word = self.id as usize / 8;
        if word < observer_common::HEAD_WORDS { None } else { u8::try_from(word).ok() }
    }

    /// Which word of the cell tells its task from others, of those that a record's head holds: the id, or where that lies
    /// further away the vtable.
    pub fn telling_word(&self) -> Option<u8> {
        let word = |offset: u32| u8::try_from(offset / 8).ok();
        match self.id as usize / 8 < observer_common::HEAD_WORDS {
            true => word(self.id),
            false => self.far_id().and_then(|_| word(self.vtable)),
        }
    }

    /// Whether a header can stand here: at an address of user space, as this runtime aligns its cells.
    pub fn is_header(&self, at: ProcAddr) -> bool {
        USER_SPACE.contains(&at.0) && at.0.is_multiple_of(u64::from(self.align.max(8)))
    }

    /// Whether a live task's queue link can hold this word: nothing, or another task's header.
    ///
    /// Of freed memory this is what tells in a program that is not position independent. glibc keeps a link in the first
    /// word, which is so small there that it looks like a state; in the second it keeps a random number of the process's.
    pub fn is_queue_link(&self, word: u64) -> bool {
        word == 0 || self.is_header(ProcAddr(word))
    }

    /// Where the stage (future, output or nothing) begins, unless the future's own alignment moves it further.
    pub fn stage(&self) -> u32 {
        self.spawn_location.unwrap_or(self.id) + 8
    }
}

/// One spawned future type, found by its vtable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskType {
    /// The vtable's link-time address.
    pub vtable: VirtAddr,
    /// Task or blocking.
    pub resource: Resource,
    /// The vtable's functions.
    pub functions: TaskFunctions,
    /// The offsets that the vtable itself states.
    pub layout: CellLayout,
    /// What is known of its name.
    pub future: Naming,
    /// Where its body stands, if the image tells.
    pub place: Option<Place>,
    /// Whether this is a runtime's own worker: it runs for life and is nobody's trigger.
    pub worker: bool,
}

/// A task's state word, decoded. Bits as in tokio 1.0 to 1.54 `runtime/task/state.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskState(pub u64);

impl TaskState {
    /// Of a live task whose word was not seen: as if a thread were inside, because then nothing is concluded from it.
    pub const UNSEEN: Self = Self(1);

    /// A thread is inside the future (or cancels it).
    pub fn is_running(self) -> bool {
        self.0 & 1 != 0
    }
    /// The output, or why there is none, is stored or already taken.
    pub fn is_complete(self) -> bool {
        self.0 & 2 != 0
    }
    /// Queued to be polled.
    pub fn is_notified(self) -> bool {
        self.0 & 4 != 0
    }
    /// A `JoinHandle` exists.
    pub fn has_join_interest(self) -> bool {
        self.0 & 8 != 0
    }
    /// The `JoinHandle`'s owner waits.
    pub fn has_join_waker(self) -> bool {
        self.0 & 0x10 != 0
    }
    /// `abort` or shutdown was asked for.
    pub fn is_cancelled(self) -> bool {
        self.0 & 0x20 != 0
    }
    /// No thread is inside and it can still be polled: who enters it now gets to run it.
    pub fn is_idle(self) -> bool {
        self.0 & 3 == 0
    }
    /// How many references hold the cell.
    pub fn references(self) -> u64 {
        self.0 >> 6
    }
    /// Whether a live cell can hold this word: referenced, by fewer than 2^24, not running and complete at once.
    pub fn is_plausible(self) -> bool {
        (1..1 << 24).contains(&self.references()) && self.0 & 3 != 3
    }
}

/// One live task as read from memory by a census.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveTask {
    /// Address of the task's header.
    pub header: ProcAddr,
    /// The vtable that the header names, in process addresses.
    pub vtable: ProcAddr,
    /// Tokio's id.
    pub id: TaskId,
    /// The state word when it was read.
    pub state: TaskState,
    /// The owning list's id, 0 for a blocking task.
    pub owner: u64,
    /// The spawn location's address, where the build records it.
    pub spawn_location: Option<ProcAddr>,
    /// The thread that was inside it; `None` where it did not run, or the evidence leaves more than one.
    pub running_on: Option<Tid>,
}

impl LiveTask {
    /// Whether it is a future on a scheduler; else a closure, which is never woken.
    pub fn is_future(&self) -> bool {
        self.owner != 0
    }
}
