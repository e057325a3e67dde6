//! One record: what a probe saw at one hit. Written whole by the kernel side, cut to one of three lengths.

/// Words of a task's memory copied from its header on: 80 bytes hold state, queue link, vtable, owner, the task id at
/// any offset met so far (32 to 64) and, with `tokio_unstable`, the spawn location behind it.
pub const HEAD_WORDS: usize = 10;
/// Words copied behind the head when a leaving probe finds the task complete: the stage, which holds the outcome.
pub const STAGE_WORDS: usize = 8;

/// The task's memory at `subject` could not be read; `head` is zero.
pub const FLAG_HEAD_UNREADABLE: u16 = 1;
/// The head was read, the stage behind it not; `stage` is zero.
pub const FLAG_STAGE_UNREADABLE: u16 = 2;
/// A leaving probe without the entry that belongs to it (the entry was before the attach, or its map was full).
pub const FLAG_SUBJECT_UNKNOWN: u16 = 4;

/// A spawn's record has no copy of the stack, because no room to make it in was free on that CPU.
pub const FLAG_NO_SCRATCH: u16 = 8;
/// The copy of the stack ends before its bound, because the next page could not be read.
pub const FLAG_STACK_CUT: u16 = 16;

/// The probe has one cookie for many points: the record's `cookie` is the address of the probed instruction, which for
/// [`RecordKind::Leave`] is that of the entry, and its `target` is the cookie's.
pub const FLAG_BY_ADDRESS: u16 = 32;

/// A return that no program reported, because nothing had changed; `head` is zero. Put in by user space, which has seen that
/// the call was in progress and is not any more: the time is when it still was.
pub const FLAG_UNSAID: u16 = 64;

/// What kind of probe wrote the record. Which function it sits on is in the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordKind {
    /// A spawner took a task vtable's address: `subject` is the task id minted last on this thread, 0 if none was seen.
    Birth = 1,
    /// A function of a task's vtable was entered: `subject` is the header, `head` its memory.
    Enter = 2,
    /// That function returned: `subject` and `sp` are those of its entry, `head` (and `stage`) the memory now.
    Leave = 3,
    /// A Rust panic began to unwind on this thread.
    Raise = 4,
    /// A spawner took a task id, which is `subject`: with its [`Registers`] and its stack from `sp` on, see [`SpawnRecord`].
    Spawn = 5,
    /// A function of a task's vtable was entered and has returned: an [`RecordKind::Enter`] and its [`RecordKind::Leave`]
    /// in one, see [`CallRecord`].
    Call = 6,
    /// A Rust panic is about to be told to the program's panic hook: `subject` and `far` are the third and fourth arguments of the
    /// function that does it, one of which points to the panic's `Location`.
    Hook = 7,
    /// A function of a task's vtable was entered by who has the last reference and gives it up there: the beginning of a
    /// [`CallRecord`], as far as its entry, see [`CALL_ENTRY`]. Its return is not reported: nobody else can keep the task.
    Release = 8,
}

impl RecordKind {
    /// The kind with this number, or `None` for one this build does not know.
    pub const fn from_u16(n: u16) -> Option<Self> {
        Some(match n {
            1 => Self::Birth,
            2 => Self::Enter,
            3 => Self::Leave,
            4 => Self::Raise,
            5 => Self::Spawn,
            6 => Self::Call,
            7 => Self::Hook,
            8 => Self::Release,
            _ => return None,
        })
    }
}

