//! What an idle task waits for, as far as memory tells: who holds its waker.
//!
//! Does not know: how that is found out. A task may wait for several at once (`select!`).

use std::fmt;

use super::{Ns, ProcAddr, TaskId};

/// One holder of an idle task's waker, or why none is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Waiting {
    /// No waker of it exists: nothing can make it go on, short of `abort` or the runtime's end.
    Nobody,
    /// It awaits this task's `JoinHandle`: its waker lies in that task's slot for it.
    Join {
        /// The task that must end.
        task: TaskId,
    },
    /// It waits for a file descriptor to become ready.
    Io {
        /// The number that was registered with epoll; it may have been closed or given away since. `None` where it cannot
        /// be told which it is (several runtimes with a tokio before 1.30).
        fd: Option<u32>,
        /// What `/proc/PID/fd` links it to (`socket:[4711]`); `None` where that cannot be read.
        object: Option<Box<str>>,
    },
    /// It waits for a timer.
    Timer {
        /// When the timer fires; `None` where memory tells that it is a timer, but not for when.
        deadline: Option<Ns>,
    },
    /// It waits for permits of a semaphore: a tokio `Semaphore`, `Mutex`, `RwLock` or a bounded channel that is full.
    Semaphore {
        /// The semaphore.
        address: ProcAddr,
        /// How many permits it still lacks.
        lacking: u64,
        /// Others that hold the semaphore's address.
        peers: Peers,
    },
    /// It waits for a `Notify`: one by itself, or inside a `watch` channel.
    Notify {
        /// The notify.
        address: ProcAddr,
        /// Others that hold its address.
        peers: Peers,
    },
    /// It stands in a list of waiters of which only the owner is known (a `broadcast` channel, for instance).
    Queue {
        /// The list's owner.
        address: ProcAddr,
        /// Others that hold its address.
        peers: Peers,
    },
    /// Its waker lies in an object on the heap that is no task: a channel, an `AtomicWaker`, a set of futures.
    Object {
        /// Where the object begins, if `begins`; otherwise where in it the waker lies.
        address: ProcAddr,
        /// The task's own future points to the object, so that its beginning is known.
        begins: bool,
        /// Others that hold the address of the object's beginning.
        peers: Peers,
    },
    /// Its waker lies in its own future, and memory does not prove what that part of the future is.
    OwnFuture,
    /// Its waker lies in another task's future.
    HeldBy {
        /// The task whose future it is.
        task: TaskId,
    },
    /// Nothing can be said.
    Unknown(UnknownWaiting),
}

/// Why it cannot be said what a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnknownWaiting {
    /// More references than the runtime's own and the handle's, and no waker in the memory that was searched: an
    /// `AbortHandle`, a waker wrapped in another type, or one in shared memory.
    NoWakerFound,
    /// Nothing in the process looks like the runtime's wakers, so that none can be told from other words.
    NoWakerKnown,
    /// More references than the runtime's own, the handle's and the wakers that are named: an `AbortHandle`, or another waker
    /// where none was found.
    MoreReferences,
    /// Wakers only on threads' stacks, where left copies cannot be told from held ones.
    OnStack,
    /// More places look like its waker than there are references: some are left copies, and nothing tells which.
    Ambiguous,
    /// The task ran while memory was searched.
    Changed,
    /// More wakers in the process than are kept.
    TooMany,
}

/// Other tasks whose futures hold the address of what a task waits for, or that are waited for through it: one of them may
/// be who must act. Evidence, not proof: a future may hold an address from before that it does not use any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peers {
    /// At most [`Peers::KEPT`], lowest ids first.
    pub tasks: Vec<TaskId>,
    /// How many there are beside these.
    pub more: u32,
}

impl Peers {
    /// This many are named, the rest is counted.
    pub const KEPT: usize = 4;
}

