//! The attach cookie: 64 bits that the kernel hands to a probe and that name the point it sits on.

use crate::HEAD_WORDS;

/// Which general register holds a freshly minted task id at a mint point, in x86-64 encoding order
/// (0 rax, 1 rcx, 2 rdx, 3 rbx, 4 rsp, 5 rbp, 6 rsi, 7 rdi, 8 r8 .. 15 r15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MintRegister(pub u8);

/// `point` (low 32 bits), `target` (16 bits), `register` (8 bits), `far` (8 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Index into the catalog's points.
    pub point: u32,
    /// Index into slots, or [`Cookie::BY_PROCESS`].
    pub target: u16,
    /// Where a task id is taken, the register that holds it. At a birth the register that holds the new task's id or points to it, or
    /// [`Cookie::NO_REGISTER`]. At a poll the word from the header on that tells one task from another (its id, where the head holds
    /// it), 0 where none does. [`Cookie::GIVES_UP`], or 0, elsewhere.
    pub register: u8,
    /// Which word from the header on to report as `Record::far`; 0 for none: the head holds what is needed. At a birth the id is in
    /// the word of memory so many words, less one, from where the register points to; with 0 it is in the register itself.
    pub far: u8,
}

impl Cookie {
    /// As `register` at a birth: the id is the one that the thread minted last.
    pub const NO_REGISTER: u8 = u8::MAX;
    /// As `register` at a function of a task: whoever calls it holds a reference and gives it up there.
    pub const GIVES_UP: u8 = u8::MAX - 1;
    /// As `point`: the probe sits at many points, and the address of each hit tells which.
    pub const BY_ADDRESS: u32 = u32::MAX;
    /// As `target`: the point is every process's, and the record's `tgid` tells whose hit it is.
    pub const BY_PROCESS: u16 = u16::MAX;

    /// At a poll, the word from the header on that tells one task from another.
    #[inline(always)]
    pub const fn telling(self) -> Option<usize> {
        let word = self.register as usize;
        if word > 0 && word < HEAD_WORDS { Some(word) } else { None }
    }

    /// As the kernel carries it.
    pub const fn to_u64(self) -> u64 {
        self.point as u64 | (self.target as u64) << 32 | (self.register as u64) << 48 | (self.far as u64) << 56
    }

    /// From what the kernel carried. Total: every number is some cookie; whether the point exists is the reader's check.
    pub const fn from_u64(n: u64) -> Self {
        Self { point: n as u32, target: (n >> 32) as u16, register: (n >> 48) as u8, far: (n >> 56) as u8 }
    }
}