/// The record, in the machine's byte order, without padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// CLOCK_MONOTONIC, nanoseconds. Taken when the probe was hit, but for [`RecordKind::Leave`] after the memory was
    /// read: whoever freed the memory that a return finds gone has entered before this time.
    pub ts: u64,
    /// The attach point, see [`crate::Cookie`]; with [`FLAG_BY_ADDRESS`] an address.
    pub cookie: u64,
    /// The thread's stack pointer at the function's entry (for [`RecordKind::Leave`] that of the entry, too).
    pub sp: u64,
    /// Header address or minted task id, by kind.
    pub subject: u64,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// [`RecordKind`] as a number.
    pub kind: u16,
    /// `FLAG_*` bits.
    pub flags: u16,
    /// With [`FLAG_BY_ADDRESS`] the cookie's target, else zero.
    pub target: u32,
    /// For [`RecordKind::Spawn`]: how many bytes at the stack's beginning could not be read, and are zero. For the others:
    /// the word that the cookie's `far` asks for, 0 where it asks for none: the task id of a cell whose future is so
    /// strongly aligned that the id lies behind the head.
    pub far: u64,
    /// Memory from the header on. Present from [`RECORD_WITH_HEAD`] on.
    pub head: [u64; HEAD_WORDS],
    /// Memory behind `head`. Present in [`RECORD_FULL`].
    pub stage: [u64; STAGE_WORDS],
}

/// What the entry of a call saw, kept until its return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// As in [`Record`].
    pub ts: u64,
    /// As in [`Record`].
    pub far: u64,
    /// As in [`Record`].
    pub flags: u64,
    /// As in [`Record`].
    pub head: [u64; HEAD_WORDS],
}

/// The record of [`RecordKind::Call`]. Half as many records save the target a quarter of what two add to empty probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CallRecord {
    /// The first [`RECORD_BARE`] bytes of the return's [`Record`], as words; cookie, stack pointer, subject and thread are
    /// the entry's, too.
    pub bare: [u64; RECORD_BARE / 8],
    /// What the entry saw.
    pub entry: Entry,
    /// The return's memory from the header on.
    pub head: [u64; HEAD_WORDS],
    /// Memory behind `head`. Present in [`CALL_FULL`].
    pub stage: [u64; STAGE_WORDS],
}

/// Words of the bare part that name a call.
const COOKIE: usize = 1;
const SP: usize = 2;
const SUBJECT: usize = 3;
const THREADS: usize = 4;

impl CallRecord {
    /// Says which call it is, before the return says the rest.
    #[inline(always)]
    pub fn name(&mut self, cookie: u64, sp: u64, subject: u64, tid: u32, tgid: u32) {
        self.bare[COOKIE] = cookie;
        self.bare[SP] = sp;
        self.bare[SUBJECT] = subject;
        self.bare[THREADS] = (tgid as u64) << 32 | tid as u64;
    }

    /// As in [`Record`].
    #[inline(always)]
    pub fn cookie(&self) -> u64 {
        self.bare[COOKIE]
    }

    /// As in [`Record`].
    #[inline(always)]
    pub fn sp(&self) -> u64 {
        self.bare[SP]
    }

    /// As in [`Record`].
    #[inline(always)]
    pub fn subject(&self) -> u64 {
        self.bare[SUBJECT]
    }

    /// As in [`Record`].
    #[inline(always)]
    pub fn tid(&self) -> u32 {
        self.bare[THREADS] as u32
    }

    /// As in [`Record`].
    #[inline(always)]
    pub fn tgid(&self) -> u32 {
        (self.bare[THREADS] >> 32) as u32
    }
}

/// A call that a thread is amid, or one that is over: `record.entry.ts` is then 0. Written in place by the thread; see
/// `observer::attach` for how it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct OpenCall {
    /// The frame of the call that the thread was amid when this one began, 0 for none; frames are multiples of eight. And, in the lowest
    /// bit, whether it will be reported whatever becomes of it: else perhaps not, see [`crate::Quiet`].
    pub around: u64,
    /// The probed instruction, which tells the call's entry from its return.
    pub at: u64,
    /// What is to be reported, as far as it is known.
    pub record: CallRecord,
}

impl OpenCall {
    /// In `around`: it will be reported whatever becomes of it.
    pub const LOUD: u64 = 1;

    /// Whether it will be reported whatever becomes of it.
    #[inline(always)]
    pub fn is_loud(&self) -> bool {
        self.around & Self::LOUD != 0
    }
}

