//! Calls that are reported once, at their return, and those that have not returned.

use observer_common::{CALL_FULL, CALL_WITH_HEAD, Entry};

use super::forked::{forked, stays};
use super::*;
use crate::attach::Calls;
use crate::decode::CallParts;

/// Words of an entry before its head.
const BARE: usize = size_of::<Entry>() / 8 - HEAD_WORDS;

/// As the event arm has it; `None` where no mechanism can.
fn once(in_progress: u32) -> Option<Probes> {
    let options = Options { ring_pages: 64, calls: Calls::Once, in_progress, ..Options::default() };
    Some(Probes::load(&options).unwrap()).filter(|probes| probes.calls() == Calls::Once)
}

/// The entries of the calls in progress, as records.
fn begun(probes: &Probes) -> Vec<Seen> {
    let (mut seen, mut calls) = (Vec::new(), CallParts::default());
    for call in probes.amid().unwrap() {
        if probes.is_amid(&call).unwrap() {
            calls.tell(call.bytes(), call.will_be_reported(), &mut |one, other| {
                seen.push(Seen::read(&[one, other].concat()))
            });
        }
    }
    seen
}

#[test]
fn a_call_is_reported_once_with_what_its_entry_and_its_return_saw() {
    let Some(_alone) = live() else { return };
    let Some(mut probes) = once(64) else { return };
    let points = [point(Role::Poll, polled as *const () as usize)];
    let _links = probes.attach(&requests(&points)).unwrap();
    for (state, length) in [(LIVE, CALL_WITH_HEAD), (LIVE | COMPLETE, CALL_FULL)] {
        let mut cell = Cell::new(LIVE | 1);
        let before = now();
        polled(&mut cell, state);
        let after = now();
        let (seen, drained) = drain(&mut probes);
        assert_eq!(drained, Drained { records: 1, lost_in_ring: 0 });
        let [call] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((call.kind, call.flags, call.length), (Some(RecordKind::Call), 0, length));
        assert_eq!((call.subject, call.tid, call.tgid), (cell.address(), tid(), std::process::id()));
        let (entry, words) = call.words.split_at(BARE + HEAD_WORDS);
        assert!(before <= entry[0] && entry[0] < call.ts && call.ts <= after, "{before} {entry:?} {} {after}", call.ts);
        assert_eq!((entry[1], entry[2], entry[BARE]), (0, 0, LIVE | 1), "no further word was asked for, all was read");
        assert_eq!(entry[BARE + 1..], cell.head[1..]);
        assert_eq!((words[0], &words[1..HEAD_WORDS]), (state, &cell.head[1..]));
        assert_eq!(call.sp % 16, 8, "as the ABI has it at an entry");
        assert!(begun(&probes).is_empty());
    }
    assert_eq!(probes.counters().unwrap(), Counters { hits: 4, ..Counters::default() });
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
        let (written, in_progress) = (drain(&mut probes).0, begun(&probes));
        child.run();
        assert_eq!(drain(&mut probes).0.len(), 1, "its return, or all of it");
        assert!(begun(&probes).is_empty());
        (pid, written, in_progress)
    };
    let Some(probes) = once(64) else { return };
    let (pid, nothing, in_progress) = look(probes);
    let (other, written, nowhere) = look(best(64));
    let ([in_progress], [written]) = (&in_progress[..], &written[..]) else { panic!("{in_progress:?} {written:?}") };
    assert!(nothing.is_empty() && nowhere.is_empty(), "{nothing:?} {nowhere:?}");
    assert_eq!((in_progress.tgid, written.tgid), (pid, other));
    // Both are forks of this very stack.
    let told = |seen: &Seen| (seen.length, seen.cookie, seen.kind, seen.flags, seen.far, seen.sp, seen.subject);
    assert_eq!(told(in_progress), told(written));
    assert_eq!(in_progress.words, written.words);
}

#[test]
fn where_a_call_cannot_be_remembered_its_entry_is_reported_and_its_return_does_not_know_it() {
    let Some(_alone) = live() else { return };
    let Some(mut probes) = once(16) else { return };
    let points = [point(Role::Poll, nested as *const () as usize)];
    let _links = probes.attach(&requests(&points)).unwrap();
    let cells: [Cell; 64] = std::array::from_fn(|_| Cell::new(LIVE));
    nested(cells.as_ptr(), 63);
    let (seen, _) = drain(&mut probes);
    let count = |kind, flags| seen.iter().filter(|seen| (seen.kind, seen.flags) == (Some(kind), flags)).count() as u64;
    let forgotten = probes.counters().unwrap().entries_forgotten;
    assert!(forgotten > 0, "there was room for 16 of 64");
    assert_eq!(count(RecordKind::Enter, 0), forgotten);
    assert_eq!(count(RecordKind::Leave, FLAG_SUBJECT_UNKNOWN), forgotten);
    assert_eq!(count(RecordKind::Call, 0), 64 - forgotten);
}
