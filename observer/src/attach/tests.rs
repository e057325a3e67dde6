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
    Cookie, FLAG_HEAD_UNREADABLE, FLAG_STAGE_UNREADABLE, FLAG_SUBJECT_UNKNOWN, HEAD_WORDS, MintRegister, RECORD_BARE,
    RECORD_FULL, RECORD_WITH_HEAD, RecordKind, STAGE_WORDS,
};

use super::links::Links;
use super::mechanism::own_file;
use super::object::Object;
use super::*;
use crate::model::{AttachPoint, Cost, FileOffset, Pid, PointIndex, Program, Role, VirtAddr};

const BOTH: [Mechanism; 2] = [Mechanism::UprobeMulti, Mechanism::PlainUprobes];
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
    words: Vec<u64>,
}

impl Seen {
    fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        Self {
            length: bytes.len(),
            ts: word(0),
            cookie: Cookie::from_u64(word(8)),
            sp: word(16),
            subject: word(24),
            tid: word(32) as u32,
            tgid: (word(32) >> 32) as u32,
            kind: RecordKind::from_u16(word(40) as u16),
            flags: (word(40) >> 16) as u16,
            words: (RECORD_BARE..bytes.len()).step_by(8).map(word).collect(),
        }
    }
}

/// Root, alone among the tests of this file, and on one CPU, so that one ring sees everything in order.
fn live() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("NOT TESTED: probes need root");
        return None;
    }
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: all zeroes is an empty set; the call reads one set of the size given.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
    Some(guard)
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
    AttachPoint { role, at: VirtAddr(0), offset, bytes: vec![], cost: Cost::Emulated, vtable: None, register: None }
}

fn requests(points: &[AttachPoint]) -> [ImageRequest<'_>; 1] {
    let points = points.iter().enumerate().map(|(i, point)| (PointIndex(i as u32), point)).collect();
    [ImageRequest { target: 9, pid: Pid(std::process::id()), path: Path::new(EXE), points }]
}

fn probes(mechanism: Mechanism, ring_pages: usize) -> Probes {
    Probes::load(&Options { mechanism: Some(mechanism), ring_pages, ..Options::default() }).unwrap()
}

fn drain(probes: &mut Probes) -> (Vec<Seen>, Drained) {
    let mut seen = Vec::new();
    let drained = probes.drain(&mut |_, bytes| seen.push(Seen::read(bytes)));
    (seen, drained)
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
    ".global async_observer_test_trap",
    ".balign 16",
    "async_observer_test_trap: int3",
    "ret",
);

#[test]
fn a_call_is_reported_entering_and_leaving_with_the_memory_of_that_moment() {
    let Some(_alone) = live() else { return };
    for mechanism in BOTH {
        let mut probes = probes(mechanism, 8);
        assert_eq!(probes.mechanism(), mechanism);
        let points =
            [point(Role::Raise, raised as *const () as usize), point(Role::Poll, polled as *const () as usize)];
        let links = probes.attach(&requests(&points)).unwrap();
        assert_eq!((links.probes(), links.refused().len()), (3, 0));

        let mut cell = Cell::new(LIVE | 1);
        let before = now();
        polled(&mut cell, LIVE | COMPLETE);
        let after = now();

        let (seen, drained) = drain(&mut probes);
        assert_eq!(drained, Drained { records: 2, lost_in_ring: 0 });
        let [enter, leave] = &seen[..] else { panic!("{mechanism:?}: {seen:?}") };
        for record in [enter, leave] {
            assert_eq!(record.cookie, Cookie { point: 1, target: 9, register: 0 });
            assert_eq!((record.subject, record.flags), (cell.address(), 0));
            assert_eq!((record.tid, record.tgid), (tid(), std::process::id()));
            assert!((before..=after).contains(&record.ts));
        }
        assert!(enter.ts < leave.ts);
        assert_eq!((enter.kind, enter.length), (Some(RecordKind::Enter), RECORD_WITH_HEAD));
        assert_eq!((leave.kind, leave.length), (Some(RecordKind::Leave), RECORD_FULL));

        let here = black_box(0u8);
        let here = (&raw const here) as u64;
        assert!(enter.sp < here && here - enter.sp < 0x10000, "{:x} is not on this stack, {here:x}", enter.sp);
        assert_eq!(enter.sp % 16, 8, "as the ABI has it at an entry");
        assert_eq!(leave.sp, enter.sp);

        assert_eq!(enter.words[0], LIVE | 1);
        assert_eq!(enter.words[1..], cell.head[1..]);
        assert_eq!(leave.words[0], LIVE | COMPLETE);
        assert_eq!(leave.words[1..HEAD_WORDS], cell.head[1..]);
        assert_eq!(leave.words[HEAD_WORDS..], cell.stage);
    }
}