/// Bytes of a call's record up to what its entry saw.
pub const CALL_ENTRY: usize = RECORD_BARE + size_of::<Entry>();
/// Bytes of a call's record without the stage.
pub const CALL_WITH_HEAD: usize = RECORD_WITH_HEAD + size_of::<Entry>();
/// Bytes of a call's record with the stage: the task was complete at the return.
pub const CALL_FULL: usize = RECORD_FULL + size_of::<Entry>();

/// Bytes of a record without task memory (birth, raise).
pub const RECORD_BARE: usize = 56;
/// Bytes of a record with the head (enter, leave).
pub const RECORD_WITH_HEAD: usize = RECORD_BARE + 8 * HEAD_WORDS;
/// Bytes of a record with head and stage (leave of a complete task).
pub const RECORD_FULL: usize = RECORD_WITH_HEAD + 8 * STAGE_WORDS;

/// The registers that a stack is unwound from, besides the stack pointer, which is [`Record::sp`]: those that calls keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// The probed instruction.
    pub rip: u64,
    /// By name.
    pub rbx: u64,
    /// By name.
    pub rbp: u64,
    /// By name.
    pub r12: u64,
    /// By name.
    pub r13: u64,
    /// By name.
    pub r14: u64,
    /// By name.
    pub r15: u64,
}

/// Where a spawn's probe finds the address of the memory that it is to copy besides: what user space has learned from the
/// stacks it has seen of that point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spot {
    /// In this one of [`Registers`], counted from `rbx` as 0 to `r15` as 5.
    Register(u8),
    /// In the word so many bytes above the stack pointer.
    Stack(u32),
}

/// A spot in a register has this bit.
const SPOT_IS_REGISTER: u64 = 1 << 32;

impl Spot {
    /// As the map carries it.
    pub const fn to_u64(self) -> u64 {
        match self {
            Self::Register(number) => SPOT_IS_REGISTER | number as u64,
            Self::Stack(offset) => offset as u64,
        }
    }

    /// From what the map carried.
    pub const fn from_u64(n: u64) -> Self {
        if n & SPOT_IS_REGISTER != 0 { Self::Register(n as u8) } else { Self::Stack(n as u32) }
    }
}

/// Bytes of a page, which is what can be read of a stack or not.
pub const PAGE: usize = 4096;
/// Whole pages copied of a stack, behind the part of a page that the stack pointer stands in.
pub const STACK_PAGES: usize = 6;
/// The most that is copied of a stack. The least is one page less and a word: where the stack pointer stands at a page's end.
pub const STACK_MOST: usize = PAGE * (STACK_PAGES + 1);

/// The record of [`RecordKind::Spawn`]: cut behind what could be read of the stack, always by a multiple of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SpawnRecord {
    /// The first [`RECORD_BARE`] bytes of a [`Record`], as words.
    pub bare: [u64; RECORD_BARE / 8],
    /// Registers at the probed instruction.
    pub registers: Registers,
    /// The address that stood where the point's [`Spot`] says, 0 where there is none or `head` could not be read.
    pub spawner: u64,
    /// Memory from there on.
    pub head: [u64; HEAD_WORDS],
    /// Memory from `sp`, rounded down to 8 bytes, on; the first `far` bytes of it could not be read.
    pub stack: [u8; STACK_MOST],
}

/// Bytes of a spawn's record before the stack.
pub const SPAWN_BARE: usize = RECORD_BARE + size_of::<Registers>() + 8 + 8 * HEAD_WORDS;

const _: () = assert!(core::mem::offset_of!(SpawnRecord, stack) == SPAWN_BARE);
const _: () = assert!(size_of::<CallRecord>() == CALL_FULL);
const _: () = assert!(core::mem::offset_of!(CallRecord, head) == CALL_ENTRY);
const _: () = assert!(size_of::<Record>() == RECORD_FULL);
const _: () = assert!(core::mem::offset_of!(Record, head) == RECORD_BARE);
const _: () = assert!(core::mem::offset_of!(Record, stage) == RECORD_WITH_HEAD);
