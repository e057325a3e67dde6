//! Why words that look like a task's header are none, counted.

/// Why a candidate is not a live task. In the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// Its address is not one that the runtime's allocation can have.
    Misaligned,
    /// Its fields reach into memory that cannot be read.
    Unreadable,
    /// Its state word is none of a referenced cell: freed, or never a cell.
    State,
    /// It has no task id, or a number that none can be.
    Id,
    /// A future's cell in no task list (a copy left behind by a move, or not bound yet); a closure's cell in one.
    Owner,
    /// Most cells of its list name another scheduler.
    Scheduler,
    /// Its queue link is neither empty nor the address of another task.
    QueueLink,
    /// Its state word is an allocator's link to another free cell.
    Free,
    /// A future's cell that is not complete and in no list.
    Unlisted,
    /// Another copy of a closure's cell with the same id is the better one.
    Copy,
    /// A closure's cell that no queue and no handle points to, or that runs on no thread.
    Unheld,
    /// Gone or another task at the second look.
    Changed,
}

impl Rejection {
    /// All, in order.
    pub const ALL: [Self; 12] = [
        Self::Misaligned,
        Self::Unreadable,
        Self::State,
        Self::Id,
        Self::Owner,
        Self::Scheduler,
        Self::QueueLink,
        Self::Free,
        Self::Unlisted,
        Self::Copy,
        Self::Unheld,
        Self::Changed,
    ];
}

/// How many candidates were turned away, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejected([u64; Rejection::ALL.len()]);

impl Rejected {
    /// For this reason.
    pub fn count(&self, reason: Rejection) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason that occurred, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Rejection, u64)> + '_ {
        Rejection::ALL.into_iter().map(|reason| (reason, self.count(reason))).filter(|(_, count)| *count > 0)
    }

    pub(super) fn add(&mut self, reason: Rejection) {
        self.0[reason as usize] += 1;
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, others)| *own += others);
    }
}