#[test]
fn the_stage_is_copied_of_complete_tasks_that_live_only() {
    let Some(_alone) = live() else { return };
    let mut probes = probes(Mechanism::UprobeMulti, 8);
    let points = [point(Role::Poll, polled as *const () as usize)];
    let _links = probes.attach(&requests(&points)).unwrap();
    for (state, length) in [
        (LIVE, RECORD_WITH_HEAD),
        (LIVE | COMPLETE, RECORD_FULL),
        (COMPLETE, RECORD_WITH_HEAD),
        ((1 << 30) | COMPLETE, RECORD_WITH_HEAD),
    ] {
        polled(&mut Cell::new(LIVE), state);
        let (seen, _) = drain(&mut probes);
        assert_eq!((seen[1].words[0], seen[1].length), (state, length), "{state:#x}");
    }
}

#[test]
fn nested_calls_leave_with_their_own_header() {
    let Some(_alone) = live() else { return };
    for mechanism in BOTH {
        let mut probes = probes(mechanism, 8);
        let points = [point(Role::Shutdown, nested as *const () as usize)];
        let _links = probes.attach(&requests(&points)).unwrap();
        let cells: [Cell; 4] = std::array::from_fn(|_| Cell::new(LIVE));
        assert_eq!(nested(cells.as_ptr(), 3), 3);

        let (seen, _) = drain(&mut probes);
        let subjects: Vec<u64> = seen.iter().map(|record| record.subject).collect();
        let mut expected: Vec<u64> = cells.iter().map(Cell::address).collect();
        expected.extend(cells.iter().rev().map(Cell::address));
        assert_eq!(subjects, expected);
        let frames: Vec<u64> = seen.iter().map(|record| record.sp).collect();
        assert!(frames[..4].is_sorted_by(|outer, inner| outer > inner));
        assert!(frames.iter().eq(frames.iter().rev()));
        assert_eq!(probes.counters().unwrap(), Counters { lost: 0, hits: 8, entries_forgotten: 0 });
    }
}

#[test]
fn a_thunk_and_the_function_it_jumps_to_keep_apart() {
    let Some(_alone) = live() else { return };
    let mut probes = probes(Mechanism::UprobeMulti, 8);
    let points = [
        point(Role::Poll, async_observer_test_thunk as *const () as usize),
        point(Role::DropJoinHandle, async_observer_test_behind as *const () as usize),
    ];
    let _links = probes.attach(&requests(&points)).unwrap();
    let cell = Cell::new(LIVE);
    // SAFETY: it ignores its argument.
    unsafe { async_observer_test_thunk(&cell) };
    let (seen, _) = drain(&mut probes);
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|record| record.flags == 0 && record.subject == cell.address() && record.sp == seen[0].sp));
    let count = |point, kind| seen.iter().filter(|r| r.cookie.point == point && r.kind == Some(kind)).count();
    for point in [0, 1] {
        assert_eq!((count(point, RecordKind::Enter), count(point, RecordKind::Leave)), (1, 1));
    }
}

