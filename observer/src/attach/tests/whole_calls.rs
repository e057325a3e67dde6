//! Calls that are reported once, at their return, and those that have not returned.

use observer_common::{CALL_ENTRY, CALL_FULL, CALL_WITH_HEAD, Entry, TaskKey};

use super::forked::{forked, stays};
use super::*;
use crate::attach::{Batches, Calls, Sessions};
use crate::model::{Ns, Tid};

/// Words of an entry before its head.
const BARE: usize = size_of::<Entry>() / 8 - HEAD_WORDS;

/// As the event arm has it, in each way that works here: none with trace events, two where the kernel has sessions.
fn once(in_progress: u32) -> impl Iterator<Item = Probes> {
    let options = Options { ring_pages: 64, calls: Calls::Once, in_progress, ..Options::default() };
    let load = move |sessions| Probes::load(&Options { sessions, ..options }).unwrap();
    let with = Some(load(Sessions::IfThere)).filter(Probes::has_sessions);
    with.into_iter()
        .chain(std::iter::once_with(move || load(Sessions::Never)))
        .filter(|probes| probes.calls() == Calls::Once)
}

#[test]
fn a_session_is_at_both_moments_of_a_call_where_the_kernel_has_that() {
    let Some(_alone) = live() else { return };
    let names = std::fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
    let has = names.windows(26).any(|name| name == b"\0BPF_TRACE_UPROBE_SESSION\0");
    let ways: Vec<bool> = once(16).map(|probes| probes.has_sessions()).collect();
    assert_eq!(ways.contains(&true), has, "by the names of the kernel's own types");
}

/// Every record that was not taken before: those that wait on desks, and then those in the rings, in the order of their times.
fn taken(probes: &mut Probes, batches: &mut Batches) -> Vec<Seen> {
    let mut seen = Vec::new();
    probes.waiting(&mut |desk, waiting, bytes| {
        batches.found(desk, waiting, bytes, &mut |record| seen.push(Seen::read(record)));
    });
    probes.drain(&mut |_, bytes| batches.take_apart(bytes, &mut |record| seen.push(Seen::read(record))));
    seen.sort_by_key(|record| record.ts);
    seen
}

/// The entry of a call in progress, as the record of it would be.
fn entry_of(call: &Amid) -> Seen {
    let words: Vec<u64> =
        call.bytes().chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
    let (bare, entry) = words.split_at(RECORD_BARE / 8);
    let kinds = entry[2] << 16 | RecordKind::Enter as u64;
    let record = [&[entry[0]], &bare[1..5], &[kinds, entry[1]], &entry[BARE..BARE + HEAD_WORDS]].concat();
    Seen::read(&record.into_iter().flat_map(u64::to_ne_bytes).collect::<Vec<u8>>())
}

/// The entries of the calls in progress.
fn begun(probes: &Probes) -> Vec<Seen> {
    let calls = probes.amid().unwrap().into_iter().filter(|call| probes.is_amid(call).unwrap());
    calls.map(|call| entry_of(&call)).collect()
}

#[test]
fn a_call_is_reported_once_with_what_its_entry_and_its_return_saw() {
    let Some(_alone) = live() else { return };
    for mut probes in once(64) {
        let points = [point(Role::Poll, polled as *const () as usize)];
        let _links = probes.attach(&requests(&points)).unwrap();
        let mut batches = Batches::default();
        for (state, length) in [(LIVE, CALL_WITH_HEAD), (LIVE | COMPLETE, CALL_FULL)] {
            let mut cell = Cell::new(LIVE | 1);
            let before = now();
            polled(&mut cell, state);
            let after = now();
            let seen = taken(&mut probes, &mut batches);
            let [call] = &seen[..] else { panic!("{seen:?}") };
            assert_eq!((call.kind, call.flags, call.length), (Some(RecordKind::Call), 0, length));
            assert_eq!((call.subject, call.tid, call.tgid), (cell.address(), tid(), std::process::id()));
            let (entry, words) = call.words.split_at(BARE + HEAD_WORDS);
            assert!(
                before <= entry[0] && entry[0] < call.ts && call.ts <= after,
                "{before} {entry:?} {} {after}",
                call.ts
            );
            assert_eq!(
                (entry[1], entry[2], entry[BARE]),
                (0, 0, LIVE | 1),
                "no further word was asked for, all was read"
            );
            assert_eq!(entry[BARE + 1..], cell.head[1..]);
            assert_eq!((words[0], &words[1..HEAD_WORDS]), (state, &cell.head[1..]));
            assert_eq!(call.sp % 16, 8, "as the ABI has it at an entry");
            assert!(begun(&probes).is_empty());
        }
        assert_eq!(counted(&probes), Counters { hits: 4, returns: 2, ..Counters::default() });
    }
}

