//! What a hit reports: kind, subject, memory, thread, order.

use super::*;

#[test]
fn a_call_is_reported_entering_and_leaving_with_the_memory_of_that_moment() {
    let Some(_alone) = live() else { return };
    for mechanism in mechanisms() {
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
            assert_eq!(record.cookie, Cookie { point: 1, target: 9, register: 0, far: 0 });
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
    let mut probes = best(8);
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
    for mechanism in mechanisms() {
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
        assert_eq!(counted(&probes), Counters { lost: 0, hits: 8, returns: 4, ..Counters::default() });
    }
}

#[test]
fn a_thunk_and_the_function_it_jumps_to_keep_apart() {
    let Some(_alone) = live() else { return };
    mechanisms().into_iter().for_each(thunk_and_target);
}

fn thunk_and_target(mechanism: Mechanism) {
    let mut probes = probes(mechanism, 8);
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
fn calls_on_many_threads_and_cpus_do_not_mix() {
    let Some(_alone) = live() else { return };
    let mut probes = best(256);
    let points = [point(Role::Poll, busy as *const () as usize)];
    let _links = probes.attach(&requests(&points)).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                run_on(&[0, 1, 2, 3]);
                let cell = Cell::new(LIVE);
                for _ in 0..500 {
                    busy(&cell);
                }
                (tid(), cell.address())
            })
        })
        .collect();
    let threads: Vec<(u32, u64)> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let (mut seen, drained) = drain(&mut probes);
    assert_eq!(drained, Drained { records: 4000, lost_in_ring: 0 });
    seen.sort_by_key(|record| record.ts);
    for (tid, cell) in threads {
        let own: Vec<&Seen> = seen.iter().filter(|record| record.tid == tid).collect();
        assert_eq!(own.len(), 1000);
        for call in own.chunks(2) {
            assert_eq!((call[0].kind, call[1].kind), (Some(RecordKind::Enter), Some(RecordKind::Leave)));
            assert_eq!((call[0].subject, call[1].subject, call[0].sp), (cell, cell, call[1].sp));
        }
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
    // Where a probe sits at many points, the kernel side does not know which it was.
    let point = if probes.mechanism() == Mechanism::Tracefs { Cookie::BY_ADDRESS } else { 0 };
    assert_eq!(probes.kernel_log(), [format!("unreadable header 10 at point {point} in thread {}", tid())]);

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
    if best(1).mechanism() == Mechanism::Tracefs {
        return; // there, nobody knows what has returned
    }
    let object = Object::load(&Options::default(), Mechanism::UprobeMulti, None).unwrap();
    let mut programs = object.load_programs(AttachedBy::Multi).unwrap();
    programs.retain(|program, _| *program == Program::Leave);
    let mut ring = Ring::open(Source::BpfOutput, 0, 8).unwrap();
    kernel_maps::update(object.records().unwrap(), 0, ring.as_raw_fd() as u32).unwrap();
    let points = [point(Role::Poll, polled as *const () as usize)];
    let _links = Links::attach(&programs, &Way::Multi { sessions: false }, &requests(&points)).unwrap();
    polled(&mut Cell::new(LIVE), LIVE);

    let mut seen = Vec::new();
    ring.drain(&mut |entry| seen.extend(entry.written().map(Seen::read)));
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].kind, seen[0].flags, seen[0].subject), (Some(RecordKind::Leave), FLAG_SUBJECT_UNKNOWN, 0));
    assert_eq!((seen[0].length, seen[0].sp % 16), (RECORD_WITH_HEAD, 8));
    assert_eq!(seen[0].words, [0; HEAD_WORDS]);
}

#[test]
fn a_birth_gets_the_id_minted_last_on_its_thread_from_any_register() {
    let Some(_alone) = live() else { return };
    for mechanism in mechanisms() {
        let points: Vec<AttachPoint> = (0..16).flat_map(|n| [mint_of(n), place(Role::Birth, 2 * n + 1)]).collect();
        let mut probes = probes(mechanism, 8);
        let _links = probes.attach(&requests(&points)).unwrap();
        // SAFETY: it saves what it must and returns.
        unsafe { async_observer_test_registers() };
        let (seen, _) = drain(&mut probes);
        for (n, record) in seen.iter().enumerate() {
            let held = if n == 4 { record.sp } else { 100 + n as u64 };
            assert_eq!((record.cookie.point as usize, record.subject), (2 * n + 1, held), "register {n}");
            assert_eq!((record.kind, record.length, record.tid), (Some(RecordKind::Birth), RECORD_BARE, tid()));
        }
        assert_eq!((seen.len(), probes.counters().unwrap().hits), (16, 32));
    }
}

#[test]
fn a_birth_takes_the_id_away() {
    let Some(_alone) = live() else { return };
    let mut probes = best(8);
    let points = [mint_of(0), place(Role::Birth, 1), place(Role::Birth, 2)];
    let _links = probes.attach(&requests(&points)).unwrap();
    // SAFETY: it saves what it must and returns.
    unsafe { async_observer_test_registers() };
    let (seen, _) = drain(&mut probes);
    assert_eq!(seen.iter().map(|record| record.subject).collect::<Vec<_>>(), [100, 0]);
}

#[test]
fn an_id_minted_on_one_thread_is_not_for_a_birth_on_another() {
    let Some(_alone) = live() else { return };
    let mut probes = best(8);
    let mint = [mint_of(0)];
    let links = probes.attach(&requests(&mint)).unwrap();
    // SAFETY: it saves what it must and returns.
    std::thread::spawn(|| unsafe { async_observer_test_registers() }).join().unwrap();
    drop(links);
    let birth = [place(Role::Birth, 1)];
    let _links = probes.attach(&requests(&birth)).unwrap();
    // SAFETY: as above.
    unsafe { async_observer_test_registers() };
    let (seen, _) = drain(&mut probes);
    assert_eq!((seen.len(), seen[0].subject, probes.counters().unwrap().hits), (1, 0, 2));
}

/// A point on one of the one-byte places.
fn place(role: Role, number: usize) -> AttachPoint {
    point(role, async_observer_test_places as *const () as usize + number)
}

/// The mint on the place where this register's turn is.
fn mint_of(register: usize) -> AttachPoint {
    AttachPoint { register: Some(MintRegister(register as u8)), ..place(Role::Mint, 2 * register) }
}

#[test]
fn a_panic_is_reported_with_its_thread_alone() {
    let Some(_alone) = live() else { return };
    let mut probes = best(8);
    let points = [point(Role::Raise, raised as *const () as usize)];
    let _links = probes.attach(&requests(&points)).unwrap();
    raised(1);
    let (seen, _) = drain(&mut probes);
    assert_eq!((seen.len(), seen[0].length, seen[0].subject), (1, RECORD_BARE, 0));
    assert_eq!((seen[0].kind, seen[0].tid), (Some(RecordKind::Raise), tid()));
}