#[test]
fn memory_that_cannot_be_read_is_said_not_guessed() {
    let Some(_alone) = live() else { return };
    let mut probes = Probes::load(&Options { ring_pages: 8, kernel_log: true, ..Options::default() }).unwrap();
    let points = [point(Role::Dealloc, freed as *const () as usize), point(Role::Poll, nested as *const () as usize)];
    let _links = probes.attach(&requests(&points)).unwrap();

    freed(std::ptr::without_provenance(0x10));
    let (seen, _) = drain(&mut probes);
    assert_eq!((seen.len(), seen[0].flags, seen[0].length), (1, FLAG_HEAD_UNREADABLE, RECORD_WITH_HEAD));
    assert_eq!(seen[0].words, [0; HEAD_WORDS]);
    assert_eq!(probes.kernel_log(), [format!("unreadable header 10 at point 0 in thread {}", tid())]);

    // SAFETY: a new mapping of two pages, of which the second is taken away again.
    let last_words = unsafe {
        let pages = libc::mmap(
            std::ptr::null_mut(),
            8192,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(pages, libc::MAP_FAILED);
        assert_eq!(libc::munmap(pages.add(4096), 4096), 0);
        pages.add(4096 - 8 * HEAD_WORDS).cast::<u64>()
    };
    // SAFETY: the first word of the last ten in the page that is left.
    unsafe { last_words.write(LIVE | COMPLETE) };
    nested(last_words.cast(), 0);
    let (seen, _) = drain(&mut probes);
    assert_eq!((seen.len(), seen[1].flags, seen[1].length), (2, FLAG_STAGE_UNREADABLE, RECORD_FULL));
    assert_eq!(seen[1].words[0], LIVE | COMPLETE);
    assert_eq!(seen[1].words[HEAD_WORDS..], [0; STAGE_WORDS]);
    assert!(probes.kernel_log().is_empty());
}

#[test]
fn a_return_without_its_entry_is_reported_as_such() {
    let Some(_alone) = live() else { return };
    let object = Object::load(false).unwrap();
    let mut programs = object.load_multi().unwrap();
    programs.retain(|program, _| *program == Program::Leave);
    let mut ring = Ring::open(0, 8).unwrap();
    kernel::update_map(object.records().unwrap(), 0, ring.as_raw_fd() as u32).unwrap();
    let points = [point(Role::Poll, polled as *const () as usize)];
    let _links = Links::multi(&programs, &requests(&points)).unwrap();
    polled(&mut Cell::new(LIVE), LIVE);

    let mut seen = Vec::new();
    ring.drain(&mut |_, bytes| seen.push(Seen::read(bytes)));
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].kind, seen[0].flags, seen[0].subject), (Some(RecordKind::Leave), FLAG_SUBJECT_UNKNOWN, 0));
    assert_eq!((seen[0].length, seen[0].sp % 16), (RECORD_WITH_HEAD, 8));
    assert_eq!(seen[0].words, [0; HEAD_WORDS]);
}

#[test]
fn a_birth_gets_the_id_minted_last_on_its_thread_from_any_register() {
    let Some(_alone) = live() else { return };
    let places = async_observer_test_places as *const () as usize;
    let mut points = Vec::new();
    for number in 0..16 {
        let mint = point(Role::Mint, places + 2 * number);
        points.push(AttachPoint { register: Some(MintRegister(number as u8)), ..mint });
        points.push(point(Role::Birth, places + 2 * number + 1));
    }
    for mechanism in BOTH {
        let mut probes = probes(mechanism, 8);
        let links = probes.attach(&requests(&points)).unwrap();
        // Another thread's mints and births stay its own.
        // SAFETY: it saves what it must and returns.
        std::thread::spawn(|| unsafe { async_observer_test_registers() }).join().unwrap();
        drain(&mut probes);
        // SAFETY: as above.
        unsafe { async_observer_test_registers() };
        let (seen, _) = drain(&mut probes);
        let expected: Vec<(u32, u64)> =
            (0..16).map(|n| (2 * n + 1, if n == 4 { seen[4].sp } else { u64::from(100 + n) })).collect();
        assert_eq!(seen.iter().map(|r| (r.cookie.point, r.subject)).collect::<Vec<_>>(), expected);
        assert!(seen.iter().all(|r| r.kind == Some(RecordKind::Birth) && r.length == RECORD_BARE && r.tid == tid()));
        assert_eq!(probes.counters().unwrap().hits, 64);
        drop(links);
        if mechanism == Mechanism::PlainUprobes {
            continue; // the rest is the kernel side's own, the same for both
        }

        // A birth takes the id away: the next one, without a mint, has none.
        let without_mint = [point(Role::Birth, places), point(Role::Birth, places + 2)];
        let _links = probes.attach(&requests(&without_mint)).unwrap();
        // SAFETY: as above.
        unsafe { async_observer_test_registers() };
        let (seen, _) = drain(&mut probes);
        assert_eq!(seen.iter().map(|r| r.subject).collect::<Vec<_>>(), [0, 0]);
    }
}