#[test]
fn a_return_is_not_waited_for_where_the_entry_gives_up_the_last_reference() {
    let Some(_alone) = live() else { return };
    const ONE: u64 = 1 << 6;
    for mut probes in once(64) {
        let roles = [(Role::DropJoinHandle, polled as *const () as usize), (Role::Poll, busy as *const () as usize)];
        let points = roles.map(|(role, at)| point(role, at));
        let _links = probes.attach(&requests(&points)).unwrap();
        let mut batches = Batches::default();
        let mut told = |call: fn(&mut Cell), held: u64| {
            let mut cell = Cell::new(held | COMPLETE);
            let before = now();
            call(&mut cell);
            let seen = taken(&mut probes, &mut batches);
            let [record] = &seen[..] else { panic!("{seen:?}") };
            assert!((before..=now()).contains(&record.ts));
            assert_eq!((record.subject, record.flags, record.tid), (cell.address(), 0, tid()));
            // What the entry saw stands at one place in both kinds of records.
            assert_eq!((record.words[BARE], &record.words[BARE + 1..][..9]), (held | COMPLETE, &cell.head[1..]));
            (record.kind, record.length)
        };
        let (drops, polls) = (|cell: &mut Cell| polled(cell, 0), |cell: &mut Cell| assert_ne!(busy(cell), 0));
        let whole = (Some(RecordKind::Call), CALL_WITH_HEAD);
        assert_eq!(told(drops, 2 * ONE), whole, "somebody else keeps it");
        assert_eq!(told(polls, ONE), (Some(RecordKind::Call), CALL_FULL), "who polls gives up none");
        let last = told(drops, ONE);
        let at_entry = probes.has_sessions();
        assert_eq!(last, if at_entry { (Some(RecordKind::Release), CALL_ENTRY) } else { whole });
        assert!(begun(&probes).is_empty(), "nothing is in progress for ever");
        let returns = if at_entry { 2 } else { 3 };
        assert_eq!(counted(&probes), Counters { hits: 3 + returns, returns, ..Counters::default() });
    }
}

/// Runs what it is given on the stack that ends there, as a program with fibers does.
fn on_stack(end: *mut u8, run: &mut dyn FnMut()) {
    extern "C" fn call(run: &mut &mut dyn FnMut()) {
        run();
    }
    let mut run = run;
    // SAFETY: the stack is the caller's, and long enough for what runs there; it comes back by a return.
    unsafe {
        std::arch::asm!(
            "mov r12, rsp", "mov rsp, {end}", "call {call}", "mov rsp, r12",
            end = in(reg) end, call = sym call, in("rdi") &raw mut run, out("r12") _, clobber_abi("C"),
        );
    }
}

#[test]
fn a_call_on_a_stack_above_that_of_the_call_around_it_is_left_alone_and_the_program_lives() {
    let Some(_alone) = live() else { return };
    const HALF: usize = 1 << 20;
    let mut probes = Probes::load(&Options { ring_pages: 64, calls: Calls::Once, ..Options::default() }).unwrap();
    if !probes.has_sessions() {
        // There a return cannot be refused, and the kernel would end this process.
        return;
    }
    let roles = [(Role::Poll, around as *const () as usize), (Role::DropJoinHandle, polled as *const () as usize)];
    let points = roles.map(|(role, at)| point(role, at));
    let _links = probes.attach(&requests(&points)).unwrap();
    #[inline(never)]
    fn around(_cell: &Cell, inside: &mut dyn FnMut()) {
        inside();
        black_box(inside);
    }
    let mut stacks = vec![0u128; 2 * HALF / 16];
    let ends = [HALF, 2 * HALF].map(|end| stacks.as_mut_ptr().cast::<u8>().wrapping_add(end));
    let (outer, mut inner) = (Cell::new(LIVE), Cell::new(2 * LIVE));
    let mut batches = Batches::default();
    let mut told = |first: usize, then: usize| {
        let mut drops = || polled(&mut inner, LIVE);
        on_stack(ends[first], &mut || around(&outer, &mut || on_stack(ends[then], &mut drops)));
        let told = taken(&mut probes, &mut batches).iter().map(|record| record.cookie.point).collect::<Vec<u32>>();
        (told, counted(&probes).elsewhere)
    };
    assert_eq!(told(0, 1), (vec![0], 1), "above");
    assert_eq!(told(1, 0), (vec![1, 0], 1), "below it does no harm");
    assert_eq!(told(0, 1), (vec![0], 2), "and nothing is taken for open that is over");
}

