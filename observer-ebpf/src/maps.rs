//! The maps: what programs keep between two hits, what they count, and the way out.
//!
//! Does not know who reads them.

use core::arch::asm;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerfEventByteArray};
use observer_common::{Counter, Desk, OpenCall, PollSum, Sign, SpawnRecord, TaskKey};

/// Per-CPU rings of records. The user side opens them, with a watermark.
#[map]
pub static RECORDS: PerfEventByteArray = PerfEventByteArray::new(0);

/// The ring that records for pricing go to, while that is done. Not one of those above: the observer may price a second time, in the same
/// place, while the first programs are still there.
#[map]
pub static PRICED: PerfEventByteArray = PerfEventByteArray::new(0);

/// Thread to the task id it minted last, until its next birth asks for it. Least recently used, so that ended threads cannot
/// fill it; no larger than that, because creating it is part of every start.
#[map]
pub static MINTED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(16_384, 0);

/// Entered calls that are reported at their entry and at their return, until that. Those of a process that was killed in the
/// middle of them are removed by user space.
#[map]
pub static ENTERED: HashMap<Call, Entered> = HashMap::with_max_entries(65_536, 0);

/// Rows of calls that are reported whole and have no place on a desk, until their return. Those of a process that was killed in the
/// middle of them are removed by user space.
#[map]
pub static CALLS: HashMap<u64, OpenCall> = HashMap::with_max_entries(8192, 0);

/// Every desk's sign, see `desk`. User space maps both into its own memory.
#[map]
pub static SIGNS: Array<Sign> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The desks.
#[map]
pub static DESKS: Array<Desk> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The desk of who is priced, and its sign: nobody reads them.
#[map]
pub static PRICED_DESK: Array<Desk> = Array::with_max_entries(1, 0);

/// See [`PRICED_DESK`].
#[map]
pub static PRICED_SIGN: Array<Sign> = Array::with_max_entries(1, 0);

/// What a row begins with.
#[map]
pub static NO_CALL: Array<OpenCall> = Array::with_max_entries(1, 0);

/// Polls that were summed up instead of reported. Room is taken when a task is first polled, not before; user space removes
/// tasks that have ended.
#[map]
pub static POLLED: HashMap<TaskKey, PollSum> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);

/// What a sum begins with.
#[map]
pub static NO_POLL: Array<PollSum> = Array::with_max_entries(1, 0);

/// Rows a CPU where a record is put together that is too large for a program's stack.
pub const SCRATCH_ROWS: u32 = 4;

/// Those rows. User space makes it as small as can be where no such record is wanted.
#[map]
pub static SCRATCH: PerCpuArray<SpawnRecord> = PerCpuArray::with_max_entries(SCRATCH_ROWS, 0);

/// Rows of [`SCRATCH`] in use, as `cpu * SCRATCH_ROWS + row`, with the thread that uses it. A row needs an owner, because
/// a uprobe's program can be preempted by another thread's on the same CPU; putting in what is not there is the one
/// atomic step that every kernel's programs have.
#[map]
pub static SCRATCH_TAKEN: HashMap<u32, u64> = HashMap::with_max_entries(4096, 0);

/// Points to where their spawners' headers were last seen, see [`observer_common::Spot`]. Written by user space only.
#[map]
pub static SPOTS: HashMap<u32, u64> = HashMap::with_max_entries(16_384, 0);

/// What is to be done with hits of these processes, as [`observer_common::Standing`]. Written by user space only.
#[map]
pub static PROCESSES: HashMap<u32, u32> = HashMap::with_max_entries(16_384, 0);

/// What is done with quiet polls, as [`observer_common::Quiet`], where that may change. Written by user space only.
#[map]
pub static GOVERNED: Array<u32> = Array::with_max_entries(1, 0);

/// One row for each [`Counter`].
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);

/// One call in progress.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Call {
    /// Stack pointer at the entry.
    pub sp: u64,
    /// The thread.
    pub tid: u32,
    /// What tells calls at one frame apart: a function that begins with a jump to another probed one shares its stack
    /// pointer with it. The point, as in the cookie; or how many calls are open there already.
    pub which: u32,
}

/// What is remembered of a call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Entered {
    /// The header it was given.
    pub subject: u64,
    /// The function's probed instruction.
    pub at: u64,
    /// Its process.
    pub tgid: u32,
    /// The cookie's target. A return probe for one process runs in others, too, on kernels of the age of 6.1.
    pub target: u32,
    /// When.
    pub ts: u64,
}

/// Adds one; how many there are then on this CPU, or one less or more if another thread counts at the same moment.
#[inline(always)]
pub fn count(counter: Counter) -> u64 {
    add_at(counter as u32, 1)
}

/// Adds so many to the counter of this row; how many there are then. Atomic although the row is this CPU's own: a uprobe's program
/// can be preempted by another thread's. In assembly, because this target has no compare-and-swap and therefore none of `AtomicU64`'s arithmetic.
#[inline(always)]
pub fn add_at(row: u32, more: u64) -> u64 {
    let Some(row) = COUNTERS.get_ptr_mut(row) else { return 0 };
    // SAFETY: the verifier has seen the null check; the row is 8 bytes, aligned, and lives as long as the program.
    unsafe {
        asm!("lock *(u64 *)({row} + 0) += {more}", row = in(reg) row, more = in(reg) more);
        row.read_volatile()
    }
}