#[test]
fn a_panic_is_reported_with_its_thread_alone() {
    let Some(_alone) = live() else { return };
    let mut probes = probes(Mechanism::UprobeMulti, 8);
    let points = [point(Role::Raise, raised as *const () as usize)];
    let _links = probes.attach(&requests(&points)).unwrap();
    raised(1);
    let (seen, _) = drain(&mut probes);
    assert_eq!((seen.len(), seen[0].length, seen[0].subject), (1, RECORD_BARE, 0));
    assert_eq!((seen[0].kind, seen[0].tid), (Some(RecordKind::Raise), tid()));
}

#[test]
fn records_without_room_are_counted_to_the_last() {
    let Some(_alone) = live() else { return };
    let mut probes = probes(Mechanism::UprobeMulti, 1);
    let points = [point(Role::Poll, busy as *const () as usize)];
    let _links = probes.attach(&requests(&points)).unwrap();
    let cell = Cell::new(LIVE);
    for _ in 0..1000 {
        busy(&cell);
    }
    let (_, first) = drain(&mut probes);
    let counters = probes.counters().unwrap();
    assert_eq!(counters.hits, 2000);
    assert!(counters.lost > 1900, "{counters:?}");
    assert_eq!(first.records + counters.lost, 2000);
    // The ring itself says so with the next record that finds room.
    busy(&cell);
    let (_, second) = drain(&mut probes);
    assert_eq!((second.records, first.lost_in_ring + second.lost_in_ring), (2, counters.lost));
    assert_eq!(probes.counters().unwrap().lost, counters.lost);
}

#[test]
fn records_that_wrap_around_the_ring_come_out_whole() {
    let Some(_alone) = live() else { return };
    let mut probes = probes(Mechanism::UprobeMulti, 1);
    let points = [point(Role::Poll, polled as *const () as usize), point(Role::Raise, raised as *const () as usize)];
    let _links = probes.attach(&requests(&points)).unwrap();
    let mut cell = Cell::new(LIVE);
    for round in 0..500 {
        cell.head[5] = round;
        polled(&mut cell, LIVE | COMPLETE);
        raised(round);
        let (seen, drained) = drain(&mut probes);
        assert_eq!(drained, Drained { records: 3, lost_in_ring: 0 });
        assert_eq!((seen[0].words[5], seen[1].words[5]), (round, round));
        assert_eq!(seen[1].words[HEAD_WORDS..], cell.stage);
        assert_eq!(seen[2].kind, Some(RecordKind::Raise));
    }
}

