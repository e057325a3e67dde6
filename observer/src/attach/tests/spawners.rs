//! What a task id reports with who takes it: registers, and the stack as far as it can be read.

use observer_common::{FLAG_STACK_CUT, PAGE, SPAWN_BARE, STACK_MOST, STACK_PAGES};

use super::*;
use crate::model::Spot;

/// A spawn's record, cut into fields by hand.
struct Spawned {
    seen: Seen,
    /// Bytes at the beginning that could not be read.
    unread: u64,
    registers: Vec<u64>,
    /// The address that was looked at, and what stood there.
    spawner: u64,
    head: Vec<u64>,
    stack: Vec<u64>,
}

fn spawned(mut seen: Vec<Seen>) -> Spawned {
    assert_eq!(seen.len(), 1);
    let mut seen = seen.remove(0);
    assert_eq!(seen.kind, Some(RecordKind::Spawn));
    let stack = seen.words.split_off((SPAWN_BARE - RECORD_BARE) / 8);
    let mut head = seen.words.split_off(7);
    let spawner = head.remove(0);
    Spawned { registers: std::mem::take(&mut seen.words), spawner, head, stack, unread: seen.far, seen }
}

fn with_spawners(mechanism: Mechanism) -> Probes {
    let spawners = Spawners::Reported;
    Probes::load(&Options { mechanism: Some(mechanism), ring_pages: 32, spawners, ..Options::default() }).unwrap()
}

/// Calls it with something known on the stack.
#[inline(never)]
fn call_with_marks(function: unsafe extern "C" fn(), mark: u64) -> [u64; 4] {
    let marks = black_box([0x1111_5eed, 0x2222_5eed, 0x3333_5eed, mark]);
    // SAFETY: each caller's function saves what it must and returns.
    unsafe { function() };
    black_box(marks)
}

#[test]
fn a_spawner_is_reported_with_its_registers_and_its_stack() {
    let Some(_alone) = live() else { return };
    for mechanism in mechanisms() {
        let mut probes = with_spawners(mechanism);
        let place = async_observer_test_places as *const () as usize;
        let points = [AttachPoint { register: Some(MintRegister(3)), ..point(Role::Spawn, place + 1) }];
        let _links = probes.attach(&requests(&points)).unwrap();
        let marks = call_with_marks(async_observer_test_registers, 0x4444_5eed);
        let Spawned { seen, registers, stack, unread, .. } = spawned(drain(&mut probes).0);

        assert_eq!((seen.cookie.point, seen.subject, seen.tid, unread), (0, 103, tid(), 0));
        assert_eq!(registers, [place as u64 + 1, 103, 105, 112, 113, 114, 115]);
        let here = black_box(0u8);
        let here = (&raw const here) as u64;
        assert!(seen.sp < here && here - seen.sp < 0x10000, "{:x} is not on this stack, {here:x}", seen.sp);
        let most = PAGE - (seen.sp as usize & (PAGE - 1)) + PAGE * STACK_PAGES;
        // A thread's stack may end before, at a page's end.
        let cut = stack.len() * 8 < most;
        assert_eq!((seen.flags, seen.length), (if cut { FLAG_STACK_CUT } else { 0 }, SPAWN_BARE + stack.len() * 8));
        assert_eq!((seen.sp as usize + stack.len() * 8) % PAGE, 0);
        let at = stack.windows(4).position(|words| words == marks).expect("the caller's frame is in the copy");
        assert!((7..100).contains(&at), "{at}: behind six pushed registers and the return address");
    }
}

#[test]
fn the_memory_that_a_known_spot_points_to_is_copied_at_the_hit() {
    let Some(_alone) = live() else { return };
    let mut probes = with_spawners(best(1).mechanism());
    let place = async_observer_test_places as *const () as usize;
    let points = [point(Role::Spawn, place)];
    let _links = probes.attach(&requests(&points)).unwrap();
    let cell = Cell::new(LIVE);
    let marks = call_with_marks(async_observer_test_registers, cell.address());
    let first = spawned(drain(&mut probes).0);
    assert_eq!((first.spawner, first.head), (0, vec![0; HEAD_WORDS]), "nobody has said yet where to look");
    let at = first.stack.windows(4).position(|words| words == marks).unwrap() as u32 + 3;
    probes.look_at(PointIndex(0), Spot::Stack(8 * at)).unwrap();
    call_with_marks(async_observer_test_registers, cell.address());
    let second = spawned(drain(&mut probes).0);
    assert_eq!((second.spawner, second.head), (cell.address(), cell.head.to_vec()));
    for spot in [Spot::Stack(8 * at - 8), Spot::Stack(u32::MAX), Spot::Register(2), Spot::Register(99)] {
        probes.look_at(PointIndex(0), spot).unwrap();
        call_with_marks(async_observer_test_registers, cell.address());
        let elsewhere = spawned(drain(&mut probes).0);
        assert_eq!((elsewhere.spawner, elsewhere.head), (0, vec![0; HEAD_WORDS]), "{spot:?}");
    }
}

