//! A thread's stack as a probe copied it, and the rules by which it is unwound.
//!
//! Does not know: where rules come from, what the callers are called.

use observer_common::HEAD_WORDS;

use super::{Ns, PointIndex, ProcAddr, TargetId, TaskId, Tid, word_at};

/// A register that a call keeps, on x86-64 as Linux uses it; the stack pointer aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// By name.
    Rbx,
    /// By name.
    Rbp,
    /// By name.
    R12,
    /// By name.
    R13,
    /// By name.
    R14,
    /// By name.
    R15,
}

impl Kept {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Rbx, Self::Rbp, Self::R12, Self::R13, Self::R14, Self::R15];
}

/// What a stack is unwound from: the registers at one place of a thread's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// The instruction.
    pub ip: ProcAddr,
    /// The stack pointer.
    pub sp: ProcAddr,
    /// Those that calls keep; `None` for one whose saved value lies outside of the copied stack.
    pub kept: [Option<u64>; Kept::ALL.len()],
}

impl Registers {
    /// The value of one of the registers that calls keep.
    pub fn get(&self, register: Kept) -> Option<u64> {
        self.kept[register as usize]
    }
}

/// A copy of the part of a stack that a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackCopy {
    /// Where it was copied from: the stack pointer, rounded down to a word, or the first page behind that could be read.
    pub from: ProcAddr,
    /// What stood there.
    pub bytes: Vec<u8>,
    /// Why it goes no further.
    pub end: CopyEnd,
}

/// Why a copy of a stack goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CopyEnd {
    /// The bound of a record was met.
    Bound,
    /// What comes behind could not be read: the stack ends, or its page was away.
    Unreadable,
    /// Nothing was copied: too many threads were at it on that CPU.
    NoRoom,
}

impl StackCopy {
    /// The word at this address; `None` outside of the copy.
    pub fn word(&self, at: ProcAddr) -> Option<u64> {
        let offset = usize::try_from(at.0.checked_sub(self.from.0)?).ok()?;
        word_at(&self.bytes, offset)
    }

    /// The words from one address up to another, as far as they are in the copy, each with its place.
    pub fn words(&self, from: ProcAddr, to: ProcAddr) -> impl Iterator<Item = (ProcAddr, u64)> + '_ {
        let first = from.0.max(self.from.0).next_multiple_of(8);
        let end = to.0.min(self.from.0.saturating_add(self.bytes.len() as u64));
        (first..end).step_by(8).map_while(|at| Some((ProcAddr(at), self.word(ProcAddr(at))?)))
    }
}

/// One spawn, as a probe reports it where the task's id is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnHit {
    /// When.
    pub at: Ns,
    /// Which process.
    pub target: TargetId,
    /// The spawner's thread.
    pub tid: Tid,
    /// Which copy of the runtime gave the id, by the number of the first point of the image that holds it.
    pub image: PointIndex,
    /// The new task's id.
    pub task: TaskId,
    /// The spawner's registers.
    pub registers: Registers,
    /// The spawner's stack.
    pub stack: StackCopy,
    /// The memory of what may be the spawner, as it was at the hit; `None` where nobody knew yet where to find it.
    pub glimpse: Option<Glimpse>,
    /// The place.
    pub point: PointIndex,
}

/// Memory that a probe copied at its hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glimpse {
    /// Where it is.
    pub at: ProcAddr,
    /// Its words.
    pub words: [u64; HEAD_WORDS],
}

/// How to get from one place of the code to its caller: one row of an unwind table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwindRule {
    /// The stack pointer before the call.
    pub cfa: Cfa,
    /// Where the return address is.
    pub return_address: Saved,
    /// Where the registers are that calls keep.
    pub kept: [Saved; Kept::ALL.len()],
}

/// The canonical frame address: the stack pointer right before the call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cfa {
    /// `sp + offset`.
    Sp(i64),
    /// `register + offset`.
    Register(Kept, i64),
    /// Something that is not computed here: an expression, or a register that calls do not keep.
    Unsupported,
}

/// Where the caller's value of a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// Still in it.
    Same,
    /// In the word at `cfa + offset`.
    At(i64),
    /// It is `cfa + offset`.
    Is(i64),
    /// In another register.
    In(Kept),
    /// Nowhere. For the return address: nobody called.
    Nowhere,
    /// Somewhere that is not computed here.
    Unsupported,
}

/// Why there is no rule for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoRule {
    /// No file is mapped there.
    NoImage,
    /// It is where a function returns to whose return is probed, ours or another's: the kernel keeps the caller's place, and nobody
    /// else has it.
    Trampoline,
    /// The image has no unwind table (`.eh_frame`), or one that cannot be read.
    NoTable,
    /// The image's unwind table knows no code there.
    NotCovered,
    /// The image was not read: its process had ended before.
    Ended,
    /// The image could not be read.
    Unread,
}

/// Why there are no more callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnwindEnd {
    /// The last one was called by nobody: the whole stack is there.
    Root,
    /// The bound on their number was met.
    Bound,
    /// There is no rule for the last one.
    NoRule(NoRule),
    /// The last one's rule is of a kind that is not computed here.
    Unsupported,
    /// The copy of the stack ends before it.
    Copy(CopyEnd),
    /// The rules lead nowhere: to an empty return address, or not up the stack.
    Astray,
}
