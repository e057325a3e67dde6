//! Room in the rings: none left, wrapped around, and when the reader is woken.

use super::*;

#[test]
fn records_without_room_are_counted_to_the_last() {
    let Some(_alone) = live() else { return };
    let mut probes = best(1);
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
    let mut probes = best(1);
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
    let mut probes = best(1);
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