/// A page, and behind it as much as a record goes that cannot be read.
fn page_at_an_end() -> u64 {
    // SAFETY: a new mapping; nothing is overwritten. It stays until the process ends.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let at = libc::mmap(std::ptr::null_mut(), PAGE + STACK_MOST, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(at, libc::MAP_FAILED);
        // Present, as a stack in use is: a probe does not fault a page in.
        std::ptr::write_bytes(at.cast::<u8>(), 0xa5, PAGE);
        assert_eq!(libc::mprotect(at.byte_add(PAGE), STACK_MOST, libc::PROT_NONE), 0);
        at as u64
    }
}

#[test]
fn a_stack_is_reported_as_far_as_it_can_be_read() {
    let Some(_alone) = live() else { return };
    let mut probes = with_spawners(best(1).mechanism());
    let points = [point(Role::Spawn, async_observer_test_there as *const () as usize)];
    let _links = probes.attach(&requests(&points)).unwrap();
    let pages = page_at_an_end();
    let end = pages + PAGE as u64;
    for (at, words) in [(pages, PAGE / 8), (end - 64, 8), (end - 8, 1), (end - 3, 1), (end, 0)] {
        // SAFETY: it puts the stack pointer back; nothing pushes in between.
        unsafe { async_observer_test_stand(at) };
        let Spawned { seen, registers, stack, unread, .. } = spawned(drain(&mut probes).0);
        assert_eq!((seen.sp, registers.len(), seen.flags, unread), (at, 7, FLAG_STACK_CUT, 0));
        assert_eq!(stack, vec![0xa5a5_a5a5_a5a5_a5a5; words], "{at:x}");
    }
}

#[test]
fn pages_that_are_not_there_yet_do_not_cost_what_lies_above() {
    let Some(_alone) = live() else { return };
    let mut probes = with_spawners(best(1).mechanism());
    let points = [point(Role::Spawn, async_observer_test_there as *const () as usize)];
    let _links = probes.attach(&requests(&points)).unwrap();
    // SAFETY: a new mapping of two pages that nobody has written to, below one that is there; it stays until the end.
    let below = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let at = libc::mmap(std::ptr::null_mut(), 4 * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(at, libc::MAP_FAILED);
        std::ptr::write_bytes(at.byte_add(2 * PAGE).cast::<u8>(), 0xa5, PAGE);
        assert_eq!(libc::mprotect(at.byte_add(3 * PAGE), PAGE, libc::PROT_NONE), 0);
        at as u64
    };
    // SAFETY: it puts the stack pointer back; nothing pushes in between.
    unsafe { async_observer_test_stand(below + 16) };
    let Spawned { seen, stack, unread, .. } = spawned(drain(&mut probes).0);
    let (holes, read) = stack.split_at(unread as usize / 8);
    assert_eq!((seen.sp, unread as usize, seen.flags), (below + 16, 2 * PAGE - 16, FLAG_STACK_CUT));
    assert!(holes.iter().all(|word| *word == 0));
    assert_eq!(read, [0xa5a5_a5a5_a5a5_a5a5; PAGE / 8]);
}

#[test]
fn many_threads_on_one_cpu_do_not_mix_their_stacks() {
    let Some(_alone) = live() else { return };
    let mut probes =
        Probes::load(&Options { ring_pages: 4096, spawners: Spawners::Reported, ..Options::default() }).unwrap();
    let points = [point(Role::Spawn, async_observer_test_there as *const () as usize)];
    let _links = probes.attach(&requests(&points)).unwrap();
    let threads: Vec<_> = (1..=6u8)
        .map(|n| {
            std::thread::spawn(move || {
                let page = page_at_an_end();
                // SAFETY: its own page, which it then stands on; nothing pushes in between.
                unsafe {
                    std::ptr::write_bytes(page as *mut u8, n, PAGE);
                    for _ in 0..100 {
                        async_observer_test_stand(page);
                    }
                }
                (tid(), u64::from_ne_bytes([n; 8]))
            })
        })
        .collect();
    let threads: Vec<(u32, u64)> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let (seen, drained) = drain(&mut probes);
    assert_eq!(drained, Drained { records: 600, lost_in_ring: 0 });
    for record in seen {
        let Spawned { seen, stack, .. } = spawned(vec![record]);
        let (_, mark) = threads.iter().find(|(tid, _)| *tid == seen.tid).unwrap();
        assert!(stack.len() * 8 <= STACK_MOST && stack.iter().all(|word| word == mark));
    }
}

#[test]
fn spawners_that_were_not_asked_for_are_not_loaded() {
    let Some(_alone) = live() else { return };
    for mechanism in mechanisms() {
        let mut probes = probes(mechanism, 1);
        let points = [point(Role::Spawn, raised as *const () as usize)];
        assert!(matches!(probes.attach(&requests(&points)), Err(AttachError::Object(_))));
    }
}