impl Waiting {
    /// The word used on output.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Join { .. } => "join",
            Self::Io { .. } => "io",
            Self::Timer { .. } => "timer",
            Self::Semaphore { .. } => "semaphore",
            Self::Notify { .. } => "notify",
            Self::Queue { .. } => "queue",
            Self::Object { .. } => "object",
            Self::OwnFuture => "own_future",
            Self::HeldBy { .. } => "held_by",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The others that hold the address of what it waits for, where that is something that others can hold.
    pub fn peers(&self) -> Option<&Peers> {
        match self {
            Self::Semaphore { peers, .. }
            | Self::Notify { peers, .. }
            | Self::Queue { peers, .. }
            | Self::Object { peers, .. } => Some(peers),
            _ => None,
        }
    }
}

impl UnknownWaiting {
    /// The word used on output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoWakerFound => "no_waker_found",
            Self::NoWakerKnown => "no_waker_known",
            Self::MoreReferences => "more_references",
            Self::OnStack => "on_stack",
            Self::Ambiguous => "ambiguous",
            Self::Changed => "changed",
            Self::TooMany => "too_many",
        }
    }
}

/// What follows "waits" in a sentence.
impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => write!(f, "for nobody: no waker exists"),
            Self::Join { task } => write!(f, "for task {task} to end"),
            Self::Io { fd: Some(fd), object: Some(object) } => write!(f, "on fd {fd} ({object})"),
            Self::Io { fd: Some(fd), object: None } => write!(f, "on fd {fd}"),
            Self::Io { fd: None, .. } => write!(f, "on a file descriptor"),
            Self::Timer { .. } => write!(f, "on a timer"),
            Self::Semaphore { address, lacking: 1, peers } => write!(f, "for a permit of {address}{peers}"),
            Self::Semaphore { address, lacking, peers } => write!(f, "for {lacking} permits of {address}{peers}"),
            Self::Notify { address, peers } => write!(f, "to be notified by {address}{peers}"),
            Self::Queue { address, peers } => write!(f, "in a queue of {address}{peers}"),
            Self::Object { address, begins: true, peers } => write!(f, "on the object at {address}{peers}"),
            Self::Object { address, begins: false, .. } => write!(f, "on an object around {address}"),
            Self::OwnFuture => write!(f, "on something in its own future"),
            Self::HeldBy { task } => write!(f, "on something in the future of task {task}"),
            Self::Unknown(reason) => write!(f, "for something unknown: {reason}"),
        }
    }
}

impl fmt::Display for UnknownWaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoWakerFound => "it is referenced, but no waker of it was found",
            Self::NoWakerKnown => "the runtime's wakers were not recognised",
            Self::MoreReferences => "there are more references to it than were found",
            Self::OnStack => "its waker lies only on threads' stacks",
            Self::Ambiguous => "more copies of its waker than references to it",
            Self::Changed => "it ran meanwhile",
            Self::TooMany => "too many wakers in the process",
        })
    }
}

/// Empty where there are none, so that it can follow anything.
impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.tasks.split_first() else { return Ok(()) };
        write!(f, ", which task {first}")?;
        others.iter().try_for_each(|task| write!(f, ", {task}"))?;
        match (self.more, others) {
            (0, []) => write!(f, " holds, too"),
            (0, _) => write!(f, " hold, too"),
            (more, _) => write!(f, " and {more} more hold, too"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_reads_as_the_end_of_a_sentence() {
        let peers = |ids: &[u64], more| Peers { tasks: ids.iter().map(|id| TaskId(*id)).collect(), more };
        for (waiting, word, text) in [
            (Waiting::Join { task: TaskId(17) }, "join", "for task 17 to end"),
            (Waiting::Io { fd: Some(12), object: Some("socket:[4711]".into()) }, "io", "on fd 12 (socket:[4711])"),
            (Waiting::Io { fd: Some(12), object: None }, "io", "on fd 12"),
            (Waiting::Timer { deadline: None }, "timer", "on a timer"),
            (
                Waiting::Semaphore { address: ProcAddr(0x10), lacking: 1, peers: peers(&[3], 0) },
                "semaphore",
                "for a permit of 0x10, which task 3 holds, too",
            ),
            (
                Waiting::Object { address: ProcAddr(0x10), begins: true, peers: peers(&[3, 4], 5) },
                "object",
                "on the object at 0x10, which task 3, 4 and 5 more hold, too",
            ),
        ] {
            assert_eq!(waiting.as_str(), word);
            assert_eq!(waiting.to_string(), text);
        }
    }
}