#[test]
fn one_hit_in_sixty_four_is_timed_and_takes_a_part_of_what_the_call_takes() {
    let Some(_alone) = live() else { return };
    const CALLS: u64 = 6400;
    for mut probes in once(64).chain(std::iter::once_with(|| best(64))) {
        let points = [point(Role::Poll, busy as *const () as usize)];
        let _links = probes.attach(&requests(&points)).unwrap();
        let (cell, before) = (Cell::new(LIVE), now());
        (0..CALLS).for_each(|_| {
            busy(&cell);
        });
        let each = (now() - before) as f64 / (2 * CALLS) as f64;
        let laps = probes.counters().unwrap().laps;
        let [programs, entries, _] = laps.timed();
        assert!(programs <= 210 && entries <= 105, "{laps:?}");
        // What takes longer than 65 us is taken to have been preempted: where all takes so long none is left.
        if each < 30_000.0 {
            // What an entry does is not the same where it is reported by itself.
            let least = if probes.calls() == Calls::Once { 75 } else { 0 };
            assert!(programs >= 150 && entries >= least, "{laps:?}");
            let program = laps.program().unwrap();
            assert!(0.0 < program && program < each, "{program} of {each}");
        }
    }
}

#[test]
fn a_call_in_progress_is_handed_out_as_the_record_that_its_entry_would_have_made() {
    let Some(_alone) = live() else { return };
    let points = [point(Role::Poll, stays as *const () as usize)];
    let look = |mut probes: Probes| {
        let _links = probes.attach(&everyone(&points)).unwrap();
        let mut child = forked(|child| stays(&Cell::new(LIVE), child));
        let pid = child.pid();
        child.go();
        child.told();
        let mut batches = Batches::default();
        let (written, in_progress) = (taken(&mut probes, &mut batches), begun(&probes));
        child.run();
        assert_eq!(taken(&mut probes, &mut batches).len(), 1, "its return, or all of it");
        assert!(begun(&probes).is_empty());
        (pid, written, in_progress)
    };
    for probes in once(64) {
        let (pid, nothing, in_progress) = look(probes);
        let (other, written, nowhere) = look(best(64));
        let ([in_progress], [written]) = (&in_progress[..], &written[..]) else {
            panic!("{in_progress:?} {written:?}")
        };
        assert!(nothing.is_empty() && nowhere.is_empty(), "{nothing:?} {nowhere:?}");
        assert_eq!((in_progress.tgid, written.tgid), (pid, other));
        // Both are forks of this very stack.
        let told = |seen: &Seen| (seen.length, seen.cookie, seen.kind, seen.flags, seen.far, seen.sp, seen.subject);
        assert_eq!(told(in_progress), told(written));
        assert_eq!(in_progress.words, written.words);
    }
}

#[test]
fn where_a_call_cannot_be_remembered_its_entry_is_reported_and_its_return_does_not_know_it() {
    let Some(_alone) = live() else { return };
    for mut probes in once(16) {
        let points = [point(Role::Poll, nested as *const () as usize)];
        let _links = probes.attach(&requests(&points)).unwrap();
        let cells: [Cell; 64] = std::array::from_fn(|_| Cell::new(LIVE));
        nested(cells.as_ptr(), 63);
        let seen = taken(&mut probes, &mut Batches::default());
        let count =
            |kind, flags| seen.iter().filter(|seen| (seen.kind, seen.flags) == (Some(kind), flags)).count() as u64;
        let forgotten = probes.counters().unwrap().entries_forgotten;
        assert!(forgotten > 0, "there was room for 16 of 64");
        assert_eq!(count(RecordKind::Enter, 0), forgotten);
        assert_eq!(count(RecordKind::Leave, FLAG_SUBJECT_UNKNOWN), forgotten);
        assert_eq!(count(RecordKind::Call, 0), 64 - forgotten);
    }
}

/// Calls the probed function so many frames further down.
fn deeper(more: usize, cell: &mut Cell) {
    let frame = black_box([0u8; 48]);
    if more == 0 {
        polled(cell, LIVE)
    } else {
        deeper(more - 1, cell)
    }
    black_box(frame);
}

