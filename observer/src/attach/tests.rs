//! Real probes on functions of the test process itself. They need root and say so loudly where they have none.
//!
//! The truth is what the test itself does: which function it calls, with which memory, how often, in which order.

use std::arch::global_asm;
use std::hint::black_box;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use observer_common::{
    Cookie, FLAG_BY_ADDRESS, FLAG_HEAD_UNREADABLE, FLAG_STAGE_UNREADABLE, FLAG_SUBJECT_UNKNOWN, HEAD_WORDS,
    MintRegister, RECORD_BARE, RECORD_FULL, RECORD_WITH_HEAD, RecordKind, STAGE_WORDS,
};

use super::error::chain;
use super::kernel::AttachedBy;
use super::links::{Links, Way};
use super::mechanism::own_file;
use super::object::Object;
use super::*;
use crate::model::{AttachPoint, Cost, FileOffset, Pid, PointIndex, PointMap, Program, Role, VirtAddr};
use crate::perf::{Ring, Source};

mod attaching;
mod audiences;
mod forked;
mod records;
mod rings;
mod spawners;
mod trace_events;
mod whole_calls;

const EXE: &str = "/proc/self/exe";
/// A state word with one reference.
const LIVE: u64 = 1 << 6;
const COMPLETE: u64 = 2;

/// A task's memory as far as a probe copies it.
#[repr(C, align(128))]
struct Cell {
    head: [u64; HEAD_WORDS],
    stage: [u64; STAGE_WORDS],
}

impl Cell {
    fn new(state: u64) -> Self {
        let mut head = std::array::from_fn(|i| 0x1000 + i as u64);
        head[0] = state;
        Self { head, stage: std::array::from_fn(|i| 0x2000 + i as u64) }
    }

    fn address(&self) -> u64 {
        (&raw const *self) as u64
    }
}

/// One record, cut into fields by hand: the layout is the contract, not the struct.
#[derive(Debug)]
struct Seen {
    length: usize,
    ts: u64,
    cookie: Cookie,
    sp: u64,
    subject: u64,
    tid: u32,
    tgid: u32,
    kind: Option<RecordKind>,
    flags: u16,
    far: u64,
    words: Vec<u64>,
}

impl Seen {
    fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let kind = RecordKind::from_u16(word(40) as u16);
        let flags = (word(40) >> 16) as u16;
        let mut cookie = Cookie::from_u64(word(8));
        if flags & FLAG_BY_ADDRESS != 0 {
            let places = PLACES.lock().unwrap();
            let (places, points) = places.as_ref().unwrap();
            let index = places.find(VirtAddr(word(8)), kind.unwrap()).expect("a point at that address");
            cookie = points[index.0 as usize].cookie((word(40) >> 32) as u16, index);
        }
        Self {
            length: bytes.len(),
            ts: word(0),
            cookie,
            sp: word(16),
            subject: word(24),
            tid: word(32) as u32,
            tgid: (word(32) >> 32) as u32,
            kind,
            flags: flags & !FLAG_BY_ADDRESS,
            far: word(48),
            words: (RECORD_BARE..bytes.len()).step_by(8).map(word).collect(),
        }
    }
}

/// Root, alone among the tests of this file, and on one CPU, so that one ring sees everything in order.
pub(super) fn live() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("NOT TESTED: probes need root");
        return None;
    }
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    run_on(&[0]);
    Some(guard)
}

/// Keeps the calling thread on these CPUs, as far as they exist.
fn run_on(cpus: &[usize]) {
    // SAFETY: all zeroes is an empty set; the call reads one set of the size given.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cpus.iter().for_each(|cpu| libc::CPU_SET(*cpu, &mut set));
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
}

fn tid() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() as u32 }
}