#[test]
fn the_reader_is_woken_at_a_quarter_of_the_ring_not_at_a_record() {
    let Some(_alone) = live() else { return };
    let mut probes = probes(Mechanism::UprobeMulti, 1);
    let points = [point(Role::Dealloc, freed as *const () as usize)];
    let _links = probes.attach(&requests(&points)).unwrap();
    let ring = probes.rings().iter().find(|ring| ring.cpu() == 0).unwrap().as_raw_fd();
    let is_readable = || {
        let mut poll = libc::pollfd { fd: ring, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which outlives the call.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    };
    let cell = Cell::new(LIVE);
    freed(&cell);
    assert!(!is_readable());
    for _ in 0..8 {
        freed(&cell);
    }
    assert!(is_readable());
}

#[test]
fn links_take_their_probes_out_when_dropped() {
    let Some(_alone) = live() else { return };
    let first_bytes = || -> [u8; 4] {
        // SAFETY: code of this process, which is readable.
        unsafe { std::ptr::read_volatile((freed as *const ()).cast()) }
    };
    let bare = first_bytes();
    for mechanism in BOTH {
        let mut probes = probes(mechanism, 8);
        let points = [point(Role::Poll, freed as *const () as usize)];
        let cell = Cell::new(LIVE);
        let links = probes.attach(&requests(&points)).unwrap();
        assert_eq!(first_bytes()[0], 0xcc, "the kernel's breakpoint");
        freed(&cell);
        drop(links);
        assert_eq!(first_bytes(), bare);
        freed(&cell);
        assert_eq!(probes.counters().unwrap().hits, 2);
        // The same session can attach again.
        let links = probes.attach(&requests(&points)).unwrap();
        freed(&cell);
        links.detach();
        assert_eq!(probes.counters().unwrap().hits, 4);
    }
}

#[test]
fn a_thousand_points_go_into_one_link_and_come_out_with_it() {
    let Some(_alone) = live() else { return };
    let mut probes = probes(Mechanism::UprobeMulti, 64);
    let first = async_observer_test_thousand as *const () as usize;
    let points: Vec<AttachPoint> = (0..1000).map(|n| point(Role::Raise, first + n)).collect();
    let requests = requests(&points);
    let start = Instant::now();
    let links = probes.attach(&requests).unwrap();
    let attached = start.elapsed();
    assert_eq!((links.probes(), links.links()), (1000, 1));
    // SAFETY: it does nothing.
    unsafe { async_observer_test_thousand() };
    let start = Instant::now();
    drop(links);
    let detached = start.elapsed();
    let (seen, drained) = drain(&mut probes);
    assert!(seen.iter().map(|record| record.cookie.point).eq(0..1000), "{drained:?}");
    eprintln!("1000 points: attached in {attached:?}, detached in {detached:?}");
}

#[test]
fn a_place_that_takes_no_probe_costs_only_its_own_events() {
    let Some(_alone) = live() else { return };
    for mechanism in BOTH {
        let mut probes = probes(mechanism, 8);
        let mut points = vec![point(Role::Raise, raised as *const () as usize); 5];
        points[1] = point(Role::Raise, async_observer_test_trap as *const () as usize);
        points[3].offset = FileOffset(1 << 40);
        let links = probes.attach(&requests(&points)).unwrap();
        assert_eq!(links.probes(), 3);
        let mut refused: Vec<u32> = links.refused().iter().map(|refused| refused.point.0).collect();
        refused.sort();
        assert_eq!(refused, [1, 3]);
        raised(1);
        let (seen, _) = drain(&mut probes);
        let mut points: Vec<u32> = seen.iter().map(|record| record.cookie.point).collect();
        points.sort();
        assert_eq!(points, [0, 2, 4], "{mechanism:?}");
    }
}

#[test]
fn errors_tell_a_gone_target_from_a_file_that_cannot_be_opened() {
    let Some(_alone) = live() else { return };
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    for mechanism in BOTH {
        let mut probes = probes(mechanism, 8);
        let points = [point(Role::Raise, raised as *const () as usize)];
        let [mut request] = requests(&points);
        request.path = Path::new("/proc/self/map_files/nowhere");
        assert!(matches!(probes.attach(&[request]), Err(AttachError::FileUnreadable { .. })));
        let [mut request] = requests(&points);
        request.pid = Pid(ended.id());
        assert!(matches!(probes.attach(&[request]), Err(AttachError::TargetGone { .. })), "{mechanism:?}");
    }
}