#[test]
fn a_thread_takes_no_more_room_however_many_frames_it_calls_from() {
    let Some(_alone) = live() else { return };
    for mut probes in once(16) {
        let points = [point(Role::Poll, polled as *const () as usize)];
        let _links = probes.attach(&requests(&points)).unwrap();
        let mut cell = Cell::new(LIVE);
        (0..200).for_each(|depth| deeper(depth, &mut cell));
        let seen = taken(&mut probes, &mut Batches::default());
        let frames: std::collections::BTreeSet<u64> = seen.iter().map(|seen| seen.sp).collect();
        assert_eq!((seen.len(), frames.len()), (200, 200));
        assert!(seen.iter().all(|seen| seen.kind == Some(RecordKind::Call)), "all had room");
    }
}

#[test]
fn threads_that_have_ended_give_their_desks_back_when_that_is_said_and_who_finds_none_does_without() {
    let Some(_alone) = live() else { return };
    for said in [true, false] {
        let with = |sessions| Options { ring_pages: 64, calls: Calls::Once, desks: 8, sessions, ..Options::default() };
        for sessions in [Sessions::IfThere, Sessions::Never] {
            let mut probes = Probes::load(&with(sessions)).unwrap();
            if probes.calls() != Calls::Once {
                continue;
            }
            let points = [point(Role::Poll, polled as *const () as usize)];
            let _links = probes.attach(&requests(&points)).unwrap();
            let (mut tids, mut batches, mut desks) = (Vec::new(), Batches::default(), Vec::new());
            for _ in 0..200 {
                let thread = std::thread::spawn(|| {
                    polled(&mut Cell::new(LIVE), LIVE);
                    tid()
                });
                tids.push(thread.join().unwrap());
                let mut met = 0;
                probes.waiting(&mut |_, waiting, _| met += waiting.bytes);
                desks.push(met);
                if said {
                    probes.forget_thread(Pid(std::process::id()), Tid(tids[tids.len() - 1]), Ns(now()));
                }
            }
            let mut seen: Vec<u32> = taken(&mut probes, &mut batches).iter().map(|seen| seen.tid).collect();
            seen.sort_unstable();
            tids.sort_unstable();
            assert_eq!(seen, tids, "nothing is forgotten");
            let grew = desks.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert_eq!(grew == 199, said, "each on a desk, or the first few alone: {grew}");
            assert_eq!(counted(&probes).entries_forgotten, 0);
        }
    }
}

#[test]
fn records_that_find_no_room_wait_and_then_are_lost_and_counted_each() {
    let Some(_alone) = live() else { return };
    const CALLS: u64 = 20_000;
    for sessions in [Sessions::IfThere, Sessions::Never] {
        // The smallest rings: a desk's records and a few hundred more have room.
        let options = Options { ring_pages: 16, calls: Calls::Once, sessions, ..Options::default() };
        let mut probes = Probes::load(&options).unwrap();
        if probes.calls() != Calls::Once {
            continue;
        }
        let points = [point(Role::Poll, polled as *const () as usize)];
        let _links = probes.attach(&requests(&points)).unwrap();
        let (mut cell, mut batches) = (Cell::new(LIVE), Batches::default());
        (0..CALLS).for_each(|_| polled(&mut cell, LIVE));
        let seen = taken(&mut probes, &mut batches);
        let lost = counted(&probes).lost;
        assert!(lost > 0 && !seen.is_empty(), "{lost} of {CALLS}");
        assert_eq!(seen.len() as u64 + lost, CALLS);
        // There is room again.
        polled(&mut cell, LIVE);
        assert_eq!((taken(&mut probes, &mut batches).len(), counted(&probes).lost), (1, lost));
    }
}

#[test]
fn whoever_looks_while_threads_write_gets_every_record_once() {
    let Some(_alone) = live() else { return };
    const CALLS: u64 = 30_000;
    for mut probes in once(64) {
        let points = [point(Role::Poll, polled as *const () as usize)];
        let _links = probes.attach(&requests(&points)).unwrap();
        let (mut batches, mut seen) = (Batches::default(), Vec::new());
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..2u64)
                .map(|writer| {
                    scope.spawn(move || {
                        let mut cell = Cell::new(LIVE);
                        for n in 0..CALLS {
                            cell.head[3] = writer << 32 | n;
                            polled(&mut cell, LIVE);
                        }
                    })
                })
                .collect();
            while !writers.iter().all(|writer| writer.is_finished()) {
                seen.append(&mut taken(&mut probes, &mut batches));
            }
        });
        seen.append(&mut taken(&mut probes, &mut batches));
        let lost = counted(&probes).lost;
        let told: std::collections::BTreeSet<u64> = seen.iter().map(|seen| seen.words[BARE + HEAD_WORDS + 3]).collect();
        assert_eq!(told.len(), seen.len(), "none twice");
        assert_eq!(seen.len() as u64 + lost, 2 * CALLS);
        assert!(seen.iter().all(|seen| seen.words[BARE + 3] == seen.words[BARE + HEAD_WORDS + 3]), "nor of two calls");
    }
}