fn now() -> u64 {
    // SAFETY: the call writes one timespec.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time), 0);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

fn point(role: Role, address: usize) -> AttachPoint {
    let offset = own_file(EXE, address).unwrap().offset;
    AttachPoint {
        role,
        // As if linked where it is loaded.
        at: VirtAddr(address as u64),
        offset,
        bytes: vec![],
        cost: Cost::Emulated,
        vtable: None,
        register: None,
        far: 0,
        telling: 0,
    }
}

/// Where the points asked for last lie: for records that say an address.
static PLACES: Mutex<Option<(PointMap, Vec<AttachPoint>)>> = Mutex::new(None);

fn requests(points: &[AttachPoint]) -> [ImageRequest<'_>; 1] {
    let places = PointMap::of((0..).map(PointIndex).zip(points));
    *PLACES.lock().unwrap() = Some((places, points.to_vec()));
    let points = points.iter().enumerate().map(|(i, point)| (PointIndex(i as u32), point)).collect();
    [ImageRequest { scope: Scope::Process { pid: Pid(std::process::id()), target: 9 }, path: Path::new(EXE), points }]
}

fn everyone(points: &[AttachPoint]) -> [ImageRequest<'_>; 1] {
    requests(points).map(|request| ImageRequest { scope: Scope::Everyone, ..request })
}

fn probes(mechanism: Mechanism, ring_pages: usize) -> Probes {
    Probes::load(&Options { mechanism: Some(mechanism), ring_pages, ..Options::default() }).unwrap()
}

/// With the mechanism that this system would take.
fn best(ring_pages: usize) -> Probes {
    Probes::load(&Options { ring_pages, ..Options::default() }).unwrap()
}

/// Those that work here; trace events always do.
fn mechanisms() -> Vec<Mechanism> {
    match best(1).mechanism() {
        Mechanism::UprobeMulti => vec![Mechanism::UprobeMulti, Mechanism::Tracefs],
        Mechanism::Tracefs => vec![Mechanism::Tracefs],
    }
}

fn drain(probes: &mut Probes) -> (Vec<Seen>, Drained) {
    let mut seen = Vec::new();
    let drained = probes.drain(&mut |_, bytes| seen.push(Seen::read(bytes)));
    (seen, drained)
}

/// What was counted, without what was timed: which hits that is nobody foresees.
fn counted(probes: &Probes) -> Counters {
    Counters { laps: Laps::default(), ..probes.counters().unwrap() }
}

/// A function like those of a task's vtable: completes the task it is given, by the second argument.
#[inline(never)]
extern "C" fn polled(cell: *mut Cell, state: u64) {
    // SAFETY: every caller that passes a state passes its own cell.
    unsafe { (&raw mut (*black_box(cell)).head[0]).write_volatile(state) };
}

/// Calls itself with the cell behind, to the last.
#[inline(never)]
extern "C" fn nested(cell: *const Cell, more: u64) -> u64 {
    if black_box(more) > 0 { nested(cell.wrapping_add(1), more - 1) + 1 } else { 0 }
}

/// Only looks at its argument.
#[inline(never)]
extern "C" fn freed(cell: *const Cell) -> u64 {
    black_box(cell) as u64 ^ 0x5a
}

#[inline(never)]
extern "C" fn raised(n: u64) -> u64 {
    black_box(n) ^ 0xa5
}

/// Called at full speed where records get lost.
#[inline(never)]
extern "C" fn busy(cell: *const Cell) -> u64 {
    black_box(cell) as u64 ^ 0x77
}

unsafe extern "C" {
    /// Jumps to `async_observer_test_behind` at once, as `raw::poll` often does.
    fn async_observer_test_thunk(cell: *const Cell);
    fn async_observer_test_behind(cell: *const Cell);
    /// A thousand instructions of one byte, then a return.
    fn async_observer_test_thousand();
    /// Each register in turn: a place where it holds 100 + its number, and a place behind, each one byte long.
    fn async_observer_test_registers();
    fn async_observer_test_places();
    /// Puts the stack pointer where it is told for one instruction of one byte, `async_observer_test_there`.
    fn async_observer_test_stand(at: u64);
    fn async_observer_test_there();
    /// An instruction that takes no probe.
    fn async_observer_test_trap();
}

global_asm!(
    ".text",
    ".global async_observer_test_thunk",
    ".global async_observer_test_behind",
    ".balign 16",
    "async_observer_test_thunk: jmp async_observer_test_behind",
    ".balign 16",
    "async_observer_test_behind: push rbx; pop rbx; ret",
    ".global async_observer_test_thousand",
    ".balign 16",
    "async_observer_test_thousand: .fill 1000, 1, 0x90",
    "ret",
    ".global async_observer_test_registers",
    ".global async_observer_test_places",
    ".balign 16",
    "async_observer_test_registers:",
    "push rbx; push rbp; push r12; push r13; push r14; push r15",
    "mov rax, 100; mov rcx, 101; mov rdx, 102; mov rbx, 103; mov rbp, 105; mov rsi, 106; mov rdi, 107",
    "mov r8, 108; mov r9, 109; mov r10, 110; mov r11, 111; mov r12, 112; mov r13, 113; mov r14, 114; mov r15, 115",
    "async_observer_test_places: .fill 32, 1, 0x90",
    "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
    "ret",
    ".global async_observer_test_stand",
    ".global async_observer_test_there",
    ".balign 16",
    "async_observer_test_stand: mov rax, rsp; mov rsp, rdi",
    "async_observer_test_there: nop",
    "mov rsp, rax",
    "ret",
    ".global async_observer_test_trap",
    ".balign 16",
    "async_observer_test_trap: int3",
    "ret",
);