#[test]
fn polls_that_change_nothing_are_reported_summed_up_or_left_unsaid_as_is_said_meanwhile() {
    let Some(_alone) = live() else { return };
    let options = Options { ring_pages: 64, calls: Calls::Once, quiet: Quiet::Governed, ..Options::default() };
    let mut probes = Probes::load(&options).unwrap();
    if probes.calls() != Calls::Once {
        return;
    }
    let points = [AttachPoint { telling: 5, ..point(Role::Poll, polled as *const () as usize) }];
    let _links = probes.attach(&requests(&points)).unwrap();
    let sums = probes.poll_sums().unwrap().expect("they may come to be summed up");
    let (mut cell, mut batches) = (Cell::new(LIVE), Batches::default());
    let task = TaskKey { tgid: std::process::id(), point: 0, id: cell.head[5] };
    let ways = [(None, 3, 0), (Some(Quiet::Summed), 0, 3), (Some(Quiet::Unsaid), 0, 3), (Some(Quiet::Reported), 3, 3)];
    for (said, reported, summed) in ways {
        said.into_iter().for_each(|quiet| probes.govern(quiet).unwrap());
        (0..3).for_each(|_| polled(&mut cell, LIVE));
        let records = taken(&mut probes, &mut batches).len();
        let polls = sums.of(task).unwrap().map_or(0, |sum| sum.polls);
        assert_eq!((records, polls), (reported, summed), "{said:?}");
    }
}

#[test]
fn a_call_whose_probes_are_out_is_in_progress_until_all_are_forgotten() {
    let Some(_alone) = live() else { return };
    for mut probes in once(64) {
        let points = [point(Role::Poll, stays as *const () as usize)];
        // Before there are links: it would hold them as well.
        let mut child = forked(|child| stays(&Cell::new(LIVE), child));
        let links = probes.attach(&everyone(&points)).unwrap();
        child.go();
        child.told();
        drop(links);
        assert_eq!(begun(&probes).len(), 1);
        probes.forget_calls_of_all().unwrap();
        assert_eq!(begun(&probes).len(), 0);
        child.run();
        assert!(taken(&mut probes, &mut Batches::default()).is_empty(), "nobody is there to see its return");
    }
}

#[test]
fn what_is_read_of_a_call_in_progress_is_of_that_call_alone() {
    let Some(_alone) = live() else { return };
    for mut probes in once(64) {
        let points = [point(Role::Poll, polled as *const () as usize)];
        let _links = probes.attach(&requests(&points)).unwrap();
        // Every word of a cell tells whose it is.
        let of = |n: u64| Cell { head: std::array::from_fn(|_| LIVE | n << 32), ..Cell::new(LIVE) };
        let mut cells: [Cell; 8] = std::array::from_fn(|n| of(n as u64));
        let addresses: Vec<u64> = cells.iter().map(Cell::address).collect();
        let over = std::sync::atomic::AtomicBool::new(false);
        let (mut read, mut confirmed, mut wrong) = (0, 0, Vec::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    for cell in &mut cells {
                        let state = cell.head[0];
                        polled(cell, state);
                    }
                }
            });
            let until = Instant::now() + std::time::Duration::from_secs(2);
            while Instant::now() < until {
                for call in probes.amid().unwrap() {
                    read += 1;
                    if probes.is_amid(&call).unwrap() {
                        confirmed += 1;
                        let seen = entry_of(&call);
                        let cell = addresses.iter().position(|address| *address == seen.subject);
                        let words: std::collections::BTreeSet<u64> = seen.words.iter().map(|word| word >> 32).collect();
                        if Vec::from_iter(words) != Vec::from_iter(cell.map(|cell| cell as u64)) {
                            wrong.push(seen);
                        }
                    }
                }
                probes.drain(&mut |_, _| {});
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(wrong.is_empty(), "of two calls: {wrong:?}");
        assert!(read > 100, "{read} calls were read while they went on, {confirmed} of them twice the same");
    }
}
